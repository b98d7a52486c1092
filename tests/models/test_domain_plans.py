"""What the every-minute sweep looks for is found by a partial index, however many jobs and tickets have ended."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text
from sqlmodel import Session

from models import database, job_moves, ticket_moves
from models.ticket import EscalationRule
from tests.models.test_plans import explained

NOW = datetime(2026, 11, 26, tzinfo=UTC)
RULE = EscalationRule(category="plumbing", level=0, after_s=60)


@pytest.mark.parametrize(
    ("look", "index"),
    [
        (lambda session: job_moves.to_close(session, NOW, limit=10), "ix_jobs_to_close"),
        (lambda session: job_moves.to_remind(session, NOW, limit=10), "ix_jobs_to_remind"),
        (
            lambda session: ticket_moves.to_escalate(session, RULE, NOW, limit=10),
            "ix_tickets_open_category_level_level_since_at",
        ),
    ],
    ids=["to close", "to remind", "to escalate"],
)
def test_the_sweep_reads_a_partial_index(look: Callable[[Session], Any], index: str, ledger_database: str) -> None:
    with database.reading() as session:
        if session.get_bind().dialect.name == "postgresql":
            session.execute(text("SET LOCAL enable_seqscan = off"))  # an empty table is read as a whole otherwise
            session.execute(text("SET LOCAL enable_sort = off"))
        with explained(session) as plans:
            look(session)

    assert plans
    assert index in plans[-1], plans
