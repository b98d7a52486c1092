"""The relay: rows that have no message on the bus are sent.

    accepted, enqueued_at empty ──publish──→ on the bus ──mark──→ enqueued_at set

Such rows come from `send_in`, from a bus that was down at `send()`, from the scheduler, from rescue and from reconcile.
A crash between publish and mark: published again, which the bus takes once; and each message asks its row before it
starts (`CHECK`), so that one whose first copy has run already does not run again. Any number of processes may relay at
once, for the same reason.

Who sends by himself right after his commit has GRACE_S for it: the relay would only be a second copy.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from dramatiq import Message

from models import direct, task_moves, task_upkeep
from models.task_upkeep import Unsent
from workers.broker import Receipt
from workers.ledger.attempt import ATTEMPT, CHECK

if TYPE_CHECKING:
    from workers.ledger.bus import LedgerBroker  # why: it sends through this module.

GRACE_S: Final = 1.0
BATCH: Final = 500

_logger = logging.getLogger(__name__)


def relay(broker: LedgerBroker, *, only: Sequence[str] | None = None, grace_s: float = GRACE_S) -> int:
    """Send what waits, at most BATCH; returns how many.

    Args:
        only: of these ids.

    Raises:
        DatabaseError, BusUnavailable, BusFull: later.
    """
    now = datetime.now(UTC)
    with direct.transaction() as to:
        rows = task_upkeep.unsent(to, before=now - timedelta(seconds=grace_s), limit=BATCH, only=only)
    if not rows:
        return 0
    return publish(broker, rows)


def publish(broker: LedgerBroker, rows: Sequence[Unsent], *, checked: bool = True) -> int:
    """Put the messages of these rows on the bus, in the order in which they were accepted; returns how many."""
    at = datetime.now(UTC)  # why: before, as a worker may have started it when the call returns.
    messages = [message_of(row, checked=checked) for row in rows]
    arrived_us = [round(row.created_at.timestamp() * 1e6) for row in rows]
    receipts = broker.publish(messages, arrived_us=arrived_us, timeout_s=10.0)
    cancelled = [row.task_id for row, receipt in zip(rows, receipts, strict=True) if receipt is Receipt.CANCELLED]
    with direct.transaction() as to:
        task_moves.mark_published(to, [row.task_id for row in rows], at)
        for task_id in cancelled:
            task_moves.cancel(to, task_id, reason="as requested", now=at)
    return len(rows)


def message_of(row: Unsent, *, checked: bool = True) -> Message[Any]:
    """The message that a row stands for: same id, parameters and options. checked: it asks the row before it starts."""
    options = {**row.options, "priority": row.priority}
    if row.attempt:
        options[ATTEMPT] = row.attempt
    if checked:
        options[CHECK] = True
    if row.eta is not None:
        options["eta"] = round(row.eta.timestamp() * 1000)
    return Message(
        queue_name=row.queue,
        actor_name=row.task_name,
        args=tuple(row.params.get("args", ())),
        kwargs=dict(row.params.get("kwargs", {})),
        options=options,
        message_id=row.task_id,
        message_timestamp=int(row.created_at.timestamp() * 1000),
    )
