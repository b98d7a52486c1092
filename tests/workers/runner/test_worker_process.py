"""Isolated tasks in a real `dramatiq workers` process, which is killed, or told to stop, while they run."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from models.task import TaskStatus
from tests import servers
from tests.conftest import FAST
from tests.probes import lines
from tests.servers import OwnRedis, wait_until
from tests.workers.rows import outcomes
from tests.workers.runner import isolated_actors
from tests.workers.runner.test_isolated import gone
from workers import tasks

PROJECT_DIR = Path(__file__).resolve().parents[3]


@pytest.fixture
def worker_process(own_redis: OwnRedis, sqlite_database: str, tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """`dramatiq workers` with the test's actors."""
    environment = {
        **os.environ,
        **FAST,
        "CALLBOARD_REDIS_URL": own_redis.url,
        "CALLBOARD_DATABASE_URL": sqlite_database,
        "CALLBOARD_ACTOR_MODULES": isolated_actors.__name__,
        "CALLBOARD_SHUTDOWN_TIMEOUT_S": "2",
    }
    command = [str(Path(sys.executable).parent / "dramatiq"), "workers", "--processes", "1", "--threads", "2"]
    with (tmp_path / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--worker-shutdown-timeout", "2000"], cwd=PROJECT_DIR, env=environment, stdout=log, stderr=log
        )
    yield process
    if process.poll() is None:
        for one in [*psutil.Process(process.pid).children(recursive=True)]:
            one.kill()
    servers.end(process)


def _status_of(task_id: str) -> str:
    found = tasks.get_task(task_id)
    assert found is not None
    return found.status


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "told to stop"])
def test_no_child_outlives_its_worker_process(
    worker_process: "subprocess.Popen[bytes]", how: signal.Signals, tmp_path: Path
) -> None:
    paper = tmp_path / "evidence"
    first = isolated_actors.who.send(1).message_id
    message = isolated_actors.sleep_with_a_helper.send(str(paper))
    wait_until(lambda: lines(paper), within_s=40, what="the child to run")
    wait_until(lambda: tasks.get_task_status(first)["status"] == "completed", within_s=20, what="the other to end")  # type: ignore[index]  # the row is there
    pids = [int(pid) for pid in lines(paper)[0].split()]
    (serving,) = [
        one for one in psutil.Process(worker_process.pid).children() if psutil.pid_exists(one.pid) and one.children()
    ]

    wait_until(lambda: _status_of(message.message_id) == TaskStatus.RUNNING, within_s=10, what="the row to follow")
    (serving if how == signal.SIGKILL else worker_process).send_signal(how)

    wait_until(lambda: all(map(gone, pids)), within_s=20, what="the child and its helper to go")
    worker_process.wait(timeout=90)
    found = tasks.get_task(message.message_id)
    assert found is not None
    assert found.status == (TaskStatus.RUNNING if how == signal.SIGKILL else TaskStatus.PENDING)
    if how == signal.SIGTERM:
        assert (found.retry_count, found.error_type, outcomes(message.message_id)) == (0, None, ["shut_down"])
        said = (tmp_path / "worker.log").read_text()
        assert "ended with its worker, and the task is handed back" in said
        assert "[ERROR]" not in said
        assert "Traceback" not in said
