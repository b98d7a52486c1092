"""A whole system, brought up by `callboard up` as a new user would, in a folder of its own."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import psutil
import pytest

from tests.servers import wait_until

PROJECT_DIR = Path(__file__).resolve().parents[2]
CALLBOARD = str(Path(sys.executable).parent / "callboard")
START_WITHIN_S = 60
STOP_WITHIN_S = 10


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Ended:
    """What a command came to."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Command:
    """A command that was begun."""

    process: "subprocess.Popen[str]"

    def end(self, timeout_s: float = 150) -> Ended:
        """Wait for its end."""
        out, err = self.process.communicate(timeout=timeout_s)
        return Ended(self.process.returncode, out, err)


@dataclass
class System:
    """`callboard up` on a `var` folder; may be brought up again on the same one."""

    var_dir: Path
    api_port: int = field(default_factory=free_port)
    mail_port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def environment(self) -> dict[str, str]:
        """What a new user has: no CALLBOARD_ setting but the folder and the ports, and what these tests need."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith("CALLBOARD_")}
        return {
            **plain,
            "CALLBOARD_VAR_DIR": str(self.var_dir),
            "CALLBOARD_API_PORT": str(self.api_port),
            "CALLBOARD_MAIL_CATCHER_PORT": str(self.mail_port),
            "CALLBOARD_ACTOR_MODULES": "tests.probes",
            "CALLBOARD_ALERT_CLEAR_S": "1",  # else the demo waits for a minute until its alert is over
        }

    @property
    def output(self) -> str:
        """What it has printed."""
        return (self.var_dir.parent / "up.log").read_text(errors="replace")

    def up(self) -> None:
        """Bring it up and wait until it says that it is ready."""
        with (self.var_dir.parent / "up.log").open("wb") as log:
            self.process = subprocess.Popen(
                [CALLBOARD, "up"], cwd=PROJECT_DIR, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(
            lambda: "ready; Ctrl-C stops everything" in self.output or self.process.poll() is not None,  # type: ignore[union-attr]  # set above
            within_s=START_WITHIN_S,
            what="`callboard up` to be ready",
        )
        assert self.process.poll() is None, self.output

    def family(self) -> list[psutil.Process]:
        """Every process that it started, wherever in the tree."""
        mark = f"CALLBOARD_VAR_DIR={self.var_dir}"
        found = []
        for process in psutil.process_iter():
            try:
                environment = process.environ()
            except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
            if f"CALLBOARD_VAR_DIR={environment.get('CALLBOARD_VAR_DIR')}" == mark and process.pid != os.getpid():
                found.append(process)
        return found

    def interrupt(self) -> float:
        """Ctrl-C; returns how many seconds it took to end."""
        assert self.process is not None
        started_s = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=150)
        return time.monotonic() - started_s

    def begin(self, *arguments: str) -> "Command":
        """`callboard …` in a second terminal, which goes on while the test does."""
        return Command(
            subprocess.Popen(
                [CALLBOARD, *arguments], cwd=PROJECT_DIR, env=self.environment, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True,
            )
        )  # fmt: skip

    def run(self, *arguments: str) -> "Ended":
        """The same, to its end."""
        return self.begin(*arguments).end()

    def get(self, path: str) -> httpx2.Response:
        """A GET on its API."""
        return httpx2.get(f"http://127.0.0.1:{self.api_port}{path}", timeout=60)

    def worker_pids(self) -> list[int]:
        """The processes that run tasks, by what the system printed of them."""
        return [int(pid) for pid in re.findall(r" \[(\d+)\] .*Worker process is ready", self.output)]


@pytest.fixture(scope="module")
def running() -> Iterator[System]:
    """A system that is up, for all tests of a file; xdist keeps a file on one worker (--dist loadfile)."""
    with tempfile.TemporaryDirectory(prefix="cb-up-") as directory:
        made = System(Path(directory) / "var")
        made.up()
        yield made
        if made.process is not None and made.process.poll() is None:
            made.interrupt()
        for left in made.family():
            left.kill()
