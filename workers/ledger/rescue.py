"""Rescue: tasks whose worker is dead go back to pending, their attempt recorded as lost.

    running, worker dead ──→ pending, for the relay     and, if the bus still has the message, for who gets that next
                         └─→ failed                     if it must not run twice, or its workers keep dying

Usually the bus is faster: it gives a dead worker's message to another, which takes the row over. Rescue is for what the
bus lost too, and for when all threads are busy: `running` must name a live worker.

Who only thinks that a worker is dead does no harm: the outcome of an attempt that was declared lost is kept as long as
no later attempt has begun, and a later one begins only when the bus gives its message away.
"""

from datetime import UTC, datetime
from typing import Final

from models import direct, task_moves, task_upkeep
from models.task import FailureReason
from models.task_moves import Loss
from workers.ledger.ledger import Ledger
from workers.ledger.poison import suspicion_of

BATCH: Final = 500


def rescue(ledger: Ledger) -> int:
    """Take tasks from dead workers; returns how many. Raises DatabaseError."""
    now = datetime.now(UTC)
    with direct.transaction() as to:
        found = task_upkeep.orphans(to, alive_since=ledger.presence.alive_since(now), limit=BATCH)
        losses: list[Loss] = []
        for one in found:
            suspicion = suspicion_of(to, one.task_id)
            why_failed = FailureReason.WORKER_LOST if ledger.fails_when_lost(one.task_name) else None
            if suspicion is not None and suspicion.is_hopeless_after_another_loss:
                why_failed = FailureReason.POISON
            losses.append(Loss(one.task_id, one.attempt, one.worker_id, why_failed))
        return len(task_moves.lose(to, losses, now))
