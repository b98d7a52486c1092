"""Schedules and their runs, and the claim that makes a due time fire exactly once.

The claim: one transaction inserts the run (schedule + due time are its primary key), moves `next_run_at` by
compare-and-set and inserts the task's row. Of any number of scheduler processes one commits; the others find the run
taken. A process that dies before the commit has done nothing; one that dies after it leaves a pending task whose
`enqueued_at` is empty, which the next tick of any scheduler process publishes.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any, cast

from sqlalchemy import CursorResult, select, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Field, Session, SQLModel, col

from models.columns import JsonDocument, UtcDateTime


class RunOutcome(StrEnum):
    """What became of a due time."""

    SENT = "sent"
    SKIPPED_OVERLAP = "skipped_overlap"


class Schedule(SQLModel, table=True):
    """A recurring job. `next_run_at` is the only thing the scheduler looks at."""

    __tablename__ = "schedules"

    schedule_id: str = Field(primary_key=True, max_length=100)
    actor: str = Field(max_length=200)
    params: dict[str, Any] = Field(default_factory=dict, sa_type=JsonDocument)
    """Named arguments of each run."""
    trigger: dict[str, Any] = Field(sa_type=JsonDocument)
    """As `triggers.to_row` writes it."""
    enabled: bool = True
    priority: int | None = None
    """None: the actor's default."""
    max_retries: int = 3
    time_limit_s: int = 300
    origin: str = Field(default="declared", max_length=16)
    last_run_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    last_task_id: str | None = Field(default=None, max_length=64)
    next_run_at: datetime | None = Field(default=None, sa_type=UtcDateTime, index=True)
    run_count: int = 0
    error: str | None = Field(default=None, max_length=500)
    """Why it cannot run; None if it can."""


class ScheduleRun(SQLModel, table=True):
    """A due time that was dealt with; at most one row for each."""

    __tablename__ = "schedule_runs"

    schedule_id: str = Field(primary_key=True, max_length=100)
    due_at: datetime = Field(primary_key=True, sa_type=UtcDateTime)
    outcome: str = Field(max_length=32)
    reason: str | None = Field(default=None, max_length=500)
    task_id: str | None = Field(default=None, max_length=64)
    lateness_ms: int


def due(session: Session, now: datetime) -> list[Schedule]:
    """Enabled schedules whose time has come, the longest due first."""
    statement = (
        select(Schedule)
        .where(col(Schedule.enabled), col(Schedule.next_run_at) <= now)
        .order_by(col(Schedule.next_run_at))
    )
    return list(session.execute(statement).scalars())


def next_due_at(session: Session) -> datetime | None:
    """When the next enabled schedule is due; None if none will be."""
    statement = (
        select(col(Schedule.next_run_at))
        .where(col(Schedule.enabled), col(Schedule.next_run_at).is_not(None))
        .order_by(col(Schedule.next_run_at))
        .limit(1)
    )
    return session.execute(statement).scalars().first()


def claim(
    session: Session,
    schedule: Schedule,
    *,
    now: datetime,
    next_run_at: datetime | None,
    task_id: str | None,
    reason: str | None = None,
) -> bool:
    """Take a due time, inside the caller's transaction.

    False if another process has it, or if it was dealt with before; then at most `next_run_at` has moved on.

    Args:
        schedule: as read; its `next_run_at` is the due time.
        now: aware UTC.
        next_run_at: when it is due after this; None for never again.
        task_id: the task that is sent; None if the run is skipped, and then `reason` says why.
    """
    moved = session.execute(
        update(Schedule)
        .where(
            col(Schedule.schedule_id) == schedule.schedule_id,
            col(Schedule.enabled),
            col(Schedule.next_run_at) == schedule.next_run_at,
        )
        .values(next_run_at=next_run_at)
    )
    if cast("CursorResult[Any]", moved).rowcount != 1 or schedule.next_run_at is None:
        return False
    run = ScheduleRun(
        schedule_id=schedule.schedule_id,
        due_at=schedule.next_run_at,
        outcome=RunOutcome.SENT if task_id else RunOutcome.SKIPPED_OVERLAP,
        reason=reason,
        task_id=task_id,
        lateness_ms=max(0, round((now - schedule.next_run_at).total_seconds() * 1000)),
    )
    try:
        with session.begin_nested():
            session.add(run)
    except IntegrityError:
        return False  # why: the due time was dealt with before the schedule was edited back to it.
    if task_id is not None:
        session.execute(
            update(Schedule)
            .where(col(Schedule.schedule_id) == schedule.schedule_id)
            .values(last_run_at=now, last_task_id=task_id, run_count=col(Schedule.run_count) + 1)
        )
    return True
