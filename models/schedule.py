"""Schedules and their runs: the tables and what each column means.

A schedule's life:

    declared   its line stands in the timetable in force     (`declared` holds what the line says)
    removed    its line is gone: disabled, `removed_at` set; comes back with the line
    user       added by a person; may be deleted

What a person edits of a declared one is named in `overridden` and kept from there on; the rest follows the line.
How a due time is claimed: models.schedule_claim. What is due when: models.triggers. Which lines are in force:
models.timetable.

Must not: know actors, the bus, or the clock.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import func, select
from sqlmodel import Field, Session, SQLModel, col

from models.columns import JsonDocument, UtcDateTime
from models.task_tables import Task


class RunOutcome(StrEnum):
    """What became of a due time."""

    SENT = "sent"
    SKIPPED_OVERLAP = "skipped_overlap"
    """The run before was unfinished."""
    SKIPPED_MISFIRE = "skipped_misfire"
    """Nobody was awake at that time, and the schedule does not want it made up for."""


class Misfire(StrEnum):
    """What becomes of due times that have passed while no scheduler was awake."""

    SKIP = "skip"
    """They are left out, if they are later than `misfire_grace_s`."""
    RUN_ONCE = "run_once"
    """One run for all of them, for the latest."""
    RUN_ALL = "run_all"
    """A run each, the newest `catch_up_max` of them, oldest first; one after another unless overlap is `allow`."""


class Overlap(StrEnum):
    """What becomes of a due time while the run before is unfinished."""

    ALLOW = "allow"
    SKIP = "skip"
    CANCEL_RUNNING = "cancel_running"


class Origin(StrEnum):
    """Where a schedule comes from."""

    DECLARED = "declared"
    USER = "user"


class Schedule(SQLModel, table=True):
    """A recurring job. The scheduler looks at `next_run_at` and at nothing else to know what is due."""

    __tablename__ = "schedules"

    schedule_id: str = Field(primary_key=True, max_length=100)
    name: str = Field(default="", max_length=200)
    """For people; the id if nothing was said."""
    actor: str = Field(max_length=200)
    params: dict[str, Any] = Field(default_factory=dict, sa_type=JsonDocument)
    """Named arguments of each run."""
    trigger: dict[str, Any] = Field(sa_type=JsonDocument)
    """As `triggers.to_row` writes it."""
    time_zone: str = Field(default="UTC", max_length=64)
    start_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """Never due before; an interval is counted from it."""
    end_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """Never due after."""
    enabled: bool = True
    priority: int | None = None
    """None: the actor's default."""
    max_retries: int = 3
    time_limit_s: int = 300
    misfire: str = Field(default=Misfire.RUN_ONCE, max_length=16)
    misfire_grace_s: int = 60
    """So late a run still counts as on time."""
    catch_up_max: int = 100
    """Of `run_all`."""
    overlap: str = Field(default=Overlap.SKIP, max_length=16)
    jitter_s: int = 0
    """Each run starts up to so much later than it is due; how much depends on schedule and due time alone."""
    also_scheduled: str | None = Field(default=None, max_length=500)
    """Why the same job may be scheduled besides this one."""
    origin: str = Field(default=Origin.DECLARED, max_length=16)
    declared: dict[str, Any] | None = Field(default=None, sa_type=JsonDocument)
    """What the timetable's line says; None for a user's."""
    overridden: list[str] = Field(default_factory=list, sa_type=JsonDocument)
    """Names of the columns that a person has set otherwise than the line."""
    removed_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """Since when the timetable has no such line."""
    last_run_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When its last task was sent."""
    last_task_id: str | None = Field(default=None, max_length=64)
    next_run_at: datetime | None = Field(default=None, sa_type=UtcDateTime, index=True)
    """The due time that comes next; None if none will."""
    run_count: int = 0
    error: str | None = Field(default=None, max_length=500)
    """Why it cannot run; None if it can."""
    created_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    updated_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When a person or the timetable last changed it."""


class ScheduleRun(SQLModel, table=True):
    """A due time that was dealt with, or a row of them that was skipped at once."""

    __tablename__ = "schedule_runs"

    schedule_id: str = Field(primary_key=True, max_length=100)
    due_at: datetime = Field(primary_key=True, sa_type=UtcDateTime, index=True)
    """The due time; of several, the first. Of a run that a person asked for, when he did."""
    due_until: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """The last of several due times that were skipped at once; None for a single one."""
    due_count: int | None = 1
    """How many they are; None if they are too many to be counted."""
    outcome: str = Field(max_length=32)
    reason: str | None = Field(default=None, max_length=500)
    task_id: str | None = Field(default=None, max_length=64)
    lateness_ms: int
    """From the (first) due time to the claim."""


def find(session: Session, schedule_id: str, *, to_change: bool = False) -> Schedule | None:
    """A schedule, or None. to_change: no one else changes or claims it until the transaction ends."""
    statement = select(Schedule).where(col(Schedule.schedule_id) == schedule_id)
    return session.execute(statement.with_for_update() if to_change else statement).scalar_one_or_none()


def with_status(
    session: Session, *, only: str | None = None, limit: int | None = None, offset: int = 0
) -> list[tuple[Schedule, str | None]]:
    """Schedules in the order of their ids, each with the status of its last task. only: of this id."""
    statement = (
        select(Schedule, col(Task.status))
        .outerjoin(Task, col(Task.task_id) == col(Schedule.last_task_id))
        .order_by(col(Schedule.schedule_id))
        .limit(limit)
        .offset(offset)
    )
    if only is not None:
        statement = statement.where(col(Schedule.schedule_id) == only)
    return [(row[0], row[1]) for row in session.execute(statement)]


def by_ids(session: Session, schedule_ids: Sequence[str]) -> dict[str, Schedule]:
    """Those of these schedules that there are."""
    statement = select(Schedule).where(col(Schedule.schedule_id).in_(schedule_ids))
    return {row.schedule_id: row for row in session.execute(statement).scalars()}


def all_rows(session: Session) -> list[Schedule]:
    """Every schedule, in the order of their ids."""
    return list(session.execute(select(Schedule).order_by(col(Schedule.schedule_id))).scalars())


def ids(session: Session, *, limit: int) -> list[str]:
    """Ids of at most so many schedules."""
    return list(session.execute(select(col(Schedule.schedule_id)).limit(limit)).scalars())


def declared_ids(session: Session) -> list[str]:
    """Ids of the declared schedules that are not marked as removed."""
    statement = select(col(Schedule.schedule_id)).where(
        col(Schedule.origin) == Origin.DECLARED, col(Schedule.removed_at).is_(None)
    )
    return list(session.execute(statement).scalars())


def count(session: Session) -> int:
    """How many schedules there are."""
    return int(session.execute(select(func.count()).select_from(Schedule)).scalar_one())


def runs(
    session: Session, schedule_id: str, *, limit: int, before: datetime | None = None
) -> list[tuple[ScheduleRun, str | None]]:
    """What became of a schedule's due times, newest first, each with its task's status.

    Args:
        limit: at most so many.
        before: only due times before this.
    """
    statement = (
        select(ScheduleRun, col(Task.status))
        .outerjoin(Task, col(Task.task_id) == col(ScheduleRun.task_id))
        .where(col(ScheduleRun.schedule_id) == schedule_id)
        .order_by(col(ScheduleRun.due_at).desc())
        .limit(limit)
    )
    if before is not None:
        statement = statement.where(col(ScheduleRun.due_at) < before)
    return [(row[0], row[1]) for row in session.execute(statement)]
