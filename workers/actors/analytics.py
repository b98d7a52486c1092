"""Analytics: task history is rolled up per hour, actor and outcome, so that charts need not read ten million tasks.

Idempotency key: hour + actor + outcome (`task_hours`): an hour that is rolled up again is written over. Each hour is a
transaction, oldest first; what a crash leaves is done by the next run, which finds the hours whose counts differ
(models.task_rollup). Two at once write the same.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from models import task_rollup
from models.task import TaskType
from workers import callboard
from workers.registry import actor
from workers.runner.current import current_task

TIME_LIMIT_S: Final = 300.0
WORK_S: Final = 240.0
"""So long a run works; the hours that are left then are the next one's."""
MAX_RETRIES: Final = 2


def aggregate(now: datetime | None = None) -> dict[str, Any]:
    """Roll up the hours that want it; returns how many, the rows that they have, and whether none is left.

    Args:
        now: aware UTC; by default the present.
    """
    began = datetime.now(UTC)
    task, hours, rows = current_task(), 0, 0
    kept_for = timedelta(days=callboard.settings.task_retention_days)
    for hour, ended in task_rollup.wanting(now or began, kept_for=kept_for):
        task.checkpoint()
        if (datetime.now(UTC) - began).total_seconds() >= WORK_S:
            return {"hours": hours, "rows": rows, "is_done": False}
        rows += task_rollup.roll_up(hour, ended, datetime.now(UTC))
        hours += 1
        task.progress(0, 1, f"{hours:,} hours, up to {hour:%Y-%m-%d %H:00}")
    task.progress(1, 1)
    return {"hours": hours, "rows": rows, "is_done": True}


@actor(task_type=TaskType.ANALYTICS, max_retries=MAX_RETRIES, time_limit_s=TIME_LIMIT_S)
def aggregate_task_statistics() -> dict[str, Any]:
    """Roll task history up into `task_hours`: count, and percentiles of waiting and running, per hour, actor, outcome.

    Only full hours. Those of the last two days whose tasks ended late are rolled up again.
    """
    return aggregate()
