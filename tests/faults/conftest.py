"""Worker processes of a test's own, so that it may kill them."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests import servers
from tests.conftest import FAST
from tests.servers import OwnRedis, wait_until
from tests.soak import evidence

PROJECT_DIR = Path(__file__).resolve().parents[2]


StartWorker = Callable[..., "subprocess.Popen[bytes]"]
"""Takes further variables of the environment by name."""


@pytest.fixture
def start_worker(own_redis: OwnRedis, ledger_database: str, tmp_path: Path) -> Iterator[StartWorker]:
    """Starts `dramatiq workers` as a real process on the test's bus and database; all are killed at the end."""
    started: list[subprocess.Popen[bytes]] = []
    environment = {
        **os.environ,
        **FAST,
        "CALLBOARD_REDIS_URL": own_redis.url,
        "CALLBOARD_DATABASE_URL": ledger_database,
        "CALLBOARD_ACTOR_MODULES": "tests.probes,tests.soak.actors",
        evidence.VARIABLE: str(tmp_path / "witness"),
        "CALLBOARD_SHUTDOWN_TIMEOUT_S": "3",
    }

    def start(**more: str) -> "subprocess.Popen[bytes]":
        with (tmp_path / f"worker-{len(started)}.log").open("wb") as log:
            command = [
                str(Path(sys.executable).parent / "dramatiq"),
                *("workers", "--processes", "1", "--threads", "4", "--worker-shutdown-timeout", "3000"),
                *("--worker-fork-timeout", "3000"),  # why: so long Dramatiq waits for one that dies while it boots
            ]
            process = subprocess.Popen(command, cwd=PROJECT_DIR, env={**environment, **more}, stdout=log, stderr=log)
        started.append(process)
        return process

    yield start
    for process in started:
        kill_tree(process)
    for number in range(len(started)):
        print(f"worker {number}:", (tmp_path / f"worker-{number}.log").read_text(errors="replace")[-4_000:])


def await_death(process: "subprocess.Popen[bytes]") -> None:
    """Wait until the worker process that runs the tasks has died. Dramatiq's main process ends then too: unless the
    worker died while it said that it had booted, and took the lock of that with it, for which the main process waits
    for ever. (`callboard worker` notices the silence.) So that one is killed here."""
    seen: list[psutil.Process] = []

    def is_dead() -> bool:
        if process.poll() is not None:
            return True
        if not seen:
            seen.extend(psutil.Process(process.pid).children())
        return bool(seen) and not any(map(_lives, seen))

    wait_until(is_dead, within_s=60, what="the worker process to die")
    kill_tree(process)
    process.wait()


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # why: it may go between the two looks.
        return False


def kill_tree(process: "subprocess.Popen[bytes]") -> None:
    """`kill -9` of a worker: its main process and the one that runs the tasks."""
    try:
        family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    except psutil.NoSuchProcess:
        family = []
    for member in family:
        try:
            member.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    servers.end(process)
