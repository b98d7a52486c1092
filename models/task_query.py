"""The one query object behind API, CLI and dashboard: a filter in, rows and counts out.

Must not: change a row.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, literal_column, select, text
from sqlmodel import Session, col

from models.task import TaskStatus, TaskType
from models.task_tables import Task, TaskAttempt, TaskLog, WorkerProcess
from models.text import clean_text

MAX_PAGE = 1_000
MAX_OFFSET = 2**63 - 1
"""What both databases can count to."""
NOT_COMPLETED = literal_column("background_tasks.status") != literal_column("'completed'")
"""Word for word the condition of the index that holds what is not completed: SQLite uses it only then."""

EXACT_UP_TO = 100_000
"""More rows than this are counted by estimate where the database has one."""
_ESTIMATE = text(
    "SELECT coalesce(greatest(reltuples, 0) / nullif(relpages, 0)"
    " * (pg_relation_size(oid) / current_setting('block_size')::int), 0)"
    " FROM pg_class WHERE oid = 'background_tasks'::regclass"
)
"""As the planner does it: rows a page when last analysed, times the pages of now."""


@dataclass(frozen=True)
class TaskFilter:
    """Which tasks are meant; None leaves a field open."""

    status: TaskStatus | None = None
    task_type: TaskType | None = None
    task_name: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """The filter as SQL conditions, all of which must hold."""
        wanted: dict[Any, str | None] = {
            col(Task.status): self.status,
            col(Task.task_type): self.task_type,
            col(Task.task_name): self.task_name,
        }
        found = [column == _storable(value) for column, value in wanted.items() if value is not None]
        if self.status not in (None, TaskStatus.COMPLETED):
            found.append(NOT_COMPLETED)
        return found


def get(session: Session, task_id: str) -> Task | None:
    """The row, or None."""
    return session.get(Task, _storable(task_id))


def page(
    session: Session, wanted: TaskFilter, *, limit: int = 100, offset: int = 0, before_id: str | None = None
) -> list[Task]:
    """Rows, newest first (ids are time-ordered).

    Args:
        limit: 1–1000 rows.
        offset: rows to pass over, 0 or more. All of them are read: far into a large table use `before_id`.
        before_id: the last id of the page before; costs the same wherever it is.

    Raises:
        ValueError: naming limit or offset, with its bounds.
    """
    if not 1 <= limit <= MAX_PAGE:
        raise ValueError(f"limit: expected 1–{MAX_PAGE}, got {limit}")
    if not 0 <= offset <= MAX_OFFSET:
        raise ValueError(f"offset: expected 0–{MAX_OFFSET}, got {offset}")
    conditions = wanted.conditions()
    if before_id is not None:
        conditions.append(col(Task.task_id) < _storable(before_id))
    statement = select(Task).where(*conditions).order_by(col(Task.task_id).desc()).limit(limit).offset(offset)
    return list(session.execute(statement).scalars())


def count(session: Session, wanted: TaskFilter) -> int:
    """How many rows match.

    Completed tasks are in no index of their own, and counting them means reading them all: they are all rows but those
    of other statuses. All rows are estimated on PostgreSQL from EXACT_UP_TO on; SQLite has no estimate, and reads its
    smallest index.
    """
    if wanted == TaskFilter():
        return _count_all(session)
    if wanted == TaskFilter(status=TaskStatus.COMPLETED):
        others: int = session.execute(select(func.count()).select_from(Task).where(NOT_COMPLETED)).scalar_one()
        return max(0, _count_all(session) - others)
    matching: int = session.execute(select(func.count()).select_from(Task).where(*wanted.conditions())).scalar_one()
    return matching


def _count_all(session: Session) -> int:
    if session.get_bind().dialect.name == "postgresql":
        estimated = int(session.execute(_ESTIMATE).scalar_one())
        if estimated > EXACT_UP_TO:
            return estimated
    counted: int = session.execute(select(func.count()).select_from(Task)).scalar_one()
    return counted


def attempts(session: Session, task_id: str) -> list[TaskAttempt]:
    """A task's attempts, first to last."""
    statement = (
        select(TaskAttempt).where(col(TaskAttempt.task_id) == _storable(task_id)).order_by(col(TaskAttempt.number))
    )
    return list(session.execute(statement).scalars())


def logs(session: Session, task_id: str, *, after_id: int = 0) -> list[TaskLog]:
    """A task's log lines in order; only those after `after_id`, for following it."""
    statement = (
        select(TaskLog)
        .where(col(TaskLog.task_id) == _storable(task_id), col(TaskLog.id) > after_id)
        .order_by(col(TaskLog.id))
    )
    return list(session.execute(statement).scalars())


def oldest_pending(session: Session) -> Task | None:
    """The pending task that has waited longest on the bus, delayed ones left out; None if nothing waits."""
    statement = (
        select(Task)
        .where(col(Task.status) == TaskStatus.PENDING, NOT_COMPLETED, col(Task.eta).is_(None))
        .order_by(col(Task.task_id))
        .limit(1)
    )
    return session.execute(statement).scalars().first()


def live_workers(session: Session, since: datetime) -> list[WorkerProcess]:
    """Worker processes that have not stopped and were heard of at `since` (aware UTC) or later."""
    statement = select(WorkerProcess).where(
        col(WorkerProcess.heartbeat_at) >= since, col(WorkerProcess.stopped_at).is_(None)
    )
    return list(session.execute(statement).scalars())


def _storable(asked: str) -> str:
    """Text to compare with: PostgreSQL raises for NUL and lone surrogates, which no row can hold anyway."""
    return clean_text(asked, 1_000)
