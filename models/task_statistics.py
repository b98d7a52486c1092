"""How many tasks ended how, by time: read from the index on (completed_at, status) alone.

A task counts when it ended, whenever it was sent; one that was retried by hand counts once, when it ended last. What
retention has removed is not counted.

Must not: read the clock.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Integer, cast, func, select
from sqlmodel import Session, col

from models.task_tables import Task


def ended(session: Session, since: datetime, until: datetime) -> dict[str, int]:
    """Tasks that ended from `since` to before `until`, by status."""
    statement = select(col(Task.status), func.count()).where(*_between(since, until)).group_by(col(Task.status))
    return {status: int(count) for status, count in session.execute(statement)}


def ended_by_bucket(session: Session, since: datetime, until: datetime, bucket_s: int) -> dict[int, dict[str, int]]:
    """The same for each `bucket_s` seconds: by number of the bucket since 1970, those in which any ended."""
    if session.get_bind().dialect.name == "sqlite":
        # why cut: SQLite rounds to milliseconds, which would put the end of a second into the next one.
        second = func.strftime("%s", func.substr(col(Task.completed_at), 1, 19))
        bucket: ColumnElement[Any] = cast(second, Integer).op("/")(bucket_s)
    else:
        bucket = cast(func.floor(func.extract("epoch", col(Task.completed_at)) / bucket_s), Integer)
    numbered = bucket.label("bucket")
    statement = (
        select(numbered, col(Task.status), func.count())
        .where(*_between(since, until))
        .group_by(numbered, col(Task.status))
    )
    found: dict[int, dict[str, int]] = {}
    for number, status, count in session.execute(statement):
        found.setdefault(int(number), {})[status] = int(count)
    return found


def _between(since: datetime, until: datetime) -> tuple[ColumnElement[bool], ...]:
    at = col(Task.completed_at)
    # why the first: PostgreSQL knows that it follows from the others, SQLite does not take the partial index without.
    return at.is_not(None), at >= since, at < until
