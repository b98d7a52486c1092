"""Actors for tests. Each execution writes a line of its own evidence to a file, outside the ledger.

Worker processes of tests import this module through CALLBOARD_ACTOR_MODULES.
"""

import asyncio
import os
import signal
import time
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import dramatiq
from dramatiq.middleware import SkipMessage

from models.task import TaskType
from workers.errors import PermanentError
from workers.registry import actor
from workers.runner.current import current_task


def evidence(path: str, line: str) -> None:
    """Append a line in one write."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)


def lines(path: Path) -> list[str]:
    """The evidence so far."""
    return path.read_text().splitlines() if path.exists() else []


@actor(task_type=TaskType.JOB)
def note(path: str, line: str = "ran", seconds: float = 0.0) -> str:
    """Write evidence at the start, then take some time."""
    evidence(path, line)
    time.sleep(seconds)  # why: a running task is the point
    return line


@actor(task_type=TaskType.JOB)
def wait_for(path: str, line: str, until: str) -> str:
    """Write evidence at the start, then run until there is a file: however slow the machine, it runs until the test has
    seen what it wants to see."""
    evidence(path, line)
    deadline = time.monotonic() + 120
    while not Path(until).exists() and time.monotonic() < deadline:
        time.sleep(0.01)  # why: a running task is the point
    return line


@actor(task_type=TaskType.JOB)
def outlast(path: str, seconds: float) -> None:
    """In the first attempt, be in one call for some time, in which nothing can interrupt it."""
    evidence(path, "ran")
    if current_task().attempt == 1:
        time.sleep(seconds)  # why: a call that is not interrupted is the point


@actor(task_type=TaskType.JOB)
def fail_times(path: str, times: int) -> int:
    """Fail in the first `times` attempts."""
    evidence(path, "ran")
    attempt = current_task().attempt
    if attempt <= times:
        raise ConnectionError(f"attempt {attempt} finds nobody at home")
    return attempt


@actor(task_type=TaskType.JOB, time_limit_s=0.3, max_retries=0)
def too_long() -> None:
    """Run past the time limit, interruptibly."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        time.sleep(0.01)  # why: bytecode at which the interrupt can land


@actor(task_type=TaskType.JOB)
def unstorable() -> object:
    """Return what JSON cannot hold."""
    return object()


def _broken_policy(retries: int, exception: BaseException) -> bool:
    raise RuntimeError("the policy itself is broken")


@actor(task_type=TaskType.JOB, retry_when=_broken_policy)
def broken_policy() -> None:
    """Fail under a policy that raises."""
    raise ValueError("no")


@actor(task_type=TaskType.JOB, throws=(KeyError,))
def unlucky() -> None:
    """Raise what its policy does not retry."""
    raise KeyError("no such thing")


@actor(task_type=TaskType.JOB, retry_when=lambda _retries, error: not isinstance(error, KeyError))
def choosy() -> None:
    """Raise what its policy refuses to retry."""
    raise KeyError("no such thing")


@actor(task_type=TaskType.JOB, min_backoff_s=0.01, max_backoff_s=0.02)
def mutate(path: str, items: list[Any]) -> None:
    """Change its argument into something JSON has no word for, and fail."""
    evidence(path, str(items))
    items.append(object())
    raise ConnectionError("nobody at home")


@actor(task_type=TaskType.JOB)
def refuse() -> None:
    """Fail for good."""
    raise PermanentError("this will never work")


@actor(task_type=TaskType.JOB)
async def later(value: int) -> dict[str, Any]:
    """An async actor that knows its task."""
    await asyncio.sleep(0.01)
    return {"value": value, "task_id": current_task().id}


@actor(task_type=TaskType.JOB)
def add(left: int, right: int) -> int:
    """For pipelines."""
    return left + right


@actor(task_type=TaskType.JOB)
def parent(path: str) -> str:
    """Send a child."""
    return note.send(path, "child").message_id


@dramatiq.actor(actor_name="plain_probe", queue_name="jobs")
def plain(path: str) -> None:
    """An actor as plain Dramatiq declares it."""
    evidence(path, "plain")


@actor(task_type=TaskType.JOB)
def kill_worker(path: str, times: int) -> int:
    """Take the worker process down in the first `times` attempts, as a crash in C code would."""
    evidence(path, "ran")
    if current_task().attempt <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return current_task().attempt


@actor(task_type=TaskType.JOB)
def skip() -> None:
    """Find that there is nothing to do."""
    raise SkipMessage("the feature is off")


@actor(task_type=TaskType.JOB)
def linger(seconds: float, fails: bool) -> None:
    """End at about the moment at which the watcher looks, well or badly."""
    time.sleep(seconds)  # why: the task's length is the point
    if fails:
        raise ValueError("as asked")


@actor(task_type=TaskType.JOB)
def echo(value: Any) -> Any:
    """Return what was given."""
    return value


@actor(task_type=TaskType.JOB, max_retries=0)
def speak(words: str) -> None:
    """Say the words wherever a task can: in its log, its progress and its error."""
    current_task().log.info("%s", words)
    current_task().progress(1, 1, words)
    raise ValueError(words)


UNFIT: dict[str, Any] = {
    "an object": object(),
    "NaN": {"rows": [float("nan")]},
    "a set": {1},
    "bytes": b"x",
    "10,000 digits": 10**9_999,
    "too large": "x" * 300_000,
}


@actor(task_type=TaskType.JOB)
def unfit(kind: str) -> Any:
    """Return one of UNFIT, or a list that is endless."""
    endless: list[Any] = []
    endless.append(endless)
    return UNFIT.get(kind, endless)


@dataclass
class Order:
    """What a task may well return."""

    number: UUID
    price: Decimal
    at: datetime
    status: TaskType


@actor(task_type=TaskType.JOB)
def order(at: str) -> list[Order]:
    """Return typed values."""
    return [Order(UUID(int=7), Decimal("12.50"), datetime.fromisoformat(at), TaskType.JOB)]


@actor(task_type=TaskType.JOB)
def heard(_parent: dict[str, Any], outcome: Any) -> Any:
    """For on_success and on_failure."""
    return outcome


@actor(task_type=TaskType.JOB)
def noted(path: str, outcome: Any) -> None:
    """For pipelines: write what came."""
    evidence(path, str(outcome))


@actor(task_type=TaskType.JOB)
def run_group(path: str) -> None:
    """Send a group with a completion callback."""
    made = dramatiq.group([note.message(path, str(number)) for number in range(3)])
    made.add_completion_callback(note.message(path, "done"))
    made.run()


@actor(task_type=TaskType.JOB, concurrency=1)
def one_at_a_time(path: str, until: str) -> None:
    """Run until there is a file; never two of them at a time."""
    evidence(path, "ran")
    deadline = time.monotonic() + 120
    while not Path(until).exists() and time.monotonic() < deadline:
        time.sleep(0.01)  # why: a running task is the point


@actor(task_type=TaskType.JOB, rate_limit="5/m")
def five_a_minute() -> None:
    """Nothing, now and then."""


class Speechless(PermanentError):
    """Whoever asks what it says gets another exception."""

    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


@actor(task_type=TaskType.JOB, max_retries=0)
def fall_silent() -> None:
    """Raise what cannot be shown."""
    raise Speechless


@actor(task_type=TaskType.JOB, max_retries=0, isolated=True)
def fall_silent_alone() -> None:
    """The same in a child process."""
    raise Speechless


@actor(task_type=TaskType.JOB, isolated=True)
def linger_alone(path: str) -> None:
    """Begin, in a child process, and take a minute."""
    evidence(path, "began")
    time.sleep(60)  # why: that it lasts is what its tests are about; they kill it
