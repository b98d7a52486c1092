"""Actors that harm the process they run in, and never more than once: their row is not theirs to run again."""

import ctypes
import threading

from models.task import TaskType
from tests.probes import evidence
from workers.registry import actor


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
