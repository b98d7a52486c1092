"""The scheduler process by itself: `python -m tests.benchmarks.schedules [--database sqlite|postgresql|both]`.

For a real `periodiq periodic` on a fresh bus and database, idle but for the load below, prints
  - lateness: FIRINGS firings of SCHEDULES schedules whose due times are spread evenly over each FIRE_EVERY_S seconds;
    from the due time until the task's message went to the bus (`enqueued_at`), p50, p99 and the longest;
  - the cost of having many: with MANY schedules of which none is due, CPU over REST_S seconds, as a share of a core,
    and the memory of the process (RSS);
  - a burst: all of BURST schedules due in the same second; from the due time until the last task was on the bus.
Ends with status 1 if a target of the issue is missed: p99 < 100 ms, < 5 % of a core, < 150 MB.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
from sqlmodel import col, func, select

from models import database, schema
from models.schedule import Schedule, ScheduleRun
from models.task import Task
from tests import servers
from tests.servers import wait_until

FIRINGS = 1_000
SCHEDULES = 50
FIRE_EVERY_S = 5
MANY = 10_000
REST_S = 60.0
BURST = 1_000
TARGETS = {"lateness p99 ms": 100.0, "core share %": 5.0, "memory MB": 150.0}
PROJECT_DIR = Path(__file__).resolve().parents[2]


@contextmanager
def scheduler(redis_url: str, database_url: str, directory: Path) -> Iterator[psutil.Process]:
    """`periodiq periodic`, up."""
    environment = {**os.environ, "CALLBOARD_REDIS_URL": redis_url, "CALLBOARD_DATABASE_URL": database_url}
    log = directory / "scheduler.log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / "periodiq"), "periodic"],
            cwd=PROJECT_DIR, env=environment, stdout=said, stderr=said,
        )  # fmt: skip
    try:
        wait_until(lambda: "the scheduler is up" in log.read_text(), within_s=60, what="the scheduler")
        yield psutil.Process(process.pid)
    finally:
        servers.end(process)


def add(count: int, name: str, *, every_s: int, first_at: datetime, apart: timedelta) -> None:
    """Add schedules whose due times are so far apart from each other's."""
    with database.writing() as session:
        for number in range(count):
            due_at = first_at + number * apart
            session.add(
                Schedule(
                    schedule_id=f"{name}-{number:05}", actor="diagnostics.run_self_test", origin="user",
                    params={"steps": 1, "seconds": 0}, trigger={"kind": "interval", "seconds": every_s},
                    start_at=due_at, next_run_at=due_at, overlap="allow",
                )
            )  # fmt: skip


def remove_all() -> None:
    """Forget schedules, runs and tasks."""
    with database.writing() as session:
        for table in (ScheduleRun, Task, Schedule):
            session.execute(table.__table__.delete())  # type: ignore[attr-defined]  # SQLModel's tables have it


def runs_of(name: str) -> int:
    """How many runs the schedules of this name have had."""
    with database.reading() as session:
        return session.exec(select(func.count()).where(col(ScheduleRun.schedule_id).startswith(name))).one()


def lateness_ms(name: str) -> list[float]:
    """Of each run, from its due time until its task's message was sent."""
    with database.reading() as session:
        rows = session.exec(
            select(ScheduleRun.due_at, Task.enqueued_at)
            .join(Task, col(Task.task_id) == col(ScheduleRun.task_id))
            .where(col(ScheduleRun.schedule_id).startswith(name))
        ).all()
    return [(sent - due).total_seconds() * 1000 for due, sent in rows if sent is not None]


def measure(redis_url: str, database_url: str, directory: Path) -> dict[str, float]:
    """All figures, by name."""
    found = {"load average": os.getloadavg()[0]}  # why: lateness is meant on a machine that has nothing else to do
    with scheduler(redis_url, database_url, directory) as process:
        begin = datetime.now(UTC) + timedelta(seconds=3)
        add(SCHEDULES, "spread", every_s=FIRE_EVERY_S, first_at=begin,
            apart=timedelta(seconds=FIRE_EVERY_S / SCHEDULES))  # fmt: skip
        expected_s = FIRINGS / SCHEDULES * FIRE_EVERY_S
        wait_until(lambda: runs_of("spread") >= FIRINGS, within_s=expected_s + 60, what="the firings")
        late = sorted(lateness_ms("spread"))[:]
        found["firings"] = len(late)
        found["lateness p50 ms"] = statistics.median(late)
        found["lateness p99 ms"] = late[int(len(late) * 0.99)]
        found["lateness longest ms"] = late[-1]

        remove_all()
        burst_at = datetime.now(UTC) + timedelta(seconds=5)
        add(BURST, "burst", every_s=3600, first_at=burst_at, apart=timedelta(0))
        wait_until(lambda: len(lateness_ms("burst")) >= BURST, within_s=120, what="the burst")
        found[f"burst of {BURST}: last ms"] = max(lateness_ms("burst"))

        remove_all()
        add(MANY, "many", every_s=86_400, first_at=datetime.now(UTC) + timedelta(hours=1), apart=timedelta(seconds=1))
        time.sleep(5)  # why: what the changes above have cost is over
        before = process.cpu_times()
        time.sleep(REST_S)  # why: the cost of doing nothing takes time to be seen
        after = process.cpu_times()
        used_s = after.user + after.system - before.user - before.system
        found["core share %"] = 100 * used_s / REST_S
        found["memory MB"] = process.memory_info().rss / 2**20
    return found


def main() -> None:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(description="The scheduler process: lateness and cost.")
    parser.add_argument("--database", choices=("sqlite", "postgresql", "both"), default="sqlite")
    wanted = parser.parse_args().database
    missed = False
    for dialect in ("sqlite", "postgresql") if wanted == "both" else (wanted,):
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cb-bench-")))
            (directory / "redis").mkdir()
            redis = servers.OwnRedis(directory / "redis")
            redis.start()
            stack.callback(redis.kill)
            url = f"sqlite:///{directory / 'bench.db'}"
            if dialect == "postgresql":
                url = stack.enter_context(servers.postgres_server())
            database.bind(url)
            schema.upgrade()
            for name, value in measure(redis.url, url, directory).items():
                target = TARGETS.get(name)
                is_met = target is None or value < target
                missed |= not is_met
                verdict = "" if target is None else f"  (< {target:g}: {'met' if is_met else 'MISSED'})"
                print(f"{dialect:11} {name:24} {value:10.1f}{verdict}", flush=True)
    sys.exit(int(missed))


if __name__ == "__main__":
    main()
