"""Actors that harm the process they run in: in their first attempt only."""

import ctypes
import threading
import time

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
