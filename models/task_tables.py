"""The tables of tasks: a task's row, its attempts, its log lines and what belongs to them; what each column means and
who sets it. The life of a row is drawn in models.task, which gives these tables too.

Must not: hold SQL that moves a row (task_moves) or that lists rows (task_query).
"""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, Text, text
from sqlmodel import Field, SQLModel

from models.columns import JsonDocument, UtcDateTime
from models.task import DEFAULT_PRIORITY, TaskStatus


class Task(SQLModel, table=True):
    """One row a task: what was asked, where it stands, what came of it."""

    __tablename__ = "background_tasks"
    __table_args__ = (
        Index(
            "ix_background_tasks_not_completed",
            "status",
            "task_id",
            sqlite_where=text("status <> 'completed'"),
            postgresql_where=text("status <> 'completed'"),
        ),
        Index("ix_background_tasks_type_task_id", "task_type", "task_id"),
        Index("ix_background_tasks_name_task_id", "task_name", "task_id"),
        Index(
            "ix_background_tasks_completed_at",
            "completed_at",
            "status",
            sqlite_where=text("completed_at IS NOT NULL"),
            postgresql_where=text("completed_at IS NOT NULL"),
        ),
        Index(
            "ix_background_tasks_unpublished",
            "task_id",
            sqlite_where=text("status = 'pending' AND enqueued_at IS NULL"),
            postgresql_where=text("status = 'pending' AND enqueued_at IS NULL"),
        ),
        Index(
            "ix_background_tasks_group_id",
            "group_id",
            "status",
            sqlite_where=text("group_id IS NOT NULL"),
            postgresql_where=text("group_id IS NOT NULL"),
        ),
        Index(
            "ix_background_tasks_correlation",
            "correlation_id",
            "task_id",
            sqlite_where=text("correlation_id <> task_id"),
            postgresql_where=text("correlation_id <> task_id"),
        ),
        Index(
            "ix_background_tasks_parent",
            "parent_id",
            "task_id",
            sqlite_where=text("parent_id IS NOT NULL"),
            postgresql_where=text("parent_id IS NOT NULL"),
        ),
        Index(
            "ix_background_tasks_schedule",
            "schedule_id",
            "task_id",
            sqlite_where=text("schedule_id IS NOT NULL"),
            postgresql_where=text("schedule_id IS NOT NULL"),
        ),
        Index(
            "ix_background_tasks_tagged",
            "task_id",
            sqlite_where=text("CAST(tags AS TEXT) <> '[]'"),
            postgresql_where=text("CAST(tags AS TEXT) <> '[]'"),
        ),
        Index(
            "ix_background_tasks_cancel_requested",
            "task_id",
            sqlite_where=text("cancel_requested_at IS NOT NULL AND status IN ('pending', 'running')"),
            postgresql_where=text("cancel_requested_at IS NOT NULL AND status IN ('pending', 'running')"),
        ),
    )

    task_id: str = Field(primary_key=True, max_length=64)
    """The Dramatiq message id; a UUIDv7 when our Actor made it. Set by accept."""
    task_name: str = Field(max_length=200)
    """The actor's canonical name."""
    task_type: str | None = Field(default=None, max_length=32)
    """The actor's TaskType; None for an actor that declares none."""
    queue: str = Field(max_length=100)
    priority: int = DEFAULT_PRIORITY
    """1–10, higher starts first."""
    status: str = Field(default=TaskStatus.PENDING, max_length=16)
    reason: str | None = Field(default=None, max_length=500)
    """Why it is failed or cancelled. Set with the terminal status."""
    params: dict[str, Any] = Field(default_factory=dict, sa_type=JsonDocument)
    """{"args": [...], "kwargs": {...}} as sent."""
    options: dict[str, Any] = Field(default_factory=dict, sa_type=JsonDocument)
    """The message options needed to send it again."""
    result: Any = Field(default=None, sa_type=JsonDocument, nullable=True)
    """What the function returned in the attempt that completed."""
    result_pruned_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    error_type: str | None = Field(default=None, max_length=200)
    error_message: str | None = Field(default=None, sa_type=Text)
    """The last attempt's error, also while a retry is waited for."""
    attempt: int = 0
    """Number of the last attempt that a worker started; 0 before the first. The fence of every outcome."""
    retry_count: int = 0
    """Failed attempts that led to a retry. A lost worker does not count."""
    max_retries: int = 3
    progress: float | None = None
    """0–1, as the task reported it."""
    progress_message: str | None = Field(default=None, max_length=500)
    worker_id: str | None = Field(default=None, max_length=200)
    """The worker that runs it, or ran it last."""
    correlation_id: str | None = Field(default=None, max_length=100)
    parent_id: str | None = Field(default=None, max_length=64)
    group_id: str | None = Field(default=None, max_length=64)
    schedule_id: str | None = Field(default=None, max_length=100)
    idempotency_key: str | None = Field(default=None, max_length=200)
    tags: list[str] = Field(default_factory=list, sa_type=JsonDocument)
    eta: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """Not before this time: a delay or a retry's back-off."""
    created_at: datetime = Field(sa_type=UtcDateTime)
    enqueued_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When its message was last put on the bus; None while that is still to be done."""
    started_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """Start of the last attempt."""
    completed_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When it became terminal."""
    cancel_requested_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class TaskAttempt(SQLModel, table=True):
    """One row an attempt; `outcome` is None while it runs."""

    __tablename__ = "task_attempts"
    __table_args__ = {"sqlite_with_rowid": False}

    task_id: str = Field(primary_key=True, max_length=64)
    number: int = Field(primary_key=True)
    worker_id: str = Field(max_length=200)
    started_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """None: the worker that had it vanished, and whether it had begun is not known."""
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    outcome: str | None = Field(default=None, max_length=16)
    error_type: str | None = Field(default=None, max_length=200)
    error_message: str | None = Field(default=None, sa_type=Text)
    traceback: str | None = Field(default=None, sa_type=Text)


class TaskLog(SQLModel, table=True):
    """A line that a task logged through `current_task().log`."""

    __tablename__ = "task_logs"
    __table_args__ = (Index("ix_task_logs_task_id", "task_id", "id"),)

    id: int | None = Field(default=None, primary_key=True)
    task_id: str = Field(max_length=64)
    attempt: int
    logged_at: datetime = Field(sa_type=UtcDateTime)
    level: str = Field(max_length=16)
    message: str = Field(sa_type=Text)


class WorkerProcess(SQLModel, table=True):
    """A worker process that says it is alive; `running` rows name one of these."""

    __tablename__ = "workers"

    worker_id: str = Field(primary_key=True, max_length=200)
    hostname: str = Field(max_length=200)
    pid: int
    threads: int
    started_at: datetime = Field(sa_type=UtcDateTime)
    heartbeat_at: datetime = Field(sa_type=UtcDateTime)
    """Rewritten every few seconds; older than the presence time-out means dead."""
    stopped_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    queues: list[str] | None = Field(default=None, sa_type=JsonDocument)
    """Those that it serves, set by itself with each heartbeat; None: not known."""

    def serves(self, queue: str) -> bool:
        """Whether tasks of that queue may run there, as far as is known."""
        return self.queues is None or queue in self.queues


class IdempotencyKey(SQLModel, table=True):
    """Which task a key stands for: while that task is pending or running, and until `held_until` if that is given."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index("ix_idempotency_keys_task_id", "task_id"),)

    key: str = Field(primary_key=True, max_length=200)
    task_id: str = Field(max_length=64)
    held_until: datetime | None = Field(default=None, sa_type=UtcDateTime)


class TaskGroup(SQLModel, table=True):
    """A group with completion callbacks (models.task_groups): they are sent once, when all its members are completed.

    The callbacks themselves stand in the options of each member.
    """

    __tablename__ = "task_groups"

    group_id: str = Field(primary_key=True, max_length=64)
    size: int
    """Members that must be completed."""
    parent_id: str | None = Field(default=None, max_length=64)
    """The task that ran the group."""
    correlation_id: str | None = Field(default=None, max_length=100)
    created_at: datetime = Field(sa_type=UtcDateTime)
    completed_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When the last member was counted; the rows of the callbacks were written with it."""


class Chore(SQLModel, table=True):
    """A piece of upkeep that one process at a time does for all (workers.ledger.upkeep): who, when, what it found."""

    __tablename__ = "chores"

    name: str = Field(primary_key=True, max_length=50)
    holder: str = Field(max_length=200)
    held_until: datetime = Field(sa_type=UtcDateTime)
    """It is being done, and by nobody else, until then."""
    steady_since: datetime = Field(sa_type=UtcDateTime)
    """Since when it has been done regularly."""
    last_run_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When the last run that succeeded began."""
    took_ms: int | None = None
    findings: dict[str, Any] = Field(default_factory=dict, sa_type=JsonDocument)
    """Of that run: counts by name."""
    error: str | None = Field(default=None, sa_type=Text)
    """What the last run failed with, if it did."""
