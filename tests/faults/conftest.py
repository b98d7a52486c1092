"""Worker processes of a test's own, so that it may kill them."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests import servers, warm
from tests.conftest import FAST
from tests.servers import OwnRedis, wait_until
from tests.soak import evidence

PROJECT_DIR = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
READY = re.compile(r"^(worker\.\d+).* \[(\d+)\] .*Worker process is ready", re.MULTILINE)

THREADS = 4
"""Of a worker that `start_worker` starts."""
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
                str(BIN / "dramatiq"),
                *("workers", "--processes", "1", "--threads", str(THREADS), "--worker-shutdown-timeout", "3000"),
                *("--worker-fork-timeout", "3000"),  # why: so long Dramatiq waits for one that dies while it boots
            ]
            process = warm.popen(command, cwd=PROJECT_DIR, env={**environment, **more}, stdout=log, stderr=log)
        started.append(process)
        return process

    yield start
    for process in started:
        kill_tree(process)
    for number in range(len(started)):
        print(f"worker {number}:", (tmp_path / f"worker-{number}.log").read_text(errors="replace")[-20_000:])


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


class Started:
    """A command of ours that runs workers, and what it has printed."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as out:
            self.process = warm.popen(command, cwd=PROJECT_DIR, env=environment, stdout=out, stderr=out)
        self.family: set[psutil.Process] = set()

    @property
    def output(self) -> str:
        """Everything so far."""
        return self._log.read_text(errors="replace")

    def workers(self) -> dict[str, int]:
        """Name → process id of the process that runs tasks, the latest of each."""
        return {name: int(pid) for name, pid in READY.findall(self.output)}

    def wait_for(self, text: str, *, within_s: float = 30) -> None:
        """Wait until it has printed this."""
        wait_until(lambda: text in self.output, within_s=within_s, what=f"{text!r} in:\n{self.output[-2000:]}")

    def wait_for_workers(self, count: int) -> dict[str, int]:
        """Wait until so many have been ready, ever; the present ones."""
        wait_until(lambda: len(READY.findall(self.output)) >= count, within_s=30, what=f"{count} ready workers")
        self.family.update(psutil.Process(self.process.pid).children(recursive=True))
        return self.workers()


StartWorkers = Callable[..., Started]


@pytest.fixture
def supervise(own_redis: OwnRedis, ledger_database: str, tmp_path: Path) -> Iterator[StartWorkers]:
    """Starts `callboard worker` on the test's bus and database."""
    started: list[Started] = []

    def start(*arguments: str, **environment: str) -> Started:
        settings = {
            **FAST,
            "CALLBOARD_REDIS_URL": own_redis.url,
            "CALLBOARD_DATABASE_URL": ledger_database,
            "CALLBOARD_ACTOR_MODULES": "tests.probes,tests.faults.mortal_probes",
        }
        command = [str(BIN / "callboard"), "worker", "--processes", "2", "--drain-s", "5", *arguments]
        made = Started(command, {**os.environ, **settings, **environment}, tmp_path / f"workers-{len(started)}.log")
        started.append(made)
        return made

    yield start
    for one in started:
        kill_tree(one.process)
        for left in one.family:
            if left.is_running():
                left.kill()
    for number, one in enumerate(started):
        print(f"workers {number}:", one.output[-20_000:])
