"""`periodiq periodic` as a real process: it fires once, goes on when another is killed, ends cleanly on SIGTERM."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from models import database
from models.schedule import Schedule
from periodic import schedules
from tests import servers, warm
from tests.conftest import FAST
from tests.servers import OwnRedis, wait_until
from workers import tasks

PROJECT_DIR = Path(__file__).resolve().parents[2]
Start = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
def start(bus: object, redis_url: str, sqlite_database: str, tmp_path: Path) -> Iterator[Start]:
    """Starts scheduler processes on the test's bus and database."""
    started: list[subprocess.Popen[bytes]] = []
    environment = {
        **os.environ,
        **FAST,
        "CALLBOARD_REDIS_URL": redis_url,
        "CALLBOARD_DATABASE_URL": sqlite_database,
    }

    def start_one() -> "subprocess.Popen[bytes]":
        with (tmp_path / f"scheduler-{len(started)}.log").open("wb") as log:
            process = warm.popen(
                [str(Path(sys.executable).parent / "periodiq"), "periodic"],
                cwd=PROJECT_DIR, env=environment, stdout=log, stderr=log,
            )  # fmt: skip
        started.append(process)
        return process

    yield start_one
    for process in started:
        servers.end(process)


def make_due() -> bool:
    """Make the health check due now; False while no scheduler has written its row yet."""
    with database.writing() as session:
        row = session.get(Schedule, "system-health-check")
        if row is not None:
            row.next_run_at = datetime.now(UTC) - timedelta(milliseconds=1)
    return row is not None


def task_names() -> list[str]:
    return [row["task_name"] for row in tasks.list_tasks()]


def checks() -> list[str]:
    """Ids of the health check's tasks, newest first."""
    return [row["task_id"] for row in tasks.list_tasks() if row["task_name"] == "health.check_system"]


def is_on_the_bus(task_id: str) -> bool:
    row = tasks.get_task_status(task_id)
    return row is not None and row["enqueued_at"] is not None


def test_two_processes_fire_a_due_time_once_and_when_one_is_killed_the_other_obeys_an_edit_and_ends_cleanly(
    start: Start, tmp_path: Path
) -> None:
    processes = [start(), start()]
    for number in range(2):
        log = tmp_path / f"scheduler-{number}.log"
        wait_until(lambda log=log: "the scheduler is up" in log.read_text(), within_s=60, what=log.name)  # type: ignore[misc]  # mypy cannot infer lambdas with defaults
    make_due()
    wait_until(checks, within_s=20, what="a task")
    assert len(checks()) <= 2  # why: the full minute may have come meanwhile
    assert not any(name.startswith("periodic.") for name in task_names())  # the tick is none

    servers.end(processes[0])
    count = len(checks())
    schedules.edit("system-health-check", trigger={"kind": "interval", "seconds": 1}, overlap="allow")

    wait_until(lambda: len(checks()) > count, within_s=20, what="the edit to take effect, in 5 s on a machine "
               "that has nothing else to do")  # fmt: skip
    assert processes[1].poll() is None
    processes[1].send_signal(signal.SIGTERM)
    assert processes[1].wait(timeout=60) == 0


def test_with_redis_away_the_process_lives_on_and_what_was_due_goes_out_when_it_is_back(
    start: Start, own_redis: OwnRedis
) -> None:
    process = start()
    wait_until(make_due, within_s=30, what="the schedule's row")
    schedules.edit("system-health-check", overlap="allow")

    own_redis.kill()
    count = len(checks())
    make_due()
    wait_until(lambda: len(checks()) > count, within_s=20, what="a task that waits for the bus")
    own_redis.start()

    wait_until(lambda: all(map(is_on_the_bus, checks())), within_s=20, what="the relay")
    assert process.poll() is None
