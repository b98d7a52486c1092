"""A supervisor of child processes: starts them in order, restarts one that dies or hangs, renews and stops them.

States of a child, and who moves it:

    stopped ─start→ running ─dies→ waiting (back-off 0.5–10 s) ─start→ running
                     │  └─ no pulse for its stall time-out: killed, which is a death like any other
                     └─renew→ stopping ─exits, or is killed after its grace→ running (anew)
                     └─stop → stopping ─exits, or is killed after its grace, or by a second Ctrl-C→ stopped

A child with a stall time-out has a pipe on which its workers write while they are well (workers/middleware/watch.py).
Its first byte says that it is up. Dramatiq's main process does not notice each death of its worker: one that dies while
it says that it has booted takes the lock of that with it, and the main process waits for ever. So where the pipe is
silent for HEADLESS_AFTER_S, it is looked whether any worker is left.

Renewing (`request_renewal`, a rolling restart) takes one such child after the other: told to stop, started anew, up,
then the next. If the new one does not come up, the ones behind it are left as they are.

Each child leads a session of its own: Ctrl-C in the terminal reaches the supervisor alone, which then stops the
children in reverse order of their start, so that workers finish while Redis is still there: a child is told to stop
only when all that were started after it have ended, unless it is one that nobody waited for. A second Ctrl-C kills
those, and leaves the others (the servers) their grace. When the main process of a
child dies, what is left of its session is killed before it is started again: a worker whose parent was killed must not
run on unseen. If the supervisor itself is killed, the kernel ends each child's main process (Linux: PR_SET_PDEATHSIG),
and a worker finds its pipe without a reader and stops.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 10.0
STEADY_AFTER_S = 30.0
"""A child that ran for this long starts again with the first back-off."""
BOOT_TIMEOUT_S = 60.0
"""How long a child may take until its first pulse; more if its stall time-out is."""
HEADLESS_AFTER_S = 3.0
"""A child without a pulse for this long, whose own children have all died, is killed without waiting any longer."""
PULSE_VARIABLE = "CALLBOARD_PULSE_FD"
_PR_SET_PDEATHSIG = 1
_POLL_S = 0.1
_ASLEEP_AFTER_S = 2.0
"""A supervisor that finds itself this late was stopped, and so perhaps were its children: no silence counts."""

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
        stall_timeout_s: it is killed after so many seconds without a pulse; None: it has none.
        restart: whether it is started again when it dies; if not, its death ends the supervision.
    """

    name: str
    command: Sequence[str]
    grace_s: float = 5.0
    ready: Callable[[], bool] | None = None
    stall_timeout_s: float | None = None
    restart: bool = True
    process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)
    started_at_s: float = field(default=0.0, init=False)
    backoff_s: float = field(default=FIRST_BACKOFF_S, init=False)
    restart_at_s: float | None = field(default=None, init=False)
    kill_at_s: float | None = field(default=None, init=False)
    """Set when it was told to stop. A second SIGTERM would make Dramatiq drop what it is running."""
    pulse: int | None = field(default=None, init=False)
    """The end of its pipe that is read here."""
    heard_at_s: float = field(default=0.0, init=False)
    is_up: bool = field(default=False, init=False)

    @property
    def is_running(self) -> bool:
        """Whether its main process runs."""
        return self.process is not None and self.process.poll() is None

    def is_stalled(self, now_s: float) -> bool:
        """Whether it has been silent for too long."""
        if self.stall_timeout_s is None:
            return False
        patience_s = self.stall_timeout_s if self.is_up else max(self.stall_timeout_s, BOOT_TIMEOUT_S)
        return now_s - self.heard_at_s > patience_s

    def is_headless(self, now_s: float) -> bool:
        """Whether it is silent, and each worker that it started is dead and was not collected."""
        if self.process is None or self.stall_timeout_s is None or now_s - self.heard_at_s < HEADLESS_AFTER_S:
            return False
        return _has_only_zombies(self.process.pid)


class ChildFailed(Exception):
    """A child did not become ready, or died and is not to be started again; the message names it."""


class Supervisor:
    """Keeps children running until `stop` is asked for.

    Args:
        environment: added to this process's for each child.
        say: where lines go.
        ready_timeout_s: how long a child may take to become ready.
    """

    def __init__(self, *, environment: Mapping[str, str], say: Say, ready_timeout_s: float = 20.0) -> None:
        self._environment = {**os.environ, "PYTHONUNBUFFERED": "1", **environment}
        self._environment.pop(PULSE_VARIABLE, None)
        self._say = say
        self._ready_timeout_s = ready_timeout_s
        self._children: list[Child] = []
        # why no Events: they are set by signal handlers, in the thread that may just be inside the Event's own lock.
        self._stopping = False
        self._was_interrupted = False
        self._is_hurried = False
        self._renewal_wanted = False
        self._to_renew: deque[tuple[Child, subprocess.Popen[bytes] | None]] = deque()
        """Children to renew, each with the process that is to go; the first is the one in progress."""
        self._turned_at_s = 0.0

    def request_stop(self) -> None:
        """Make `watch` return; safe in a signal handler."""
        self._stopping = True

    def interrupt(self) -> None:
        """As Ctrl-C: the first time as `request_stop`; again, to kill what is still stopping and is no server.
        Safe in a signal handler."""
        self._is_hurried = self._was_interrupted
        self._was_interrupted = self._stopping = True

    def request_renewal(self) -> None:
        """Renew the children that have a pulse, one after the other; safe in a signal handler."""
        self._renewal_wanted = True

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
            if self._is_told_to_stop():
                return

    def watch(self) -> None:
        """Restart children that die or hang, renew them when asked to, until `request_stop`.

        Raises:
            ChildFailed: one died that is not to be started again.
        """
        self._turned_at_s = time.monotonic()
        while not self._is_told_to_stop():
            now_s = time.monotonic()
            if now_s - self._turned_at_s > _ASLEEP_AFTER_S:
                for child in self._children:
                    child.heard_at_s = now_s
            self._turned_at_s = now_s
            for child in self._children:
                self._look_after(child, now_s)
            self._renew()

    def stop(self) -> None:
        """Stop all children, the last started first; one that outlasts its grace is killed."""
        self._stopping = True
        # why: workers may take their time, so all but the first children (the servers) are told at once.
        for child in reversed(self._children):
            if child.ready is None:
                self._tell(child)
        for child in reversed(self._children):
            self._end(child)

    def _is_told_to_stop(self) -> bool:
        """The pause between two looks at the children, and whether it was the last."""
        if not self._stopping:
            time.sleep(_POLL_S)  # why: see __init__
        return self._stopping

    def _look_after(self, child: Child, now_s: float) -> None:
        self._listen(child, now_s)
        if child.restart_at_s is not None:
            if now_s >= child.restart_at_s:
                self._spawn(child)
        elif child.process is not None and not child.is_running:
            self._bury(child, now_s)
        elif child.kill_at_s is not None:
            if now_s >= child.kill_at_s:
                self._kill_late(child)
        elif child.process is not None and child.is_stalled(now_s):
            self._kill(child, f"has given no sign of life for {now_s - child.heard_at_s:.0f} s and is killed")
        elif child.is_headless(now_s):
            self._kill(child, "has lost its worker process without noticing and is killed")

    def _bury(self, child: Child, now_s: float) -> None:
        assert child.process is not None
        _kill_session(child.process.pid)
        if child.kill_at_s is not None:
            self._say(child.name, "stopped; starting it anew")
            self._spawn(child)
            return
        ended = f"ended with status {child.process.returncode}"
        if not child.restart:
            raise ChildFailed(f"{child.name} {ended}, and is not to be started again (CALLBOARD_RESTART_WORKERS)")
        if now_s - child.started_at_s > STEADY_AFTER_S:
            child.backoff_s = FIRST_BACKOFF_S
        self._say(child.name, f"{ended}; starting it again in {child.backoff_s:.1f} s")
        child.restart_at_s = now_s + child.backoff_s
        child.backoff_s = min(child.backoff_s * 2, MAX_BACKOFF_S)

    def _renew(self) -> None:
        """One look at the renewal: what is to be done next, if anything."""
        if not self._to_renew:
            if self._renewal_wanted:
                self._renewal_wanted = False
                self._to_renew.extend((one, one.process) for one in self._children if one.stall_timeout_s is not None)
            return
        child, old = self._to_renew[0]
        if child.process is old:
            if child.kill_at_s is None and child.restart_at_s is None:
                self._say(child.name, "is told to stop, to be started anew")
                self._tell(child)
        elif child.restart_at_s is not None:
            left = ", ".join(one.name for one, _ in list(self._to_renew)[1:])
            self._say(child.name, "did not come up; " + (f"not renewed: {left}" if left else "no other is renewed"))
            self._to_renew.clear()
        elif child.is_up:
            self._say(child.name, "is up again")
            self._to_renew.popleft()

    def _spawn(self, child: Child) -> None:
        child.started_at_s = child.heard_at_s = time.monotonic()
        child.restart_at_s = child.kill_at_s = None
        child.is_up = False
        environment, handed = self._environment, tuple[int, ...]()
        if child.pulse is not None:
            os.close(child.pulse)
            child.pulse = None
        if child.stall_timeout_s is not None:
            child.pulse, theirs = os.pipe()
            os.set_blocking(child.pulse, False)
            handed = (theirs,)
            environment = {**environment, PULSE_VARIABLE: str(theirs)}
        try:
            child.process = subprocess.Popen(
                list(child.command),
                env=environment,
                pass_fds=handed,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent  # noqa: PLW1509 - it calls prctl alone, which takes no lock
                if sys.platform == "linux"
                else None,
            )
        finally:
            for descriptor in handed:
                os.close(descriptor)
        threading.Thread(target=self._relay, args=(child.name, child.process), daemon=True).start()

    @staticmethod
    def _listen(child: Child, now_s: float) -> None:
        if child.pulse is None:
            return
        try:
            heard = os.read(child.pulse, 65_536)
        except BlockingIOError:
            return
        if heard:
            child.heard_at_s = now_s
            child.is_up = True

    def _relay(self, name: str, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self._say(name, line.decode("utf-8", "replace").rstrip())

    @staticmethod
    def _tell(child: Child) -> None:
        if child.process is not None and child.is_running and child.kill_at_s is None:
            child.kill_at_s = time.monotonic() + child.grace_s
            child.process.send_signal(signal.SIGTERM)

    def _kill_late(self, child: Child) -> None:
        self._kill(child, f"did not stop within {child.grace_s:g} s and is killed")

    def _kill(self, child: Child, why: str) -> None:
        assert child.process is not None
        self._say(child.name, why)
        _kill_session(child.process.pid)
        child.process.wait()

    def _end(self, child: Child) -> None:
        process = child.process
        if process is None:
            return
        self._tell(child)
        while child.kill_at_s is not None and child.is_running:
            if self._is_hurried and child.ready is None:
                self._kill(child, "is killed, for it was asked twice")
            elif time.monotonic() >= child.kill_at_s:
                self._kill_late(child)
            else:
                time.sleep(_POLL_S / 5)  # why: a second Ctrl-C ends the wait
        _kill_session(process.pid)
        process.wait()
        if child.pulse is not None:
            os.close(child.pulse)
            child.pulse = None


_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _die_with_parent() -> None:
    assert _libc is not None
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _has_only_zombies(pid: int) -> bool:
    """Whether a process has children, and none that lives."""
    import psutil  # why: it costs memory, and only a child that is silent asks for it.

    try:
        statuses = [one.status() for one in psutil.Process(pid).children()]
    except psutil.Error:  # why: who goes between the two looks is found dead at the next.
        return False
    return bool(statuses) and all(status == psutil.STATUS_ZOMBIE for status in statuses)


def _kill_session(leader_pid: int) -> None:
    """Kill whatever is left of a child's process group."""
    try:
        os.killpg(leader_pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
