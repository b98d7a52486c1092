"""The tasks of the soak. Each names itself by a token, chosen by whoever sends it, and writes its own evidence.

Worker processes import this module through CALLBOARD_ACTOR_MODULES.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from models.task import TaskType
from tests.soak import evidence
from workers.errors import PermanentError, SendError
from workers.registry import CallboardActor, actor
from workers.runner.current import CurrentTask, current_task

ENOUGH_RETRIES = 50
"""For tasks that fail only because the bus or the ledger is away: more than an outage lasts."""


def perform(token: str, work: Callable[[CurrentTask], object]) -> str:
    """Do the work between two lines of evidence; returns what no other execution returns."""
    task, run = current_task(), os.urandom(8).hex()
    evidence.write("start", task=task.id, token=token, attempt=task.attempt, pid=os.getpid(), run=run)
    try:
        work(task)
    except BaseException as error:  # why: an interrupt is an end too, and goes on from here
        evidence.write("raise", run=run, error=type(error).__name__)
        raise
    value = f"{token} {run}"
    evidence.write("return", run=run, value=value)
    return value


def send(to: CallboardActor, token: str, *args: Any, **options: Any) -> str:
    """Send with evidence of the answer; returns the task's id. Raises what the send raised."""
    began_s = time.monotonic()
    try:
        message = to.send_with_options(args=(token, *args), **options)
    except SendError as error:
        evidence.write("refuse", token=token, error=type(error).__name__, took_s=time.monotonic() - began_s)
        raise
    delayed = {"delay_s": options["delay"] / 1000} if options.get("delay") else {}
    evidence.write("accept", task=message.message_id, token=token, took_s=time.monotonic() - began_s, **delayed)
    return message.message_id


@actor(task_type=TaskType.JOB)
def short(token: str) -> str:
    """Do nothing."""
    return perform(token, lambda _task: None)


@actor(task_type=TaskType.REPORT)
def slow(token: str, seconds: float) -> str:
    """Take some time, interruptibly."""

    def work(_task: CurrentTask) -> None:
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            time.sleep(0.01)  # why: a running task is the point

    return perform(token, work)


@actor(task_type=TaskType.INTEGRATION, max_retries=1)
def failing(token: str, permanent: bool) -> str:
    """Fail in every attempt."""

    def work(_task: CurrentTask) -> None:
        raise PermanentError("never") if permanent else ConnectionError("not today")

    return perform(token, work)


@actor(task_type=TaskType.EMAIL, max_retries=5)
def retrying(token: str, times: int) -> str:
    """Fail until `times` retries are used up."""

    def work(task: CurrentTask) -> None:
        if task.retry_count < times:
            raise ConnectionError(f"attempt {task.attempt} finds nobody at home")

    return perform(token, work)


@actor(task_type=TaskType.TICKET, max_retries=ENOUGH_RETRIES)
def nested(token: str, children: int) -> str:
    """Send children; a parent that runs twice sends them twice."""

    def work(task: CurrentTask) -> None:
        for number in range(children):
            send(short, f"{token}/{task.attempt}.{os.urandom(2).hex()}.{number}")

    return perform(token, work)
