"""A task's row, its attempts and its log lines: what each column means and who sets it.

The life of a row (spec/runtime.md); every arrow is one function of `task_moves`:

    accept        → pending
    pending       → running      start
    running       → completed, failed, cancelled, or → pending for another attempt      end
    pending       → the same     end, of a short first attempt whose start was not written on its own
    running       → pending      lose: its worker is dead       (→ failed, if it must not run twice or is poison)
    pending       → cancelled    cancel
    pending       → failed       refuse: it can never start
    failed, cancelled → pending  reopen: an explicit retry, the only arrow out of a terminal row

Must not: hold SQL that moves a row (task_moves) or that lists rows (task_query).
"""

import hashlib
import os
import re
import time
import uuid
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Index, Text, text
from sqlmodel import Field, SQLModel

from models.columns import JsonDocument, UtcDateTime

MIN_PRIORITY = 1
MAX_PRIORITY = 10
DEFAULT_PRIORITY = 5


class TaskStatus(StrEnum):
    """The five values of `background_tasks.status`."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class TaskType(StrEnum):
    """What kind of work a task is; the kind decides its default queue and priority (workers.registry)."""

    EMAIL = "email"
    REPORT = "report"
    ANALYTICS = "analytics"
    CLEANUP = "cleanup"
    INTEGRATION = "integration"
    NETWORK = "network"
    MEDIA = "media"
    TICKET = "ticket"
    JOB = "job"
    HEALTH = "health"


class AttemptOutcome(StrEnum):
    """How an attempt ended; None while it runs."""

    COMPLETED = "completed"
    FAILED = "failed"
    RETRIED = "retried"
    LOST = "lost"
    """Its worker died, or was cut off, with it."""
    CRASHED = "crashed"
    """It took down a process in which it ran alone."""
    SHUT_DOWN = "shut_down"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


MOVES: dict[TaskStatus, frozenset[TaskStatus]] = {
    TaskStatus.PENDING: frozenset({TaskStatus.RUNNING, TaskStatus.CANCELLED, TaskStatus.FAILED}),
    TaskStatus.RUNNING: frozenset(
        {TaskStatus.RUNNING, TaskStatus.PENDING, TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED}
    ),
    TaskStatus.COMPLETED: frozenset(),
    TaskStatus.FAILED: frozenset(),
    TaskStatus.CANCELLED: frozenset(),
}
"""The allowed moves. `task_moves` enforces them in each statement's WHERE; a test compares the two."""

TERMINAL = frozenset(status for status, targets in MOVES.items() if not targets)


def new_task_id() -> str:
    """A UUIDv7 (RFC 9562 §5.7) as text: 48 bits of Unix milliseconds, then randomness, so rows arrive in key order."""
    return _uuid7(time.time_ns() // 1_000_000, os.urandom(10))


def derived_task_id(of: str, slot: str, *, created_at: datetime | None = None) -> str:
    """The id of what a task or a group causes in one of its slots: the same each time, so that it is sent once.

    Args:
        of: the task's or the group's id.
        slot: what it is to it, for instance `on_success`.
        created_at: of a group, whose id says no time; of a task the time in its id is taken over.
    """
    digest = hashlib.sha256(f"{of}/{slot}".encode("utf-8", "surrogatepass")).digest()
    if created_at is not None:
        return _uuid7(int(created_at.timestamp() * 1000), digest[:10])
    if _UUID7.fullmatch(of):
        return _uuid7(int(of[:8] + of[9:13], 16), digest[:10])
    return str(uuid.UUID(bytes=digest[:16], version=5))


_UUID7 = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def _uuid7(unix_ms: int, randomness: bytes) -> str:
    low = int.from_bytes(randomness)
    text = f"{(unix_ms << 80 | low & 0x0FFF_3FFF_FFFF_FFFF_FFFF | 0x7000_8000_0000_0000_0000):032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


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
    last_run_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    took_ms: int | None = None
    findings: dict[str, Any] = Field(default_factory=dict, sa_type=JsonDocument)
    """Of the last run: counts by name."""
    error: str | None = Field(default=None, sa_type=Text)
    """What the last run ended with, if it failed."""
