"""How it goes: what ended how in a span of time, at once or by buckets; for REST, CLI and dashboard.

Must not: know the web or the terminal.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from models import database, task_query, task_statistics
from models.task import TaskStatus
from models.task_query import TaskFilter
from workers.errors import InvalidTask

MAX_SPAN: Final = timedelta(days=31)
DEFAULT_SPAN: Final = timedelta(hours=24)
MAX_BUCKETS: Final = 500
BUCKETS_S: Final = (1, 5, 15, 30, 60, 300, 900, 1_800, 3_600, 10_800, 21_600, 86_400)
"""Lengths of a bucket, in seconds: each divides a day, so that buckets begin at round times."""
_WANTED_BUCKETS: Final = 120
_ENDED: Final = (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED)


def stats(since: datetime | None = None, until: datetime | None = None) -> dict[str, Any]:
    """What ended in a span of time, and what is under way now.

    Args:
        since, until: aware; by default the last 24 hours. At most 31 days.

    Returns:
        `since`, `until`; `completed`, `failed` and `cancelled` tasks that ended then; `success_rate`: completed among
        completed and failed, 0–1 (None: there are neither); `pending` and `running` tasks now.

    Raises:
        InvalidTask: naming the field.
        DatabaseError: it cannot be said.
    """
    since, until = _span(since, until)
    with database.reading() as session:
        ended = task_statistics.ended(session, since, until)
        now = {
            str(status): task_query.count(session, TaskFilter(status=status))
            for status in (TaskStatus.PENDING, TaskStatus.RUNNING)
        }
    return {"since": since, "until": until, **_of(ended), "success_rate": success_rate(ended), **now}


def timeseries(
    since: datetime | None = None, until: datetime | None = None, bucket_s: int | None = None
) -> dict[str, Any]:
    """What ended in each bucket of a span of time.

    Args:
        since, until: as `stats`; moved out to where buckets begin.
        bucket_s: one of BUCKETS_S; by default the first that makes no more than 120 of it. At most 500 buckets.

    Returns:
        `since`, `until`, `bucket_s`, and `buckets` in order, none left out: `at` (its beginning), `completed`, `failed`
        and `cancelled`.

    Raises:
        InvalidTask: naming the field.
        DatabaseError: it cannot be said.
    """
    since, until = _span(since, until)
    span_s = (until - since).total_seconds()
    if bucket_s is None:
        bucket_s = next((one for one in BUCKETS_S if span_s / one <= _WANTED_BUCKETS), BUCKETS_S[-1])
    if bucket_s not in BUCKETS_S or span_s / bucket_s > MAX_BUCKETS:
        fitting = [str(one) for one in BUCKETS_S if span_s / one <= MAX_BUCKETS]
        raise InvalidTask(f"bucket_s: expected one of {', '.join(fitting)} for this span, so that there are at most "
                          f"{MAX_BUCKETS} buckets; got {bucket_s!r:.30}", field="bucket_s")  # fmt: skip
    first = int(since.timestamp()) // bucket_s
    last = -(-int(until.timestamp()) // bucket_s)
    begins, ends = (datetime.fromtimestamp(number * bucket_s, UTC) for number in (first, last))
    with database.reading() as session:
        found = task_statistics.ended_by_bucket(session, begins, ends, bucket_s)
    buckets = [
        {"at": datetime.fromtimestamp(number * bucket_s, UTC), **_of(found.get(number, {}))}
        for number in range(first, last)
    ]
    return {"since": begins, "until": ends, "bucket_s": bucket_s, "buckets": buckets}


def success_rate(ended: dict[str, int]) -> float | None:
    """Completed among completed and failed, 0–1; None if there are neither."""
    completed, failed = ended.get(TaskStatus.COMPLETED, 0), ended.get(TaskStatus.FAILED, 0)
    return completed / (completed + failed) if completed + failed else None


def _of(ended: dict[str, int]) -> dict[str, int]:
    return {str(status): ended.get(status, 0) for status in _ENDED}


def _span(since: datetime | None, until: datetime | None) -> tuple[datetime, datetime]:
    until = until or datetime.now(UTC)
    since = since or until - DEFAULT_SPAN
    if since.tzinfo is None or until.tzinfo is None:
        raise InvalidTask("since, until: expected aware times, as datetime.now(UTC)", field="since")
    if not timedelta(0) < until - since <= MAX_SPAN:
        raise InvalidTask(
            f"since: expected a time before until ({until.isoformat()}), by {MAX_SPAN.days} days at most, "
            f"got {since.isoformat()}",
            field="since",
        )
    return since, until
