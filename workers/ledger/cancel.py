"""Cancelling: the row says cancelled only when it is certain that the task does not run.

    asked, message waits        taken off the bus, row cancelled; if a worker vanished with it
                                before, that attempt is on record as lost                           → cancelled
    asked, message not there    a tombstone refuses it for an hour, row cancelled                   → cancelled
    asked, a worker has it      the request stands on the row; the worker ends the task at its
                                next bytecode, or does not begin it                                 → requested
    asked, bus down             the request stands on the row; upkeep carries it out later          → requested
    asked, data of the bus new  a worker may run what the bus does not know yet: as bus down        → requested

The order is: the request is written, then the bus is asked, then the row is cancelled by compare-and-set. A crash
between any two leaves the request, which upkeep carries out (`carry_out`). If the row turns out to be running after all
(it could not, unless the bus was wrong), it is not cancelled, and the request stands.
"""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from models import direct, task_moves, task_upkeep
from models.database import DatabaseError
from models.task import TaskStatus
from models.task_moves import LostDelivery
from workers.broker import BusFull, BusRefused, BusUnavailable, Removal
from workers.errors import LedgerUnavailable
from workers.ledger.bus import LedgerBroker

YOUNG_S: Final = 60.0
"""For so long after the bus lost its data a worker may run what the bus does not know."""

ASK_WITHIN_S: Final = 1.0
"""How long a request waits for the bus before upkeep is left to carry it out."""

_logger = logging.getLogger(__name__)


class CancelOutcome(StrEnum):
    """What became of a request. CANCELLED: it never runs (again). REQUESTED: its worker decides. KILLED: it ran, and
    its process was killed for it (workers.tasks waits for that). ENDED: it has ended already. UNKNOWN: there is no
    such task."""

    CANCELLED = "cancelled"
    REQUESTED = "requested"
    KILLED = "killed"
    ENDED = "ended"
    UNKNOWN = "unknown"


def cancel(broker: LedgerBroker, task_id: str, *, by: str) -> CancelOutcome:
    """Cancel a task in whatever state it is. Raises LedgerUnavailable: nothing was asked."""
    now = datetime.now(UTC)
    reason = f"by {by}"
    try:
        with direct.transaction() as to:
            row = task_moves.standing(to, [task_id]).get(task_id)
            if row is None:
                return CancelOutcome.UNKNOWN
            if not task_moves.request_cancel(to, task_id, reason=reason, now=now):
                return CancelOutcome.ENDED
        if row.status is TaskStatus.RUNNING:
            return CancelOutcome.REQUESTED
        return CancelOutcome.CANCELLED if _take_off(broker, row.queue, task_id, reason) else CancelOutcome.REQUESTED
    except DatabaseError as error:
        raise LedgerUnavailable.of(error, "cancelled") from error


def cancel_many(broker: LedgerBroker, task_ids: Sequence[str], *, by: str) -> dict[str, CancelOutcome]:
    """As `cancel`, for up to some hundreds: two transactions for all of them, and a call of the bus for each that
    waits. Raises LedgerUnavailable: some may have been asked."""
    now = datetime.now(UTC)
    reason = f"by {by}"
    outcomes = dict.fromkeys(task_ids, CancelOutcome.UNKNOWN)
    try:
        with direct.transaction() as to, to.atomic():
            rows = task_moves.standing(to, task_ids)
            for task_id in sorted(rows):
                asked = task_moves.request_cancel(to, task_id, reason=reason, now=now)
                outcomes[task_id] = CancelOutcome.REQUESTED if asked else CancelOutcome.ENDED
        waiting = [one for one, row in rows.items() if outcomes[one] is CancelOutcome.REQUESTED
                   and row.status is TaskStatus.PENDING]  # fmt: skip
        removed: list[tuple[str, LostDelivery | None]] = []
        for task_id in sorted(waiting):
            is_off, lost = _remove(broker, rows[task_id].queue, task_id)
            if is_off:
                removed.append((task_id, lost))
        with direct.transaction() as to, to.atomic():
            for task_id, lost in removed:
                if task_moves.cancel(to, task_id, reason=reason, now=now, lost=lost):
                    outcomes[task_id] = CancelOutcome.CANCELLED
    except DatabaseError as error:
        raise LedgerUnavailable(f"not all were cancelled: {error}") from error
    return outcomes


def carry_out(broker: LedgerBroker) -> int:
    """Carry out requests that still stand on rows that do not run; returns how many. Raises DatabaseError."""
    with direct.transaction() as to:
        wanted = task_upkeep.cancel_requested(to)
    done = 0
    for task_id, queue, status, reason in wanted:
        if status == TaskStatus.PENDING and _take_off(broker, queue, task_id, reason or "as requested"):
            done += 1
    return done


def _take_off(broker: LedgerBroker, queue: str, task_id: str, reason: str) -> bool:
    is_off, lost = _remove(broker, queue, task_id)
    if not is_off:
        return False
    with direct.transaction() as to:
        return task_moves.cancel(to, task_id, reason=reason, now=datetime.now(UTC), lost=lost)


def _remove(broker: LedgerBroker, queue: str, task_id: str) -> tuple[bool, LostDelivery | None]:
    """Whether it is certain that no worker has its message, nor will; and the delivery that a worker vanished with."""
    try:
        removal, number, owner = broker.take_off(queue, task_id, timeout_s=ASK_WITHIN_S)
        if removal is Removal.LEASED or (removal is Removal.ABSENT and broker.is_younger_than(YOUNG_S, queue)):
            return False, None
    except (BusUnavailable, BusFull, BusRefused) as error:
        _logger.info("task %s will be cancelled when the bus is back: %s", task_id, error)
        return False, None
    return True, None if owner is None else LostDelivery(number, owner)
