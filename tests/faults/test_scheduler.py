"""Three schedulers on one ledger, killed in turn, with jumping clocks and outages (faults row 12): each due time is
dealt with exactly once.

    every due time from a schedule's first to its `next_run_at`   one run that was sent, or one record of its being
                                                                  skipped that says why; never both, never two
    every run that was sent                                       one task, and no task without a run

There is no leader: each process looks every 0.9 s, so who is killed leaves nothing to be taken over but a lock of the
database, which ends with its connection.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlmodel import col, select

from models import database
from models.schedule import Schedule, ScheduleRun
from models.task import Task
from periodic.declaration import checked
from tests.conftest import FAST
from tests.faults.conftest import PROJECT_DIR
from tests.faults.scheduler_process import BEGIN, TIMETABLES
from tests.faults.test_outages import hang_sqlite
from tests.scale import FULL
from tests.servers import OwnPostgres, OwnRedis, wait_until
from workers import callboard

PROCESSES = 3
CHAOS_S = 120.0 if FULL else 10.0
OUTAGE_S = 30.0 if FULL else 3.0
REDIS_AWAY_S = 60.0 if FULL else 6.0
KILL_EVERY_S = (0.5, 2.5) if FULL else (0.2, 1.0)
TAKEOVER_S = 5.0 if FULL else 15.0
"""Five on a machine that has nothing else to do."""
DAY_S = 4.0
"""Real seconds that a simulated day takes."""
SEED = random.Random().randrange(10**6)


class Stage:
    """The processes and their clocks. Time stands still until `let_time_pass`."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self._directory = directory
        self._clock: dict[str, Any] = {"off_s": {}}
        self._processes: dict[int, psutil.Process] = {}
        self._starts = 0
        self._timetable = ""
        self._nest = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.scheduler_process", str(self._path)],
            cwd=PROJECT_DIR, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def start_all(self, timetable: str, begin: datetime = BEGIN) -> None:
        """Start a process in each slot, at a time that stands still; returns when what they declare is there."""
        self._timetable = timetable
        self.let_time_pass(0, begin)
        for slot in range(PROCESSES):
            self.start(slot)
        wait_until(lambda: len(rows()) == len(TIMETABLES[timetable]), within_s=60, what="the timetable")

    def start(self, slot: int, *, dies: str | None = None) -> None:
        """Start the process of a slot. dies: where it kills itself."""
        self._starts += 1
        log = str(self._directory / f"scheduler-{self._starts}.log")
        order = {"slot": slot, "timetable": self._timetable, "log": log, "dies": dies}
        assert self._nest.stdin is not None
        assert self._nest.stdout is not None
        self._nest.stdin.write(json.dumps(order) + "\n")
        self._nest.stdin.flush()
        self._processes[slot] = psutil.Process(int(self._nest.stdout.readline()))

    def kill(self, slot: int) -> None:
        """`kill -9`; returns when it is gone."""
        self._processes[slot].send_signal(signal.SIGKILL)
        wait_until(lambda: not self.lives(slot), within_s=10, what="it to be gone")

    def lives(self, slot: int) -> bool:
        """Whether the process of a slot is there."""
        return bool(self._processes[slot].is_running())

    def let_time_pass(self, speed: float, begin: datetime = BEGIN) -> None:
        """From now on, from `begin`, so much faster than it does."""
        self._clock |= {"begin": begin.isoformat(), "real_s": time.time(), "speed": speed}
        self._write_clock()

    def set_off(self, slot: int, by_s: float) -> None:
        """Make a slot's clock wrong by so much."""
        self._clock["off_s"][str(slot)] = by_s
        self._write_clock()

    def await_runs(self, count: int) -> None:
        """Wait until so many seconds more have been claimed, and all that are due."""
        before = len(runs_of("every-second"))
        wait_until(lambda: len(runs_of("every-second")) >= before + count, within_s=60, what=f"{count} more runs")
        # why: else one would be killed for each that is claimed, and a slow machine would fall behind more and more.
        wait_until(lambda: (rows()["every-second"].next_run_at or BEGIN) > self._now(), within_s=60, what="the others")

    def end(self) -> None:
        """Kill all."""
        self._nest.communicate()

    @property
    def logs(self) -> str:
        """What they said."""
        return "".join(path.read_text(errors="replace") for path in self._directory.glob("scheduler-*.log"))

    def _now(self) -> datetime:
        """What the processes' clocks show that are right, when time passes as fast as it does."""
        return datetime.fromisoformat(self._clock["begin"]) + timedelta(seconds=time.time() - self._clock["real_s"])

    @property
    def _path(self) -> Path:
        return self._directory / "clock.json"

    def _write_clock(self) -> None:
        beside = self._path.with_suffix(".new")
        beside.write_text(json.dumps(self._clock))
        beside.rename(self._path)


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


def due_times_of(timetable: str, schedule_id: str, after: datetime) -> list[datetime]:
    """Those of a schedule after a moment, up to its `next_run_at`."""
    (declared,) = (one for one in TIMETABLES[timetable] if one.schedule_id == schedule_id)
    trigger, until = checked(declared, callboard.registry).trigger, rows()[schedule_id].next_run_at
    found: list[datetime] = []
    due_at = trigger.next_after(after)
    while due_at is not None and (until is None or due_at < until):
        found.append(due_at)
        due_at = trigger.next_after(due_at)
    return found


CAUGHT_UP = {"run_once": "stands for", "run_all": "(catch_up_max)", "skip": "no scheduler was awake"}
"""By misfire policy, what the reason of a time says that was left out."""


def judge(schedule_id: str, due_times: list[datetime]) -> list[str]:
    """What is wrong with what became of a schedule's due times."""
    runs, misfire = runs_of(schedule_id), rows()[schedule_id].misfire
    outcomes = {run.due_at: run.outcome for run in runs}
    followers = dict(pairwise(due_times))
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
        if run.outcome == "skipped_misfire" and CAUGHT_UP[misfire] not in str(run.reason):
            wrong.append(f"{run.due_at} is left out by {misfire}: {run.reason}")
        stand_in = outcomes.get(followers.get(until, until))
        if run.outcome == "skipped_misfire" and misfire == "run_once" and stand_in not in ("sent", "skipped_overlap"):
            wrong.append(f"{run.due_at} to {until} are left out, but the one after them is {stand_in}")
    wrong += [f"{time} was dealt with {covered[time]} times" for time in due_times if covered[time] != 1]
    sent = sorted(str(run.task_id) for run in runs if run.outcome == "sent")
    tasks = sorted(task.task_id for task in tasks_of(schedule_id))
    if sent != tasks:
        wrong.append(f"{len(sent)} runs were sent, there are {len(tasks)} tasks")
    return wrong


def all_are_on_the_bus() -> bool:
    return all(task.enqueued_at or task.status != "pending" for name in rows() for task in tasks_of(name))


@pytest.mark.parametrize("ledger_database", ["sqlite", "own_postgres"], indirect=True)
def test_three_schedulers_killed_in_turn_deal_with_each_due_time_once(
    stage: Stage, own_redis: OwnRedis, ledger_database: str, request: pytest.FixtureRequest
) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    stage.start_all("days")
    away: list[Callable[[], None]] = []

    def come_back() -> None:
        away.pop()()

    plan = [
        (0.15 * CHAOS_S, lambda: away.append(stop(own_redis))),
        (0.15 * CHAOS_S + OUTAGE_S, come_back),
        (0.55 * CHAOS_S, lambda: away.append(stop_database(ledger_database, request))),
        (0.55 * CHAOS_S + OUTAGE_S, come_back),
    ]
    kills, began_s = 0, time.monotonic()
    stage.let_time_pass(86_400 / DAY_S)
    while plan or time.monotonic() - began_s < CHAOS_S:
        if plan and time.monotonic() - began_s >= plan[0][0]:
            plan.pop(0)[1]()
        slot = chance.randrange(PROCESSES)
        stage.kill(slot)
        kills += 1
        stage.set_off(slot, chance.choice([0.0, 0.0, 5 * 3600.0, -5 * 3600.0]))
        stage.start(slot)
        time.sleep(chance.uniform(*KILL_EVERY_S))  # why: the moments of the kills are the experiment
    for slot in range(PROCESSES):
        stage.set_off(slot, 0.0)
    before = {name: row.next_run_at for name, row in rows().items() if row.next_run_at is not None}
    least = BEGIN + timedelta(days=CHAOS_S / DAY_S)

    def all_go_on() -> bool:
        # why: one whose clock was ahead has dealt with the future, others have to catch up on a slow machine.
        now = {name: row.next_run_at for name, row in rows().items()}
        return all(now[name] != due_at and (now[name] or least) >= least for name, due_at in before.items())

    wait_until(all_go_on, within_s=60, what="the schedules to go on")
    wait_until(all_are_on_the_bus, within_s=60, what="the relay")
    stage.end()

    due_times = {one.schedule_id: due_times_of("days", one.schedule_id, BEGIN) for one in TIMETABLES["days"]}
    assert {name: judge(name, due) for name, due in due_times.items()} == {name: [] for name in due_times}
    print(f"{kills} kills; runs: " + ", ".join(f"{name} {row.run_count}" for name, row in rows().items()))
    assert "Traceback" not in stage.logs, stage.logs[-4_000:]


@pytest.mark.usefixtures("ledger_database")
def test_when_schedulers_die_holding_a_due_time_another_has_it_within_five_seconds(stage: Stage) -> None:
    begin = datetime.now(UTC).replace(microsecond=500_000)  # why: who is 0.3 s slow is in the same second
    stage.set_off(2, -0.3)  # why: so that the other two are always first
    stage.start_all("seconds", begin)
    stage.let_time_pass(1, begin)

    for point in ("claimed", "committed"):
        for slot in (0, 1):
            stage.kill(slot)
            stage.start(slot, dies=point)
        wait_until(lambda: not (stage.lives(0) or stage.lives(1)), within_s=60, what="two to die there")
        stage.await_runs(2)
        stage.start(0)
        stage.start(1)
    wait_until(all_are_on_the_bus, within_s=60, what="the relay")
    stage.end()

    assert_each_second_was_claimed_in_time(begin)


@pytest.mark.usefixtures("ledger_database")
def test_with_redis_away_for_a_minute_each_due_time_is_claimed_in_time_and_sent_when_it_is_back(
    stage: Stage, own_redis: OwnRedis
) -> None:
    begin = datetime.now(UTC)
    stage.start_all("seconds", begin)
    stage.let_time_pass(1, begin)
    stage.await_runs(1)

    own_redis.kill()
    back_at_s = time.monotonic() + REDIS_AWAY_S
    while time.monotonic() < back_at_s:
        for slot in range(PROCESSES):
            stage.kill(slot)
            stage.start(slot)
            stage.await_runs(1)
    own_redis.start()
    wait_until(all_are_on_the_bus, within_s=60, what="the relay")
    stage.end()

    assert_each_second_was_claimed_in_time(begin)
    assert "Traceback" not in stage.logs, stage.logs[-4_000:]


def assert_each_second_was_claimed_in_time(begin: datetime) -> None:
    """Each since then has its one task, and was claimed before a process that died could be missed."""
    runs = runs_of("every-second")
    assert judge("every-second", due_times_of("seconds", "every-second", begin)) == []
    assert {run.outcome for run in runs} == {"sent"}
    assert max(run.lateness_ms for run in runs) <= TAKEOVER_S * 1000
    print(f"{len(runs)} runs; the latest was claimed {max(run.lateness_ms for run in runs)} ms late")
