"""Rescue: tasks whose worker is dead go back to pending, their attempt recorded as lost.

    running, worker dead ──→ pending, for the relay     and, if the bus still has the message, for who gets that next
                         └─→ failed                     if it must not run twice, or its workers keep dying

Usually the bus is faster: it gives a dead worker's message to another, which takes the row over. Rescue is for what the
bus lost too, and for when all threads are busy: `running` must name a live worker.

Who only thinks that a worker is dead does no harm: the outcome of an attempt that was declared lost is kept as long as
no later attempt has begun, and a later one begins only when the bus gives its message away.

A worker that lives looks for rows that only say that it runs them, as nobody else can know (`Strays`): whatever went
wrong there, such a row has no message, and would say `running` for as long as the worker lives.
"""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from models import direct, task_moves, task_upkeep
from models.direct import Direct
from models.task import FailureReason
from models.task_moves import Attempt, Loss
from models.task_upkeep import Orphan
from workers.ledger.ledger import Ledger
from workers.ledger.poison import suspicion_of

BATCH: Final = 500
YOUNG_S: Final = 5.0
"""A row that has run for less than this is looked at later."""

_logger = logging.getLogger(__name__)


def rescue(ledger: Ledger) -> int:
    """Take tasks from dead workers; returns how many. Raises DatabaseError."""
    now = datetime.now(UTC)
    with direct.transaction() as to:
        found = task_upkeep.orphans(to, alive_since=ledger.presence.alive_since(now), limit=BATCH)
        return len(task_moves.lose(to, _losses(to, ledger, found), now))


class Strays:
    """Rows that say of this process that it runs them, and it does not. Not for two threads at once."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._seen: frozenset[Attempt] = frozenset()

    def rescue(self) -> int:
        """Take back what was found in the look before this one, too; returns how many. Raises DatabaseError."""
        now = datetime.now(UTC)
        with direct.transaction() as to:
            rows = task_upkeep.running_on(
                to, self._ledger.presence.worker_id, before=now - timedelta(seconds=YOUNG_S), limit=BATCH
            )
            # why: in this order, as one that ends meanwhile is a row that `lose` does not find running any more.
            strays = {(row.task_id, row.attempt): row for row in rows if not self._ledger.is_here(row.task_id)}
            # why two looks: between a thread that lets go of an outcome and the scribe that takes it, nobody has it.
            found = [row for attempt, row in strays.items() if attempt in self._seen]
            self._seen = frozenset(strays)
            lost = task_moves.lose(to, _losses(to, self._ledger, found), now) if found else set()
        for task_id, attempt in lost:
            _logger.error("attempt %d of task %s was said to run here, and did not: it is lost", attempt, task_id)
        return len(lost)


def _losses(to: Direct, ledger: Ledger, found: Sequence[Orphan]) -> list[Loss]:
    losses: list[Loss] = []
    for one in found:
        suspicion = suspicion_of(to, one.task_id)
        why_failed = FailureReason.WORKER_LOST if ledger.fails_when_lost(one.task_name) else None
        if suspicion is not None and suspicion.is_hopeless_after_another_loss:
            why_failed = FailureReason.POISON
        losses.append(Loss(one.task_id, one.attempt, one.worker_id, why_failed))
    return losses
