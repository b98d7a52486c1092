"""The queries behind the views of what serves tasks: queues, worker processes, groups, the scheduler.

Must not: change a row, or know the bus.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, func, select
from sqlmodel import Session, col

from models.schedule import Schedule
from models.task import TaskStatus
from models.task_filter import NOT_COMPLETED
from models.task_tables import Task, TaskGroup, WorkerProcess
from models.text import clean_text


def to_purge(session: Session, queue: str, *, limit: int) -> list[str]:
    """Ids of pending tasks of a queue that nobody has asked to cancel yet, oldest first."""
    statement = select(col(Task.task_id)).where(*_purgeable(queue)).order_by(col(Task.task_id)).limit(limit)
    return list(session.execute(statement).scalars())


def count_to_purge(session: Session, queue: str) -> int:
    """How many `to_purge` would give without a limit."""
    return int(session.execute(select(func.count()).select_from(Task).where(*_purgeable(queue))).scalar_one())


def workers(session: Session, *, limit: int, offset: int, alive_since: datetime | None = None) -> list[WorkerProcess]:
    """Worker processes, last heard of first. alive_since: only those alive, see `task_query.live_workers`."""
    statement = select(WorkerProcess).order_by(col(WorkerProcess.heartbeat_at).desc(), col(WorkerProcess.worker_id))
    if alive_since is not None:
        statement = statement.where(
            col(WorkerProcess.heartbeat_at) >= alive_since, col(WorkerProcess.stopped_at).is_(None)
        )
    return list(session.execute(statement.limit(limit).offset(offset)).scalars())


def count_workers(session: Session, *, alive_since: datetime | None = None) -> int:
    """How many `workers` would give without a limit."""
    statement = select(func.count()).select_from(WorkerProcess)
    if alive_since is not None:
        statement = statement.where(
            col(WorkerProcess.heartbeat_at) >= alive_since, col(WorkerProcess.stopped_at).is_(None)
        )
    return int(session.execute(statement).scalar_one())


def running(session: Session, worker_ids: Sequence[str], *, limit: int) -> list[Task]:
    """Tasks that run on these workers, oldest first."""
    statement = (
        select(Task)
        .where(col(Task.status) == TaskStatus.RUNNING, NOT_COMPLETED, col(Task.worker_id).in_(worker_ids))
        .order_by(col(Task.task_id))
        .limit(limit)
    )
    return list(session.execute(statement).scalars())


def group(session: Session, group_id: str) -> tuple[TaskGroup | None, dict[str, int]]:
    """What is written of a group (None: it has no callbacks), and how many members it has by status."""
    asked = clean_text(group_id, 1_000)
    members = select(col(Task.status), func.count()).where(col(Task.group_id) == asked).group_by(col(Task.status))
    return session.get(TaskGroup, asked), {status: int(count) for status, count in session.execute(members)}


def members(session: Session, group_id: str, *, limit: int, offset: int) -> list[Task]:
    """Members of a group, oldest first."""
    statement = (
        select(Task).where(col(Task.group_id) == clean_text(group_id, 1_000)).order_by(col(Task.task_id)).limit(limit)
    )
    return list(session.execute(statement.offset(offset)).scalars())


def broken_schedules(session: Session, *, limit: int) -> list[Schedule]:
    """Enabled schedules that cannot run, by id."""
    statement = (
        select(Schedule)
        .where(col(Schedule.error).is_not(None), col(Schedule.enabled))
        .order_by(col(Schedule.schedule_id))
        .limit(limit)
    )
    return list(session.execute(statement).scalars())


def paused_schedules(session: Session, *, limit: int) -> list[str]:
    """Ids of the schedules that a person paused, in order."""
    statement = (
        select(col(Schedule.schedule_id))
        .where(col(Schedule.enabled).is_(False), col(Schedule.removed_at).is_(None))
        .order_by(col(Schedule.schedule_id))
        .limit(limit)
    )
    return list(session.execute(statement).scalars())


def _purgeable(queue: str) -> tuple[ColumnElement[bool], ...]:
    return (
        col(Task.status) == TaskStatus.PENDING,
        NOT_COMPLETED,
        col(Task.queue) == clean_text(queue, 1_000),
        col(Task.cancel_requested_at).is_(None),
    )
