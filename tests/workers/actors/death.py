"""Deaths: a process that runs a function and is killed at one of its effects, by a real SIGKILL.

    points of a run   each commit of a writing transaction, each mail and HTTP request handed over, each command to
                      Redis, each file put in place or removed: once right before, once right after

The process is a fork of the test's, so that one death costs some milliseconds and not a worker's start; as with any
`kill -9` nothing is cleaned up, no `finally` runs, and the database rolls back what was not committed. Points are seen
by Python's profiler: nothing of ours is replaced.

Must not: return in the child.
"""

import ctypes
import faulthandler
import http.client
import os
import signal
import smtplib
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn

import redis.connection
from sqlalchemy.engine.default import DefaultDialect

from models.direct import SqliteDirect

MOST_POINTS = 80
_IN_PYTHON = {
    (DefaultDialect.do_commit.__code__, "call"): "before a commit",
    (DefaultDialect.do_commit.__code__, "return"): "after a commit",
    (SqliteDirect.end.__code__, "call"): "before a direct commit",
    (SqliteDirect.end.__code__, "return"): "after a direct commit",
    (smtplib.SMTP.data.__code__, "call"): "before a mail",
    (smtplib.SMTP.data.__code__, "return"): "after a mail was taken",
    (http.client.HTTPConnection.endheaders.__code__, "call"): "before an HTTP request",
    (http.client.HTTPConnection.getresponse.__code__, "return"): "after an HTTP answer",
    (redis.connection.AbstractConnection.send_packed_command.__code__, "call"): "before a command to Redis",
    (redis.connection.AbstractConnection.read_response.__code__, "return"): "after Redis's answer",
}
_IN_C = {os.replace: "a file is put in place", os.rename: "a file is moved", os.unlink: "a file is removed",
         os.remove: "a file is removed"}  # fmt: skip


def dies_at(point: int, act: Callable[[], object], *, within_s: float = 30) -> str | None:
    """Run `act` in a process that is killed at its `point`-th point, from 1.

    Returns:
        What it was about to do or had done; None if it came to its end before.

    Raises:
        AssertionError: `act` raised, or took too long.
    """
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # why: the child uses no lock that another thread may hold: each of our modules forgets its own at a fork.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        _child(point, act, writing, within_s)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, f"it ended by signal {os.WTERMSIG(status)}"
        return said
    assert os.WEXITSTATUS(status) == 0, said
    return None


def _child(point: int, act: Callable[[], object], writing: int, within_s: float) -> NoReturn:
    passed = 0

    def profile(frame: FrameType, event: str, what: Any) -> None:
        nonlocal passed
        name = _name(frame, event, what)
        if name is None:
            return
        passed += 1
        if passed == point:
            os.write(writing, name.encode())
            os.kill(os.getpid(), signal.SIGKILL)

    faulthandler.dump_traceback_later(within_s, file=writing, exit=True)
    try:
        _forget_threads()
        _clear_stale_interrupt()
        threading.setprofile(profile)  # of threads that a library starts
        sys.setprofile(profile)
        act()
    except BaseException:  # why: whatever it is, the test has to hear of it, and this process must not go on as pytest.
        sys.setprofile(None)
        os.write(writing, traceback.format_exc()[-3_000:].encode())
        os._exit(1)
    os._exit(0)


def _forget_threads() -> None:
    """Apprise keeps a pool of threads, which are not in a fork."""
    apprise = sys.modules.get("apprise.apprise")
    if apprise is not None:
        apprise.__dict__["_shared_executor"] = None


class _Landed(Exception):
    """Raised in this thread by itself."""


def _clear_stale_interrupt() -> None:
    """Let an asynchronous exception land.

    Where one was taken back (`PyThreadState_SetAsyncExc(…, None)`, as after each task of a worker), CPython 3.11 keeps
    a flag that it is there, and with a profiler on goes round for ever at the next call. One that lands clears it.
    """
    with suppress(_Landed):
        set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc
        set_async_exc(ctypes.c_ulong(threading.get_ident()), ctypes.py_object(_Landed))
        while True:  # why: it lands within some turns.
            pass


def _name(frame: FrameType, event: str, what: Any) -> str | None:
    if event in ("c_call", "c_return"):
        try:
            effect = _IN_C.get(what)
        except TypeError:  # why: methods of what cannot be hashed
            return None
        return None if effect is None else f"{'before' if event == 'c_call' else 'after'} {effect}"
    if frame.f_code is SqliteDirect.end.__code__ and frame.f_locals["self"]._use == 0:
        return None  # why: who only read has nothing to commit.
    return _IN_PYTHON.get((frame.f_code, event))
