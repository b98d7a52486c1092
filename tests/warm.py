"""Commands that start warm: in forks of a process that has imported their libraries already.

A worker or a `callboard …` takes half a second of a core or more until it has imported its libraries, and the tests
start hundreds. So each process of pytest has a nursery: a process of one thread that has imported the libraries and the
tables, which know no environment, and nothing else of ours.

    the test ──command, environment, folder, descriptors──→ the nursery ──fork──→ the process
    the test ←──its pid, and in the end its status──────────┘ collects it

In the fork the command's own script runs from its first line to its exit, with all that was given. This does not show
what the start itself imports (tests/workers/test_import_cost.py does), nor what is inherited from the one who starts.
With CALLBOARD_TEST_FULL=1, and where there is no Linux, commands are started as always.
"""

from __future__ import annotations

import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from tests.scale import FULL

PROJECT_DIR = Path(__file__).resolve().parents[1]
LIBRARIES = (
    "dramatiq.cli", "dramatiq.results", "redis.asyncio", "msgspec", "pydantic_settings", "sqlite3", "psycopg",
    "sqlalchemy.dialects.postgresql.psycopg", "sqlmodel", "models.tables", "typer", "psutil",
)  # fmt: skip
_MOST_BYTES = 200_000
"""Of a request: mostly the environment."""
_POLL_S = 0.01


def popen(
    command: Sequence[str],
    *,
    cwd: str | Path,
    env: Mapping[str, str],
    stdout: IO[Any],
    stderr: IO[Any],
    start_new_session: bool = False,
) -> subprocess.Popen[bytes]:
    """Start a Python command: a console script, or the interpreter with -m or -c. Arguments as of `subprocess.Popen`.

    Its standard input is empty. It is collected without being asked to: there is no zombie that waits for `poll`.
    """
    if FULL or sys.platform != "linux":
        return subprocess.Popen(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
            start_new_session=start_new_session,
        )  # fmt: skip
    request = {"command": list(command), "cwd": str(cwd), "env": dict(env), "session": start_new_session}
    return _Warm(_Nursery.of_this_process(), request, (stdout.fileno(), stderr.fileno()))


def run(
    command: Sequence[str], *, cwd: str | Path = PROJECT_DIR, env: Mapping[str, str], timeout_s: float = 120
) -> subprocess.CompletedProcess[str]:
    """Start a command as `popen` does, and wait for its end; returns its status and what it printed.

    Raises subprocess.TimeoutExpired, after it has killed it.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as error:
        process = popen(command, cwd=cwd, env=env, stdout=out, stderr=error)
        try:
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        for printed in (out, error):
            printed.seek(0)
        return subprocess.CompletedProcess(command, status, out.read(), error.read())


def close() -> None:
    """End this process's nursery, if it has one."""
    if _Nursery.own is not None:
        _Nursery.own.close()
        _Nursery.own = None


class _Warm(subprocess.Popen[bytes]):
    """A fork of the nursery, with the face of a Popen."""

    _child_created = False  # what Popen's own finaliser looks at

    def __init__(self, nursery: _Nursery, request: dict[str, Any], descriptors: tuple[int, int]) -> None:
        self.args = request["command"]
        self.stdin = self.stdout = self.stderr = None
        self.returncode: int | None = None  # type: ignore[assignment]  # as of Popen, whose type leaves out None
        self._nursery = nursery
        self._serial, self.pid = nursery.start(request, descriptors)

    def poll(self) -> int | None:
        """Its exit status as Popen has it, or None while it runs."""
        if self.returncode is None:
            self.returncode = self._nursery.status_of(self._serial)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; raises subprocess.TimeoutExpired."""
        deadline_s = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if deadline_s is not None and time.monotonic() > deadline_s:
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
            time.sleep(_POLL_S)  # why: the status comes from another process
        return status


class _Nursery:
    """The nursery as seen by who asks it."""

    own: _Nursery | None = None
    _making = threading.Lock()

    @classmethod
    def of_this_process(cls) -> _Nursery:
        with cls._making:
            if cls.own is None:
                cls.own = cls()
            return cls.own

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._serial = 0
        self._pids: dict[int, int] = {}
        self._statuses: dict[int, int] = {}
        # why packets: a request and its descriptors stay together, and the end of either side shows.
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(  # it ends when the channel does, so with this process at the latest
                [sys.executable, "-m", "tests.warm", str(theirs.fileno())],
                cwd=PROJECT_DIR, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    def start(self, request: dict[str, Any], descriptors: tuple[int, int]) -> tuple[int, int]:
        """The serial number and the pid of a new process."""
        with self._lock:
            self._serial += 1
            serial = self._serial
            packet = json.dumps(request | {"serial": serial}).encode()
            assert len(packet) < _MOST_BYTES
            socket.send_fds(self._channel, [packet], list(descriptors))
            while serial not in self._pids:
                self._read()
            return serial, self._pids.pop(serial)

    def status_of(self, serial: int) -> int | None:
        """The exit status of a process that has ended."""
        with self._lock:
            while select.select([self._channel], [], [], 0)[0]:
                self._read()
            return self._statuses.get(serial)

    def close(self) -> None:
        """End it."""
        self._channel.close()
        self._process.wait()

    def _read(self) -> None:
        told = self._channel.recv(1_000)
        if not told:
            raise RuntimeError("the nursery has died; what it said is above")
        kind, serial, value = json.loads(told)
        (self._pids if kind == "pid" else self._statuses)[serial] = value


# --- the nursery itself ----------------------------------------------------------------------------------------------


def _serve(channel: socket.socket) -> dict[str, Any]:
    """Fork for each request. Returns in the forks alone, with the request; ends the process when the asker is gone."""
    serials: dict[int, int] = {}
    ended, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready = select.select([channel, ended], [], [])[0]
        if ended in ready:
            os.read(ended, 4_096)
            with suppress(ChildProcessError):
                while (found := os.waitpid(-1, os.WNOHANG))[0]:
                    status = os.waitstatus_to_exitcode(found[1])
                    channel.send(json.dumps(("status", serials.pop(found[0]), status)).encode())
        if channel in ready:
            packet, descriptors, *_ = socket.recv_fds(channel, _MOST_BYTES, 2)
            if not packet:
                os._exit(0)
            request: dict[str, Any] = json.loads(packet)
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for number, descriptor in enumerate(descriptors, start=1):
                    os.dup2(descriptor, number)
                for descriptor in (*descriptors, ended, wake):
                    os.close(descriptor)
                channel.close()
                return request
            for descriptor in descriptors:
                os.close(descriptor)
            serials[pid] = request["serial"]
            channel.send(json.dumps(("pid", request["serial"], pid)).encode())


def _become(request: dict[str, Any]) -> None:
    """Run the command in this process; ends it."""
    if request["session"]:
        os.setsid()
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    program, *arguments = request["command"]
    if program != sys.executable:
        sys.argv = [program, *arguments]
        sys.path[0] = str(Path(program).parent)
        runpy.run_path(program, run_name="__main__")
        return
    flag, what, *arguments = arguments
    sys.argv = [flag, *arguments]
    sys.path[0] = ""
    if flag == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        assert flag == "-c"
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})


def _main() -> None:
    for library in LIBRARIES:
        import_module(library)
    assert "workers" not in sys.modules, "it reads the environment, which the commands bring with them"
    _become(_serve(socket.socket(fileno=int(sys.argv[1]))))


if __name__ == "__main__":
    _main()
