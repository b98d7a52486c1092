"""One run of a schedule that is sent: its task's row, and what is written of it in one transaction.

At a due time (periodic.agenda) and when a person asks for it (periodic.schedules) it is the same.
"""

from datetime import datetime
from typing import Any

import dramatiq

from models import schedule_claim, task_moves
from models.direct import Direct
from models.schedule_claim import Run
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


def write(
    to: Direct, schedule_id: str, run: Run, task: NewTask, *, cancels: str | None, because: str, now: datetime
) -> bool:
    """Put the run on record, accept its task, and ask the one before to end; False if the run is on record already.

    Args:
        cancels: the task that makes room; None for none.
        because: why, for the reason that it is shown.
    """
    if not schedule_claim.record(to, schedule_id, run, task_id=task.task_id, now=now):
        return False
    if cancels is not None:
        task_moves.request_cancel(to, cancels, reason=f"by schedule {schedule_id}: {because}", now=now)
    task_moves.accept(to, [task])
    schedule_claim.note_sent(to, schedule_id, task.task_id, now)
    return True
