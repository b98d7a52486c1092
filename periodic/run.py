"""Runs of schedules: the row of a run's task, and what is written of runs in one transaction.

At a due time (periodic.agenda) and when a person asks for it (periodic.schedules) it is the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import dramatiq

from models import schedule_claim, task_moves
from models.direct import Direct
from models.schedule_claim import Record, Run
from models.task_moves import NewTask
from workers import Callboard
from workers.registry import default_priority_of


def task_of(
    callboard: Callboard,
    actor: dramatiq.Actor[..., object],
    params: dict[str, Any],
    *,
    now: datetime,
    schedule_id: str,
    priority: int | None,
    max_retries: int,
    time_limit_s: int,
    delay_ms: int | None = None,
) -> NewTask:
    """The row of a run's task, without a message yet. Raises InvalidTask."""
    message = actor.message_with_options(
        kwargs=params,
        priority=default_priority_of(actor) if priority is None else priority,
        max_retries=max_retries,
        time_limit=time_limit_s * 1000,
        schedule_id=schedule_id,
    )
    return callboard.ledger.row_of(callboard.broker, message, delay_ms=delay_ms, now=now, sent=False)


@dataclass(frozen=True)
class Sending:
    """A run that sends a task.

    Args:
        cancels: the unfinished task that makes room; None for none.
        because: why, for the reason that it is shown.
    """

    schedule_id: str
    run: Run
    task: NewTask
    cancels: str | None = None
    because: str = "its next run is due"


def write(to: Direct, sendings: Sequence[Sending], *, now: datetime, skipped: Sequence[Record] = ()) -> list[Sending]:
    """Put runs on record, accept the tasks of those that are sent, and ask the ones before to end.

    Returns:
        What is sent: all but runs that were on record already.
    """
    to_send = [Record(one.schedule_id, one.run, one.task.task_id) for one in sendings]
    new = schedule_claim.record(to, [*skipped, *to_send], now=now)
    task_ids = {one.task_id for one in new}
    sent = [one for one in sendings if one.task.task_id in task_ids]
    for one in sent:
        if one.cancels is not None:
            reason = f"by schedule {one.schedule_id}: {one.because}"
            task_moves.request_cancel(to, one.cancels, reason=reason, now=now)
    task_moves.accept(to, [one.task for one in sent])
    schedule_claim.note_sent(to, [one for one in new if one.task_id is not None], now)
    return sent
