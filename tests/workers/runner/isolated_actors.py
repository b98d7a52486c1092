"""Actors that run in children: well, badly, and not at all well."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from typing import Any

from models.task import TaskType
from tests.probes import evidence
from workers.errors import InvalidTask, PermanentError, Retry
from workers.registry import actor
from workers.runner.current import current_task

_logger = logging.getLogger("customer.code")


@actor(task_type=TaskType.JOB, isolated=True)
def who(value: int) -> dict[str, Any]:
    """Say which process this is, and what it knows of its task."""
    task = current_task()
    return {"value": value, "pid": os.getpid(), "session": os.getsid(0), "id": task.id, "attempt": task.attempt}


@actor(task_type=TaskType.JOB, isolated=True)
async def who_async(value: int) -> dict[str, Any]:
    """The same as a coroutine."""
    await asyncio.sleep(0.01)
    return {"value": value, "pid": os.getpid(), "id": current_task().id}


@actor(task_type=TaskType.JOB)
def not_isolated() -> int:
    """In the worker, unless it is suspected."""
    return os.getpid()


@actor(task_type=TaskType.JOB, isolated=True)
def talk() -> None:
    """Report in every way there is."""
    task = current_task()
    task.log.warning("line %d", 1)
    _logger.error("line %d", 2)
    task.progress(1, 2, "half")
    task.checkpoint()


@actor(task_type=TaskType.JOB, isolated=True)
def die(how: str) -> None:
    """End the process."""
    if how == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "exit":
        os._exit(3)
    if how == "sys.exit":
        sys.exit(4)


@actor(task_type=TaskType.JOB, isolated=True)
def fail(kind: str) -> None:
    """Raise an exception of this kind."""
    if kind == "permanent":
        raise PermanentError("never")
    if kind == "retry":
        raise Retry("later", delay=700)
    if kind == "os":
        raise FileNotFoundError(2, "No such file", "/nowhere")
    if kind == "invalid":
        raise InvalidTask("bad", field="params.x")
    if kind == "unicode":
        b"\xff".decode()
    if kind == "local":

        class Odd(LookupError):
            def __init__(self, left: object, right: object) -> None:
                super().__init__("odd", left)
                self.right = right

        raise Odd(object, {1, 2})
    raise ValueError(kind)


@actor(task_type=TaskType.JOB, isolated=True, memory_limit_mb=64)
def hog(megabytes: int) -> int:
    """Take so much memory."""
    return len(bytearray(megabytes * 1024 * 1024))


@actor(task_type=TaskType.JOB, isolated=True)
def answer(size: int) -> object:
    """A result of that size; of none: no JSON at all."""
    return "x" * size if size else object()


@actor(task_type=TaskType.JOB, isolated=True, hard_time_limit_s=0.4)
def spin(path: str) -> None:
    """For ever, deaf to interrupts."""
    evidence(path, str(os.getpid()))
    while True:
        try:
            while True:
                pass
        except BaseException:
            continue


@actor(task_type=TaskType.JOB, isolated=True)
def sleep_with_a_helper(path: str) -> None:
    """For long, with a process of its own."""
    helper = subprocess.Popen(["sleep", "60"])
    evidence(path, f"{os.getpid()} {helper.pid}")
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s:
        time.sleep(0.01)  # why: running is the point
