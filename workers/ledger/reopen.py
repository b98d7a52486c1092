"""An explicit retry: a failed or cancelled task is pending again, under its own id.

    1  its tombstone is taken off the bus       a crash after it: nothing has changed; what the tombstone kept out is
                                                a copy that was on its way when the task was cancelled
    2  the row is pending, without a message    a crash after it: the relay sends it
    3  its message is sent                      a crash after it: reconcile finds that it is there, or sends it

With Redis away nothing is done (1 fails): else the bus could refuse the message for the tombstone, and the relay would
take the task for cancelled. A task whose idempotency key another task has by now is not reopened: two of one key would
be under way.
"""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from models import direct, task_changes
from models.database import DatabaseError
from models.task import TaskStatus
from workers.broker import BusFull, BusRefused, BusUnavailable
from workers.errors import LedgerUnavailable
from workers.ledger.bus import LedgerBroker
from workers.ledger.cancel import ASK_WITHIN_S
from workers.ledger.relay import BATCH, relay

_logger = logging.getLogger(__name__)
_RETRIABLE: Final = frozenset({TaskStatus.FAILED, TaskStatus.CANCELLED})


class RetryOutcome(StrEnum):
    """What became of a retry. REOPENED: it is pending again. REFUSED: it is not failed or cancelled. KEY_TAKEN: another
    task has its idempotency key. UNKNOWN: there is no such task."""

    REOPENED = "reopened"
    REFUSED = "refused"
    KEY_TAKEN = "key_taken"
    UNKNOWN = "unknown"


def retry_many(broker: LedgerBroker, task_ids: Sequence[str], *, by: str) -> dict[str, RetryOutcome]:
    """Retry tasks, up to BATCH.

    Raises:
        LedgerUnavailable: nothing was reopened.
        BusUnavailable: as that.
    """
    assert len(task_ids) <= BATCH
    now = datetime.now(UTC)
    outcomes = dict.fromkeys(task_ids, RetryOutcome.UNKNOWN)
    try:
        with direct.reading() as to:
            found = task_changes.ended(to, task_ids)
        outcomes |= dict.fromkeys(found, RetryOutcome.REFUSED)
        wanted = [one for _, one in sorted(found.items()) if one.status in _RETRIABLE]
        for one in wanted:
            broker.forget_removal(one.queue, one.task_id, timeout_s=ASK_WITHIN_S)
        with direct.transaction() as to, to.atomic():
            reopened = [one.task_id for one in wanted if task_changes.retry(to, one, by=by, now=now)]
            left = task_changes.ended(to, [one.task_id for one in wanted if one.task_id not in set(reopened)])
    except DatabaseError as error:
        raise LedgerUnavailable.of(error, "retried") from error
    outcomes |= dict.fromkeys(reopened, RetryOutcome.REOPENED)
    outcomes |= {one: RetryOutcome.KEY_TAKEN for one, row in left.items() if row.status in _RETRIABLE}
    send_now(broker, reopened)
    return outcomes


def send_now(broker: LedgerBroker, task_ids: Sequence[str]) -> None:
    """Send rows that wait for the relay, without waiting for its turn; what fails is left to it."""
    if not task_ids:
        return
    try:
        relay(broker, only=task_ids, grace_s=0.0)
    except (BusUnavailable, BusFull, BusRefused, DatabaseError) as error:
        _logger.info("%d tasks are left to the relay: %s", len(task_ids), error)
