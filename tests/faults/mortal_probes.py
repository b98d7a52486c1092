"""Actors that harm the process they run in."""

import ctypes
import os
import resource
import signal
import threading
import time
from collections.abc import Callable

import psutil

from models.task import TaskType
from tests.probes import evidence
from workers.registry import actor
from workers.runner.current import current_task


@actor(task_type=TaskType.JOB, max_retries=0)
def leave_a_bomb(path: str, after_s: float = 0.2) -> None:
    """End well, and kill the worker's thread a little later: outside of any task, where nothing catches it."""
    evidence(path, "armed")
    thread_id = ctypes.c_ulong(threading.get_ident())
    bomb = threading.Timer(
        after_s, ctypes.pythonapi.PyThreadState_SetAsyncExc, args=(thread_id, ctypes.py_object(SystemExit))
    )
    bomb.daemon = True
    bomb.start()


@actor(task_type=TaskType.JOB)
def tear_at_the_thread(path: str) -> int:
    """In the first attempt, have exceptions rain on the thread until it is dead, wherever in its loop it is by then."""
    evidence(path, "torn")
    attempt = current_task().attempt
    if attempt == 1:
        thread = threading.current_thread()
        threading.Thread(target=_rain, args=(thread,), daemon=True).start()
        deadline_s = time.monotonic() + 5
        while time.monotonic() < deadline_s:
            time.sleep(0.001)  # why: bytecode at which the first can land
    return attempt


def _rain(thread: threading.Thread) -> None:
    thread_id = ctypes.c_ulong(thread.ident or 0)
    while thread.is_alive():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(thread_id, ctypes.py_object(SystemExit))
        time.sleep(0.002)  # why: each is to find the thread a little further on


def _kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _segfault() -> None:
    ctypes.memset(None, 0, 1)


def _run_out_of_memory() -> None:
    """As C code does that does not look at what `malloc` answered."""
    libc = ctypes.PyDLL(None)  # why: with the lock held, so that no neighbour asks for memory when there is none
    libc.malloc.restype = ctypes.c_void_p
    limit = psutil.Process().memory_info().vms + 256 * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    while True:
        ctypes.memset(libc.malloc(32 * 2**20), 1, 32 * 2**20)


DEATHS: dict[str, Callable[[], None]] = {
    "kills itself": _kill_itself,
    "segfaults": _segfault,
    "runs out of memory": _run_out_of_memory,
}


@actor(task_type=TaskType.JOB)
def die(path: str, how: str) -> None:
    """Take the process down, in each attempt, in one of the ways of DEATHS."""
    evidence(path, how)
    DEATHS[how]()
