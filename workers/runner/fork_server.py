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

import workers
from workers.runner.orders import I32, KILL, ORDER

_PR_SET_PDEATHSIG = 1


def main(control_fd: int) -> None:
    """Serve until the worker's end of the control socket is closed."""
    assert workers.callboard
    from workers.runner import child  # why: it is part of what the children are to find imported

    signal.signal(signal.SIGTERM, _ignore)  # why: stopping a service signals all its processes; the worker decides
    signal.signal(signal.SIGINT, _ignore)
    gc.collect()
    gc.freeze()  # why: the children share these pages as long as no collection touches them
    control = socket.socket(fileno=control_fd)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_read, False)
    os.set_blocking(wake_write, False)
    signal.signal(signal.SIGCHLD, _ignore)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    children: dict[int, int] = {}
    try:
        while True:
            ready, _, _ = select.select([control.fileno(), wake_read], [], [])
            if wake_read in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(wake_read, 4096)
                _reap(children)
            if control.fileno() in ready:
                order, descriptors, _, _ = socket.recv_fds(control, ORDER.size, 2)
                if not order:
                    return
                kind, pid = ORDER.unpack(order)
                if kind == KILL:
                    if pid in children:
                        _kill(pid)
                    continue
                for descriptor in descriptors:
                    os.set_inheritable(descriptor, False)
                try:
                    data_fd, status_fd = descriptors
                    pid = os.fork()
                except (OSError, ValueError):  # why: no process or descriptor is left; the closed pipe says so
                    for descriptor in descriptors:
                        os.close(descriptor)
                    continue
                if pid == 0:
                    try:
                        signal.set_wakeup_fd(-1)
                        control.close()
                        for fd in (wake_read, wake_write, status_fd, *children.values()):
                            os.close(fd)
                        _die_with_the_server()
                        child.run(socket.socket(fileno=data_fd))
                    finally:
                        os._exit(1)  # why: a child must never become a second server
                os.close(data_fd)
                children[pid] = status_fd
                _tell(status_fd, pid)
    finally:
        for pid in children:
            _kill(pid)


def _reap(children: dict[int, int]) -> None:
    for pid in [*children]:
        try:
            # why in two steps: until it is collected its pid is its own, and its group can be killed safely. What the
            # task started belongs to it.
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
                continue
            _kill(pid)
            _, status = os.waitpid(pid, 0)
        except ChildProcessError:
            continue
        status_fd = children.pop(pid)
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
