"""Retention as upkeep's chore: done by the system itself, and again at once while there is more to do."""

from datetime import UTC, datetime, timedelta

import pytest
from dramatiq import Worker

from models import database, direct
from models.task import Chore
from tests.models import crowd
from tests.servers import wait_until
from workers import callboard, tasks
from workers.ledger.upkeep import Upkeep

pytestmark = pytest.mark.usefixtures("ledger_database", "bus")
ROWS = 3_000
UNFINISHED = 6


def test_a_worker_prunes_what_is_too_old(request: pytest.FixtureRequest) -> None:
    old = datetime.now(UTC) - timedelta(days=40)
    crowd.fill(ROWS, first=old, last=old + timedelta(days=5))
    # Only ended tasks may go; these must not run, either.
    with direct.transaction() as to:
        to.run("UPDATE background_tasks SET eta = '2100-01-01 00:00:00+00' WHERE status = 'pending'")

    worker: Worker = request.getfixturevalue("worker")

    assert worker
    wait_until(lambda: tasks.get_task_count() == UNFINISHED, within_s=30, what="the old rows to be gone")
    wait_until(lambda: _chore() is not None, within_s=10, what="the chore to be on record")


def _chore() -> datetime | None:
    with database.reading() as session:
        found = session.get(Chore, "prune")
    return found and found.last_run_at


def test_while_there_is_more_the_next_turn_comes_at_once() -> None:
    left = [1, 1, 0]
    upkeep = Upkeep(callboard.broker, holder="me", settle_after_s=60.0, prune=lambda: {"more": left.pop(0)})

    for _ in range(5):
        upkeep.run_due()

    assert left == []
