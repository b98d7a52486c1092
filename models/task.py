"""What is said of a task: its statuses, the moves between them, its types and ids. Its tables are models.task_tables.

The life of a row (spec/runtime.md); every arrow is one function of `task_moves`:

    accept        → pending
    pending       → running      start
    running       → completed, failed, cancelled, or → pending for another attempt      end
    pending       → the same     end, of a short first attempt whose start was not written on its own
    running       → pending      lose: its worker is dead       (→ failed, if it must not run twice or is poison)
    pending       → cancelled    cancel
    pending       → failed       refuse: it can never start
    failed, cancelled → pending  reopen: an explicit retry, the only arrow out of a terminal row

`from models.task import Task` gives the table too, and loads SQLModel when that is said, not before: most processes
need these words only.

Must not: hold SQL that moves a row (task_moves) or that lists rows (task_query); import SQLModel.
"""

import hashlib
import os
import re
import time
import uuid
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.task_tables import Chore, IdempotencyKey, Task, TaskAttempt, TaskGroup, TaskLog, WorkerProcess

_TABLES = ("Chore", "IdempotencyKey", "Task", "TaskAttempt", "TaskGroup", "TaskLog", "WorkerProcess")
__all__ = [
    "DEFAULT_PRIORITY",
    "MAX_PRIORITY",
    "MIN_PRIORITY",
    "MOVES",
    "TERMINAL",
    "AttemptOutcome",
    "Chore",
    "FailureReason",
    "IdempotencyKey",
    "Task",
    "TaskAttempt",
    "TaskGroup",
    "TaskLog",
    "TaskStatus",
    "TaskType",
    "WorkerProcess",
    "derived_task_id",
    "new_task_id",
]

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


class FailureReason(StrEnum):
    """`background_tasks.reason` of a failed task. (Of a cancelled one it is `by …` or `skipped: …`.)"""

    RETRIES_EXHAUSTED = "retries exhausted"
    NOT_RETRYABLE = "not retryable"
    """It raised a PermanentError."""
    TIME_LIMIT = "time limit"
    RESULT_NOT_STORABLE = "result not storable"
    """It returned what JSON cannot hold, or too much of it."""
    OUTCOME_NOT_STORABLE = "outcome not storable"
    """The database refused what the attempt came to."""
    POISON = "poison"
    """It takes its workers down."""
    WORKER_LOST = "worker lost"
    """Its worker died or stopped under it, and it must not run twice (`on_lost="fail"`)."""
    UNDECODABLE = "undecodable"
    """Its message cannot be read."""


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


if not TYPE_CHECKING:  # why: type checkers take the import above, and would take any name for one of this function's.

    def __getattr__(name: str) -> Any:
        """A table, the first time it is asked for (PEP 562)."""
        if name not in _TABLES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from models import task_tables  # why: SQLModel and SQLAlchemy take 18 MB.

        return getattr(task_tables, name)
