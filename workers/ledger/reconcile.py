"""Reconcile: the ledger and the bus are compared, and the bus is mended from the ledger.

    row pending and sent, no message   ──→ enqueued_at emptied: the relay sends it. (A crash between row and message, a
                                           message lost with the server's last second, a server that was emptied.)
    message without a row              ──→ gets one, if its actor is known here; else it is left to who knows it

Both directions look at things that move meanwhile, and may find a difference that is none: a task that ends between the
two looks has no message and is no longer pending, so nothing is written; a row that is sent once more asks before it
starts. A crash at any line leaves the rest for the next run.

After the server was emptied the workers put back what they hold, at their next renewal; before that it would only be
sent a second time. So a run that follows a change of generation waits for two renewals (upkeep).
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from dramatiq import Message

from models import direct, task_moves, task_upkeep
from workers.ledger.bus import LedgerBroker
from workers.ledger.ledger import Ledger

PAGE: Final = 1_000
YOUNG_S: Final = 5.0
"""A row younger than this may still be on its way to the bus."""
RECENT_S: Final = 120.0
"""What was accepted within this is looked at often; all the rest once a minute."""


def to_bus(ledger: Ledger, broker: LedgerBroker, *, recent: bool = False) -> int:
    """Find pending rows whose message is not on the bus, for the relay; returns how many. Raises DatabaseError,
    BusUnavailable.

    Args:
        recent: looks at the rows of the last two minutes only.
    """
    now = datetime.now(UTC)
    after_id = _lowest_id(now - timedelta(seconds=RECENT_S)) if recent else ""
    missing = 0
    while True:
        with direct.transaction() as to:
            page = task_upkeep.sent(to, before=now - timedelta(seconds=YOUNG_S), after_id=after_id, limit=PAGE)
        if not page:
            return missing
        absent = broker.absent([(row.queue, row.task_id) for row in page if row.is_due])
        if absent:
            with direct.transaction() as to:
                task_moves.mark_published(to, sorted(absent), None)
            missing += len(absent)
        after_id = page[-1].task_id


def to_ledger(ledger: Ledger, broker: LedgerBroker) -> int:
    """Give a row to each message that has none; returns how many. Raises DatabaseError, BusUnavailable."""
    adopted = 0
    cursor: str | None = None
    while True:
        cursor, ids = broker.scan_ids(cursor, count=PAGE)
        for first in range(0, len(ids), PAGE):
            part = [task_id for task_id in ids[first : first + PAGE] if task_id.isprintable()]
            with direct.transaction() as to:
                strangers = task_upkeep.without_row(to, part)
            adopted += _adopt(ledger, broker, strangers)
        if cursor is None:
            return adopted


def _adopt(ledger: Ledger, broker: LedgerBroker, task_ids: list[str]) -> int:
    if not task_ids:
        return 0
    young_ms = (datetime.now(UTC).timestamp() - YOUNG_S) * 1000
    found: list[Message[Any]] = [
        message
        for message in broker.records(task_ids)
        if message is not None and broker.knows_actor(message.actor_name) and message.message_timestamp < young_ms
    ]
    for message in found:
        row = ledger.adopt(message)
        with direct.transaction() as to:
            task_moves.accept(to, [row])
    return len(found)


def _lowest_id(at: datetime) -> str:
    """The lowest UUIDv7 of that instant."""
    unix_ms = int(at.timestamp() * 1000)
    return f"{unix_ms >> 16:08x}-{unix_ms & 0xFFFF:04x}-7000-8000-000000000000"
