"""Another priority or time for a pending task: bus and row together.

    1  its message is taken off the bus, without a tombstone    a crash after it: nothing has changed; reconcile finds
                                                                a row without its message and sends that within 60 s
    2  the row says what is new, and waits for the relay        a crash after it: the relay sends what is new
    3  its message is sent, in its old place among its equals   a crash after it: reconcile finds it there

So at no line does the bus say one thing for good and the row another. A worker that has the message at 1 keeps it, and
nothing is changed. A message that is not there at 1 may be on its way from a sender that has just committed the row:
for SENDING_S after that nothing is changed either.
"""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from models import direct, task_changes, task_upkeep
from models.database import DatabaseError
from models.task import TaskStatus
from models.task_moves import LostDelivery
from workers.broker import Removal
from workers.errors import LedgerUnavailable
from workers.ledger.bus import LedgerBroker
from workers.ledger.cancel import ASK_WITHIN_S, YOUNG_S
from workers.ledger.reopen import send_now

SENDING_S: Final = 5.0


class ChangeOutcome(StrEnum):
    """What became of a change. STARTED: a worker has the task, or may have it. ENDED: it has ended, or is about to be
    cancelled. BUSY: its message is on its way; ask again. UNKNOWN: there is no such task."""

    CHANGED = "changed"
    STARTED = "started"
    ENDED = "ended"
    BUSY = "busy"
    UNKNOWN = "unknown"


def change(broker: LedgerBroker, task_id: str, changes: dict[str, Any]) -> ChangeOutcome:
    """Change a pending task.

    Args:
        changes: `priority` (1–10) and `eta` (aware UTC; None: at once), one of them or both.

    Raises:
        LedgerUnavailable, BusUnavailable: nothing was changed.
    """
    now = datetime.now(UTC)
    try:
        with direct.reading() as to:
            row = task_upkeep.unfinished(to, task_id)
        if row is None or row.status is not TaskStatus.PENDING or row.is_cancel_requested:
            return _why_not(row)
        removal, number, owner = broker.take_off(row.queue, task_id, timeout_s=ASK_WITHIN_S, tombstone_s=0.0)
        if removal is Removal.LEASED:
            return ChangeOutcome.STARTED
        if removal is Removal.ABSENT and row.enqueued_at is not None:
            if row.enqueued_at > now - timedelta(seconds=SENDING_S):
                return ChangeOutcome.BUSY
            if broker.is_younger_than(YOUNG_S, row.queue):
                return ChangeOutcome.BUSY  # why: a worker may run what the bus does not know yet.
        lost = None if owner is None else LostDelivery(number, owner)
        with direct.transaction() as to:
            if task_changes.change(to, task_id, changes, lost=lost, now=now):
                changed = ChangeOutcome.CHANGED
            else:
                changed = _why_not(task_upkeep.unfinished(to, task_id))
    except DatabaseError as error:
        raise LedgerUnavailable.of(error, "changed") from error
    if changed is ChangeOutcome.CHANGED:
        send_now(broker, [task_id])
    return changed


def _why_not(row: task_upkeep.Waiting | None) -> ChangeOutcome:
    if row is None:
        return ChangeOutcome.UNKNOWN
    return ChangeOutcome.STARTED if row.status is TaskStatus.RUNNING else ChangeOutcome.ENDED
