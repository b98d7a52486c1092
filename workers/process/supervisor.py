"""A supervisor of child processes: starts them in order, restarts one that dies, stops all of them.

States of a child, and who moves it:

    stopped ─start→ running ─dies→ waiting (back-off 0.5–10 s) ─start→ running
       ↑               └─stop→ stopping ─exits, or is killed after its grace→ stopped
       └──────────────────────────────────────────────────────────────────┘

Each child leads a session of its own: Ctrl-C in the terminal reaches the supervisor alone, which then stops the
children in reverse order of their start, so that workers finish while Redis is still there. When the main process of a
child dies, what is left of its session is killed before it is started again: a worker whose parent was killed must not
run on unseen. If the supervisor itself is killed, the kernel ends each child's main process (Linux: PR_SET_PDEATHSIG).
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 10.0
STEADY_AFTER_S = 30.0
"""A child that ran for this long starts again with the first back-off."""
_PR_SET_PDEATHSIG = 1
_POLL_S = 0.1

Say = Callable[[str, str], None]
"""(child's name, line) → shown to the person."""


@dataclass
class Child:
    """A process to keep running.

    Args:
        name: shown before its lines.
        command: argument vector.
        grace_s: how long it may take to stop before it is killed.
        ready: called after the first start until it returns True; None if there is nothing to wait for.
    """

    name: str
    command: Sequence[str]
    grace_s: float = 5.0
    ready: Callable[[], bool] | None = None
    process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)
    started_at_s: float = field(default=0.0, init=False)
    backoff_s: float = field(default=FIRST_BACKOFF_S, init=False)
    restart_at_s: float | None = field(default=None, init=False)
    told_to_stop: bool = field(default=False, init=False)
    """A second SIGTERM would make Dramatiq drop what it is running."""


class ChildFailed(Exception):
    """A child did not become ready; the message names it."""


class Supervisor:
    """Keeps children running until `stop` is asked for.

    Args:
        environment: added to this process's for each child.
        say: where lines go.
        ready_timeout_s: how long a child may take to become ready.
    """

    def __init__(self, *, environment: Mapping[str, str], say: Say, ready_timeout_s: float = 20.0) -> None:
        self._environment = {**os.environ, "PYTHONUNBUFFERED": "1", **environment}
        self._say = say
        self._ready_timeout_s = ready_timeout_s
        self._children: list[Child] = []
        self._stop = threading.Event()

    def request_stop(self) -> None:
        """Make `watch` return; safe in a signal handler."""
        self._stop.set()

    def start(self, child: Child) -> None:
        """Start a child and wait until it is ready.

        Raises:
            ChildFailed: it ended, or was not ready in time.
        """
        self._children.append(child)
        self._spawn(child)
        deadline_s = time.monotonic() + self._ready_timeout_s
        while child.ready is not None and not child.ready():
            assert child.process is not None
            if child.process.poll() is not None:
                raise ChildFailed(f"{child.name} ended with status {child.process.returncode} before it was ready")
            if time.monotonic() > deadline_s:
                raise ChildFailed(f"{child.name} was not ready after {self._ready_timeout_s:.0f} s")
            if self._stop.wait(_POLL_S):
                return

    def watch(self) -> None:
        """Restart children that die, until `request_stop`."""
        while not self._stop.wait(_POLL_S):
            now_s = time.monotonic()
            for child in self._children:
                if child.restart_at_s is not None:
                    if now_s >= child.restart_at_s:
                        child.restart_at_s = None
                        self._spawn(child)
                elif child.process is not None and child.process.poll() is not None:
                    self._bury(child, now_s)

    def stop(self) -> None:
        """Stop all children, the last started first; one that outlasts its grace is killed."""
        self._stop.set()
        # why: workers may take their time, so all but the first children (the servers) are told at once.
        for child in reversed(self._children):
            if child.ready is None:
                self._tell(child)
        for child in reversed(self._children):
            self._end(child)

    def _bury(self, child: Child, now_s: float) -> None:
        assert child.process is not None
        _kill_session(child.process.pid)
        if now_s - child.started_at_s > STEADY_AFTER_S:
            child.backoff_s = FIRST_BACKOFF_S
        self._say(child.name, f"ended with status {child.process.returncode}; starting it again in "
                              f"{child.backoff_s:.1f} s")  # fmt: skip
        child.restart_at_s = now_s + child.backoff_s
        child.backoff_s = min(child.backoff_s * 2, MAX_BACKOFF_S)

    def _spawn(self, child: Child) -> None:
        child.started_at_s = time.monotonic()
        child.process = subprocess.Popen(
            list(child.command),
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent  # noqa: PLW1509 - it calls prctl alone, which takes no lock
            if sys.platform == "linux"
            else None,
        )
        threading.Thread(target=self._relay, args=(child.name, child.process), daemon=True).start()

    def _relay(self, name: str, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self._say(name, line.decode("utf-8", "replace").rstrip())

    @staticmethod
    def _tell(child: Child) -> None:
        if child.process is not None and child.process.poll() is None and not child.told_to_stop:
            child.told_to_stop = True
            child.process.send_signal(signal.SIGTERM)

    def _end(self, child: Child) -> None:
        process = child.process
        if process is None:
            return
        self._tell(child)
        if process.poll() is None:
            try:
                process.wait(child.grace_s)
            except subprocess.TimeoutExpired:
                self._say(child.name, f"did not stop within {child.grace_s:.0f} s and is killed")
        _kill_session(process.pid)
        process.wait()


_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _die_with_parent() -> None:
    assert _libc is not None
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _kill_session(leader_pid: int) -> None:
    """Kill whatever is left of a child's process group."""
    try:
        os.killpg(leader_pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
