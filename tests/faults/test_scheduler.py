"""Three schedulers on one ledger, killed in turn, with jumping clocks and outages (faults row 12): over days of
simulated time each due time is dealt with exactly once.

    every due time from a schedule's first to its `next_run_at`   one run that was sent, or one record of its being
                                                                  skipped that says why; never both, never two
    every run that was sent                                       one task, and no task without a run
"""

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlmodel import col, select

from models import database
from models.schedule import Schedule, ScheduleRun
from models.task import Task
from periodic.declaration import checked
from tests import servers
from tests.conftest import FAST
from tests.faults.conftest import PROJECT_DIR
from tests.faults.scheduler_process import BEGIN, TIMETABLE
from tests.faults.test_outages import hang_sqlite
from tests.scale import FULL
from tests.servers import OwnPostgres, OwnRedis, wait_until
from workers import callboard

PROCESSES = 3
CHAOS_S = 120.0 if FULL else 12.0
OUTAGE_S = 30.0 if FULL else 2.0
DAY_S = 5.0
"""Real seconds that a simulated day takes."""
SEED = random.Random().randrange(10**6)


class Stage:
    """The processes and their clocks."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self._directory, self._environment = directory, environment
        self._clock = {"real_s": time.time(), "speed": 86_400 / DAY_S, "off_s": {}}
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._starts = 0
        self.set_off(0, 0.0)
        for slot in range(PROCESSES):
            self.start(slot)

    def start(self, slot: int) -> None:
        """Start the process of a slot."""
        self._starts += 1
        with (self._directory / f"scheduler-{self._starts}.log").open("wb") as log:
            self._processes[slot] = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.scheduler_process", str(self._path), str(slot)],
                cwd=PROJECT_DIR, env=self._environment, stdout=log, stderr=log,
            )  # fmt: skip

    def kill(self, slot: int) -> None:
        """`kill -9`."""
        servers.end(self._processes[slot])

    def set_off(self, slot: int, by_s: float) -> None:
        """Make a slot's clock wrong by so much."""
        self._clock["off_s"][str(slot)] = by_s  # type: ignore[index]  # a dict
        beside = self._path.with_suffix(".new")
        beside.write_text(json.dumps(self._clock))
        beside.rename(self._path)

    def end(self) -> None:
        """Kill all."""
        for slot in self._processes:
            self.kill(slot)

    @property
    def logs(self) -> str:
        """What they said."""
        return "".join(path.read_text(errors="replace") for path in self._directory.glob("scheduler-*.log"))

    @property
    def _path(self) -> Path:
        return self._directory / "clock.json"


@pytest.fixture
def stage(own_redis: OwnRedis, ledger_database: str, tmp_path: Path) -> Iterator[Stage]:
    """Schedulers on the test's bus and database."""
    environment = {
        **os.environ,
        **FAST,
        "CALLBOARD_REDIS_URL": own_redis.url,
        "CALLBOARD_DATABASE_URL": ledger_database,
        "CALLBOARD_TASK_RETENTION_DAYS": "3650",  # why: the simulated days are long past.
    }
    made = Stage(tmp_path, environment)
    yield made
    made.end()


def rows() -> dict[str, Schedule]:
    with database.reading() as session:
        return {row.schedule_id: row for row in session.exec(select(Schedule)).all()}


def runs_of(schedule_id: str) -> list[ScheduleRun]:
    with database.reading() as session:
        return list(session.exec(select(ScheduleRun).where(col(ScheduleRun.schedule_id) == schedule_id)).all())


def tasks_of(schedule_id: str) -> list[Task]:
    with database.reading() as session:
        return list(session.exec(select(Task).where(col(Task.schedule_id) == schedule_id)).all())


def stop(server: OwnRedis | OwnPostgres) -> Callable[[], None]:
    """Take a server away; returns what brings it back."""
    server.kill()
    return server.start


def stop_database(url: str, request: pytest.FixtureRequest) -> Callable[[], None]:
    """Take the database away, or on SQLite its write lock; returns what brings it back."""
    return hang_sqlite(url) if url.startswith("sqlite") else stop(request.getfixturevalue("own_postgres"))


def judge(schedule: Schedule, due_times: list[datetime]) -> list[str]:
    """What is wrong with what became of a schedule's due times."""
    runs = runs_of(schedule.schedule_id)
    covered: Counter[datetime] = Counter()
    wrong = []
    for run in runs:
        until = run.due_until or run.due_at
        times = [time for time in due_times if run.due_at <= time <= until]
        covered.update(times)
        if run.due_count is not None and run.due_count != len(times):
            wrong.append(f"{run.due_at} says {run.due_count} times, there are {len(times)}")
        if run.outcome != "sent" and not run.reason:
            wrong.append(f"{run.due_at} is {run.outcome} without a reason")
    wrong += [f"{time} was dealt with {covered[time]} times" for time in due_times if covered[time] != 1]
    sent = sorted(str(run.task_id) for run in runs if run.outcome == "sent")
    tasks = sorted(task.task_id for task in tasks_of(schedule.schedule_id))
    if sent != tasks:
        wrong.append(f"{len(sent)} runs were sent, there are {len(tasks)} tasks")
    return wrong


@pytest.mark.parametrize("ledger_database", ["sqlite", "own_postgres"], indirect=True)
def test_three_schedulers_killed_in_turn_deal_with_each_due_time_once(
    stage: Stage, own_redis: OwnRedis, ledger_database: str, request: pytest.FixtureRequest
) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    wait_until(lambda: len(rows()) == len(TIMETABLE), within_s=60, what="the timetable")
    outages = iter([lambda: stop(own_redis), lambda: stop_database(ledger_database, request)])
    ends_at, next_outage = time.monotonic() + CHAOS_S, time.monotonic() + CHAOS_S / 4
    kills = 0
    while time.monotonic() < ends_at:
        slot = chance.randrange(PROCESSES)
        stage.kill(slot)
        kills += 1
        stage.set_off(slot, chance.choice([0.0, 0.0, 5 * 3600.0, -5 * 3600.0]))
        stage.start(slot)
        time.sleep(chance.uniform(0.5, 2.5))  # why: the moments of the kills are the experiment
        if time.monotonic() > next_outage and (outage := next(outages, None)) is not None:
            end_outage = outage()
            time.sleep(OUTAGE_S)  # why: an outage lasts
            end_outage()
            next_outage = time.monotonic() + CHAOS_S / 4
    for slot in range(PROCESSES):
        stage.set_off(slot, 0.0)
    before = {name: row.next_run_at for name, row in rows().items()}
    # why: one whose clock was ahead has dealt with the future; what is left is that all go on.
    wait_until(
        lambda: all(row.next_run_at != before[name] for name, row in rows().items() if before[name] is not None),
        within_s=60,
        what="the schedules to go on",
    )
    wait_until(lambda: all(task.enqueued_at or task.status != "pending" for name in rows() for task in tasks_of(name)),
               within_s=60, what="the relay")  # fmt: skip
    stage.end()

    found = rows()
    for declared in TIMETABLE:
        row = found[declared.schedule_id]
        trigger = checked(declared, callboard.registry).trigger
        first = min((run.due_at for run in runs_of(row.schedule_id)), default=None)
        if first is None:  # on a slow machine its first time has not come yet
            assert row.next_run_at is not None, declared.schedule_id
            assert trigger.next_after(BEGIN) == row.next_run_at, declared.schedule_id
            continue
        due_times = [first]
        while (after := trigger.next_after(due_times[-1])) is not None and after < (row.next_run_at or after):
            due_times.append(after)
        assert judge(row, due_times) == [], declared.schedule_id
        if declared.schedule_id == "every-10-all":
            assert due_times[-1] - BEGIN > timedelta(days=CHAOS_S / DAY_S / 2)
            assert first - BEGIN < timedelta(days=2)
    print(f"{kills} kills; runs: " + ", ".join(f"{name} {row.run_count}" for name, row in found.items()))
    assert "Traceback" not in stage.logs, stage.logs[-4_000:]
