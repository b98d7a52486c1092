"""How long tasks wait, as the health check asks it."""

from datetime import UTC, datetime, timedelta

import pytest

from models import direct, health_moves
from models.task import TaskStatus
from tests.models.rows import accepted, in_status

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)

pytestmark = pytest.mark.usefixtures("empty_tables")


def since() -> datetime | None:
    with direct.reading() as to:
        return health_moves.oldest_waiting_since(to)


def test_what_could_start_and_waits_longest_is_found() -> None:
    assert since() is None
    in_status(TaskStatus.RUNNING)
    accepted(task_id="0", eta=NOW + timedelta(hours=1))
    assert since() is None

    accepted(task_id="1", created_at=NOW)
    accepted(task_id="2", created_at=NOW + timedelta(seconds=1))

    assert since() == NOW
