"""What has changed in the status table lately, for who follows it; each question is answered by an index.

Must not: read the clock.
"""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import select
from sqlmodel import Session, col

from models.task import TaskStatus
from models.task_filter import NOT_COMPLETED
from models.task_tables import Task

_COLUMNS: Final = (
    col(Task.task_id), col(Task.task_name), col(Task.queue), col(Task.priority), col(Task.status), col(Task.reason),
    col(Task.attempt), col(Task.retry_count), col(Task.progress), col(Task.progress_message), col(Task.schedule_id),
    col(Task.completed_at),
)  # fmt: skip
Change = dict[str, object]
"""A row in short, by column."""


def sent_since(session: Session, since: datetime, *, limit: int) -> list[Change]:
    """Tasks whose ids were made at `since` (aware UTC) or later, newest first; ids that are no UUIDv7 are not seen."""
    first = str(uuid.UUID(int=int(since.timestamp() * 1000) << 80))
    statement = select(*_COLUMNS).where(col(Task.task_id) >= first).order_by(col(Task.task_id).desc()).limit(limit)
    return [dict(row) for row in session.execute(statement).mappings()]


def ended_since(session: Session, since: datetime, *, limit: int) -> list[Change]:
    """Tasks that ended at `since` (aware UTC) or later, last first."""
    at = col(Task.completed_at)
    statement = select(*_COLUMNS).where(at.is_not(None), at >= since).order_by(at.desc()).limit(limit)
    return [dict(row) for row in session.execute(statement).mappings()]


def running(session: Session, *, limit: int) -> list[Change]:
    """Tasks that run, oldest first."""
    statement = (
        select(*_COLUMNS)
        .where(col(Task.status) == TaskStatus.RUNNING, NOT_COMPLETED)
        .order_by(col(Task.task_id))
        .limit(limit)
    )
    return [dict(row) for row in session.execute(statement).mappings()]


def by_ids(session: Session, task_ids: Sequence[str]) -> list[Change]:
    """These tasks, those that there are."""
    return [dict(row) for row in session.execute(select(*_COLUMNS).where(col(Task.task_id).in_(task_ids))).mappings()]
