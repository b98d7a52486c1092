"""The fork server: a process that has imported the actors and does nothing but fork children for isolated tasks.

    worker ──control──▶ fork server ──fork──▶ child (own session)
      ▲                      │                  │
      │◀──── pid, status ────┘ one pipe a task  │
      └◀──────────── frames ────────────────────┘ one socket a task

It is a fresh interpreter, not a fork of the worker: so it has one thread and no connection, whenever it is started, and
its children inherit no lock that a thread of the worker holds (spec/traps.md 24).

A child never outlives its worker: the worker's end closes the control socket, at which the server kills every child's
session and ends; the server's own end kills the children (PR_SET_PDEATHSIG, Linux), and each child watches its socket.

Orders on the control socket are ORDER-sized: FORK with two descriptors (the child's socket, the status pipe), or KILL
with a pid. The status pipe gets the child's pid when it is forked and its wait status when it has ended; both are I32.

Must not: start a thread, open a connection, or import anything after the actors.
"""

import contextlib
import ctypes
import gc
import os
import select
import signal
import socket
import sys
from collections.abc import Callable

import workers
from workers.runner.orders import FORK, I32, ORDER

_PR_SET_PDEATHSIG = 1


def main(control_fd: int) -> None:
    """Serve until the worker's end of the control socket is closed."""
    assert workers.callboard
    from workers.runner import child  # why: it is part of what the children are to find imported

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, _ignore)  # why: stopping a service signals all its processes; the worker decides
    gc.collect()
    gc.freeze()  # why: the children share these pages as long as no collection touches them
    _Server(socket.socket(fileno=control_fd), child.run).serve()


class _Server:
    """The loop and its children: pid → the status pipe of its task."""

    def __init__(self, control: socket.socket, run_child: Callable[[socket.socket], None]) -> None:
        self._control = control
        self._run_child = run_child
        self._children: dict[int, int] = {}
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)

    def serve(self) -> None:
        """Obey, and tell of ends."""
        try:
            while True:
                ready, _, _ = select.select([self._control.fileno(), self._wake_read], [], [])
                if self._wake_read in ready:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._wake_read, 4096)
                    self._reap()
                if self._control.fileno() in ready and not self._obey():
                    return
        finally:
            for pid in self._children:
                _kill(pid)

    def _obey(self) -> bool:
        """Take one order; False if the worker is gone."""
        order, descriptors, _, _ = socket.recv_fds(self._control, ORDER.size, 2)
        if not order:
            return False
        kind, pid = ORDER.unpack(order)
        if kind == FORK:
            self._fork(descriptors)
        elif pid in self._children:
            _kill(pid)
        return True

    def _fork(self, descriptors: list[int]) -> None:
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        try:
            data_fd, status_fd = descriptors
            pid = os.fork()
        except (OSError, ValueError):  # why: no process or descriptor is left; the closed pipe says so
            for descriptor in descriptors:
                os.close(descriptor)
            return
        if pid == 0:
            try:
                self._become_child(data_fd, status_fd)
            finally:
                os._exit(1)  # why: a child must never become a second server
        os.close(data_fd)
        self._children[pid] = status_fd
        _tell(status_fd, pid)

    def _become_child(self, data_fd: int, status_fd: int) -> None:
        signal.set_wakeup_fd(-1)
        self._control.close()
        for fd in (self._wake_read, self._wake_write, status_fd, *self._children.values()):
            os.close(fd)
        _die_with_the_server()
        self._run_child(socket.socket(fileno=data_fd))

    def _reap(self) -> None:
        for pid in [*self._children]:
            try:
                # why in two steps: until it is collected its pid is its own, and its group can be killed safely. What
                # the task started belongs to it.
                if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
                    continue
                _kill(pid)
                _, status = os.waitpid(pid, 0)
            except ChildProcessError:
                continue
            status_fd = self._children.pop(pid)
            _tell(status_fd, status)
            os.close(status_fd)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)  # why: it may not have made its session yet


def _tell(status_fd: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # why: the worker gave the task up
        os.write(status_fd, I32.pack(number))


def _die_with_the_server() -> None:
    if sys.platform == "linux":
        server_pid = os.getppid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != server_pid:
            os._exit(1)


def _ignore(number: int, frame: object) -> None:
    """A handler instead of SIG_IGN: programs that a task starts get the default back."""
