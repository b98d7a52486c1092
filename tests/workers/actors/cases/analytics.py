"""`analytics`: task history, an hour a row."""

from datetime import timedelta
from typing import Any

from models.task import TaskStatus
from models.task_hour import TaskHour
from tests.factories.storing import NOW
from tests.factories.upkeep import past_task
from tests.workers.actors.case import Arguments, Case, Never
from tests.workers.actors.running import all_rows
from tests.workers.actors.world import World

HOUR = NOW.replace(minute=0)


def _history(world: World) -> Arguments:
    for hours, minutes in ((2, 0), (2, 59), (1, 0)):
        past_task(NOW - (HOUR - timedelta(hours=hours, minutes=-minutes)))
    past_task(NOW - (HOUR - timedelta(minutes=1)), status=TaskStatus.FAILED)
    past_task(NOW - HOUR - timedelta(hours=1))  # why the next hour: this one may end while the test runs
    return {}


def _hours(world: World) -> Any:
    return sorted(((HOUR - row.hour_at) / timedelta(hours=1), row.task_name, row.status, row.count)
                  for row in all_rows(TaskHour))  # fmt: skip


def _rolled_up(world: World, result: Any) -> None:
    assert _hours(world) == [
        (1.0, "past.task", "completed", 1),
        (1.0, "past.task", "failed", 1),
        (2.0, "past.task", "completed", 2),
    ]
    assert result == {"hours": 2, "rows": 3, "is_done": True}


CASES = {
    "analytics.aggregate_task_statistics": Case(
        prepare=_history,
        effect=_hours,
        proves=_rolled_up,
        transient=Never("the database is its own: test_every_actor.py takes it away"),
        permanent=Never("it takes nothing, and whatever ended can be counted"),
        bad_input=Never("it takes nothing"),
    )
}
