"""Actors that are interrupted, put off, or write log lines."""

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text

from models import database
from models.task import TaskType
from tests.probes import evidence
from workers.errors import Retry
from workers.registry import actor
from workers.runner.current import current_task

_logger = logging.getLogger("customer.code")


@actor(task_type=TaskType.JOB, max_retries=0)
async def clean_up_slowly(path: str, seconds: float) -> None:
    """Take some time to end once it is cancelled."""
    evidence(path, "started")
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(seconds)
        evidence(path, f"clean {current_task().id}")


@actor(task_type=TaskType.JOB, max_retries=0)
async def insist(value: int) -> int:
    """Return in spite of being cancelled."""
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        return value
    return 0


@actor(task_type=TaskType.JOB, max_retries=0)
async def never_awaits() -> None:
    """A coroutine that only a checkpoint can stop."""
    deadline_s = time.monotonic() + 20
    while time.monotonic() < deadline_s:
        current_task().checkpoint()


@actor(task_type=TaskType.JOB, max_retries=1)
def put_off(path: str, delay_ms: int) -> int:
    """Ask to be tried again at a time of its own choice."""
    evidence(path, datetime.now(UTC).isoformat())
    raise Retry("not yet", delay=delay_ms)


@actor(task_type=TaskType.JOB, max_retries=1, min_backoff_s=2, max_backoff_s=60, jitter=False)
def fail_evenly() -> None:
    """Fail, to be tried again at a time without chance."""
    raise ValueError("no")


@actor(task_type=TaskType.JOB)
def write_lines(lines: int) -> None:
    """Log by Python's own means, as libraries do."""
    for number in range(lines):
        _logger.error("line %d", number)
    logging.getLogger("dramatiq.something").error("machinery")
    try:
        raise ValueError("broken")
    except ValueError:
        _logger.exception("it went wrong")


@actor(task_type=TaskType.JOB, max_retries=0)
def in_c(seconds: float) -> str:
    """Be in a C call when the limit passes."""
    time.sleep(seconds)  # why: the interrupt waits for its end
    return "returned"


@actor(task_type=TaskType.JOB, max_retries=0)
def end_about_then(seconds: float, fails: bool) -> Any:
    """End at about the moment at which the watcher looks, well or badly."""
    deadline_s = time.monotonic() + seconds
    while time.monotonic() < deadline_s:
        time.sleep(0.005)  # why: bytecode at which an interrupt can land
    if fails:
        raise ValueError("as asked")
    return "returned"


@actor(task_type=TaskType.JOB, isolated=True, max_retries=0)
def isolated_parent(path: str) -> str:
    """Send a task from a child."""
    from tests.probes import note  # why: it is known wherever tests are

    current_task().log.warning("sending")
    return note.send(path, "child").message_id


@actor(task_type=TaskType.JOB)
def log_in_a_transaction() -> None:
    """As a library that logs while the task writes to the same database."""
    with database.writing() as session:
        session.execute(text("UPDATE background_tasks SET progress_message = 'held'"))
        _logger.error("in the middle")
