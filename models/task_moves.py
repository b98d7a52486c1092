"""The SQL of every move of a task's row. Each is compare-and-set: a late or repeated move changes nothing.

Who calls them: `workers.ledger` (accept, claim, outcomes), `workers.tasks` (cancel), `periodic.agenda` (accept).
Each takes an open session (`database.writing()`) and leaves the commit to it, so that moves can share a transaction.

The fence. `attempt` on the row is the number of the last attempt that was started, and an outcome carries the attempt
that it belongs to: the outcome of an attempt whose worker was declared lost is refused once another attempt has claimed
the row, and kept before that, because then it is still the truth.

What a crash leaves (each line is a test in tests/models/test_task_moves.py or tests/workers/test_ledger.py):
  after accept, before the message is on the bus   pending row without message: the relay's work (issue C); a
                                                   scheduled task is published by the next tick of the agenda
  after claim                                      running row of a dead worker: the message comes back, claim finds
                                                   the worker dead, records the attempt as lost and starts the next
  after an outcome, before the acknowledgement     the message comes back; claim refuses it if the row is terminal, and
                                                   starts the retry with it, not before its eta, if the row is pending

Must not: decide anything about retries, time limits or the bus.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, cast

from sqlalchemy import CursorResult, Executable, delete, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlmodel import Session, col

from models.columns import clean_text
from models.task import TERMINAL, AttemptOutcome, Task, TaskAttempt, TaskLog, TaskStatus, WorkerProcess

ERROR_MAX_CHARS = 16 * 1024
"""Bound of an error message and of a traceback (spec/security.md)."""
REASON_MAX_CHARS = 500
LOG_LINE_MAX_CHARS = 2_000
LOG_LINES_PER_ATTEMPT = 1_000
MAX_LOST_ATTEMPTS = 10
"""A task whose workers died this often is failed as poison. High, because innocents that share a process with a
poisonous task lose attempts too; telling them apart is the isolated child's work (issue C)."""


@dataclass(frozen=True)
class Failure:
    """What an attempt raised: type name, message and traceback, unbounded as they came."""

    error_type: str
    message: str
    traceback: str | None = None


@dataclass(frozen=True)
class Claim:
    """The right to run an attempt: its number, and what the row says that the run needs."""

    attempt: int
    retry_count: int
    correlation_id: str | None


@dataclass(frozen=True)
class NotYet:
    """The task waits for a retry until `eta`, and this message is an old one, which came back."""

    eta: datetime


class Refusal(Enum):
    """Why a message may not start its task."""

    UNKNOWN = "there is no row for it"
    SUPERSEDED = "its task has ended"
    RUNNING = "a live worker is running it"
    POISON = f"its worker died {MAX_LOST_ATTEMPTS} times"


def accept(session: Session, task: Task) -> bool:
    """→ pending. Insert the row; False if a row with this id is there already (then nothing changes)."""
    dialect_insert = postgres_insert if session.get_bind().dialect.name == "postgresql" else sqlite_insert
    statement = dialect_insert(Task).values(task.model_dump()).on_conflict_do_nothing(index_elements=["task_id"])
    # why: psycopg does not count the rows of such an insert.
    return session.execute(statement.returning(col(Task.task_id))).one_or_none() is not None


def withdraw(session: Session, task_id: str) -> bool:
    """Take back an accepted row whose message did not reach the bus. False if a worker has it already."""
    return _changed(
        session,
        delete(Task).where(
            col(Task.task_id) == task_id, col(Task.status) == TaskStatus.PENDING, col(Task.attempt) == 0
        ),
    )


def published(session: Session, task_id: str, at: datetime) -> None:
    """Record that the message of a row is on the bus; a worker may have it already. Leaves terminal rows alone."""
    session.execute(
        update(Task).where(col(Task.task_id) == task_id, col(Task.status).not_in(TERMINAL)).values(enqueued_at=at)
    )


def claim(
    session: Session,
    task_id: str,
    *,
    message_attempt: int,
    worker_id: str,
    now: datetime,
    alive_since: datetime,
    again: bool = False,
) -> Claim | Refusal | NotYet:
    """pending → running, or running → running if the worker that had it is dead.

    The bus holds one message a task, so a message of a pending row may start it. But if it was sent for an attempt that
    has been made already, its worker died between the commit of the retry and telling the bus: then it waits for `eta`,
    which a message that was sent for this attempt need not (the bus has kept it until then, by the bus's clock).

    Args:
        message_attempt: the attempt that the message was sent to start, 1 for the first.
        worker_id: who claims.
        now: aware UTC.
        alive_since: a worker whose heartbeat is older than this is dead.
        again: this worker made this claim before and never learned whether it was committed; if it was, it stands.

    Returns:
        The Claim, or why the message may not run. POISON has moved the row to failed.
    """
    started = session.execute(
        update(Task)
        .where(
            col(Task.task_id) == task_id,
            col(Task.status) == TaskStatus.PENDING,
            or_(col(Task.attempt) < message_attempt, col(Task.eta).is_(None), col(Task.eta) <= now),
        )
        .values(**_start(worker_id, now))
        .returning(col(Task.attempt), col(Task.retry_count), col(Task.correlation_id))
    ).one_or_none()
    if started is None:
        return _take_over(session, task_id, worker_id=worker_id, now=now, alive_since=alive_since, again=again)
    return _claimed(session, task_id, Claim(*started), worker_id, now)


def _take_over(
    session: Session, task_id: str, *, worker_id: str, now: datetime, alive_since: datetime, again: bool
) -> Claim | Refusal | NotYet:
    # why: locks task, then attempt, as the outcomes do; the other way round PostgreSQL would end a deadlock.
    found = session.execute(
        select(
            col(Task.status),
            col(Task.attempt),
            col(Task.worker_id),
            col(Task.retry_count),
            col(Task.correlation_id),
            col(Task.eta),
        )
        .where(col(Task.task_id) == task_id)
        .with_for_update()
    ).one_or_none()
    if found is None:
        return Refusal.UNKNOWN
    status, attempt, holder, retry_count, correlation_id, eta = found
    if status == TaskStatus.PENDING and eta is not None:
        return NotYet(eta)
    if status != TaskStatus.RUNNING:
        return Refusal.SUPERSEDED
    if again and holder == worker_id:
        return Claim(attempt, retry_count, correlation_id)
    if _is_alive(session, holder, alive_since):
        return Refusal.RUNNING
    lost = Failure("WorkerLost", f"worker {holder} died while it ran this attempt")
    _end_attempt(session, task_id, attempt, AttemptOutcome.LOST, now, lost)
    if _lost_attempts(session, task_id) >= MAX_LOST_ATTEMPTS:
        fail(session, task_id, attempt=attempt, reason="poison", failure=lost, now=now, outcome=AttemptOutcome.LOST)
        return Refusal.POISON
    started = session.execute(
        update(Task)
        .where(col(Task.task_id) == task_id, col(Task.status) == TaskStatus.RUNNING, col(Task.attempt) == attempt)
        .values(**_start(worker_id, now))
        .returning(col(Task.attempt), col(Task.retry_count), col(Task.correlation_id))
    ).one_or_none()
    return Refusal.RUNNING if started is None else _claimed(session, task_id, Claim(*started), worker_id, now)


def complete(session: Session, task_id: str, *, attempt: int, result: Any, now: datetime) -> bool:
    """running → completed. False if this attempt no longer holds the row."""
    moved = _outcome(
        session, task_id, attempt, status=TaskStatus.COMPLETED, result=result, progress=1.0, completed_at=now,
        eta=None, error_type=None, error_message=None,
    )  # fmt: skip
    return moved and _end_attempt(session, task_id, attempt, AttemptOutcome.COMPLETED, now, None)


def fail(
    session: Session,
    task_id: str,
    *,
    attempt: int,
    reason: str,
    failure: Failure,
    now: datetime,
    outcome: AttemptOutcome = AttemptOutcome.FAILED,
) -> bool:
    """running → failed for good. False if this attempt no longer holds the row."""
    moved = _outcome(
        session, task_id, attempt, status=TaskStatus.FAILED, reason=clean_text(reason, REASON_MAX_CHARS),
        completed_at=now, eta=None, **_error(failure),
    )  # fmt: skip
    return moved and _end_attempt(session, task_id, attempt, outcome, now, failure)


def fail_unstarted(session: Session, task_id: str, *, reason: str, failure: Failure, now: datetime) -> bool:
    """pending → failed: it can never start."""
    return _changed(
        session,
        update(Task)
        .where(col(Task.task_id) == task_id, col(Task.status) == TaskStatus.PENDING)
        .values(
            status=TaskStatus.FAILED,
            reason=clean_text(reason, REASON_MAX_CHARS),
            completed_at=now,
            eta=None,
            **_error(failure),
        ),
    )


def retry(session: Session, task_id: str, *, attempt: int, eta: datetime, failure: Failure, now: datetime) -> bool:
    """running → pending with one more retry counted. False if this attempt no longer holds the row."""
    moved = _outcome(
        session, task_id, attempt, status=TaskStatus.PENDING, eta=eta, enqueued_at=now, progress=None,
        progress_message=None, retry_count=col(Task.retry_count) + 1, **_error(failure),
    )  # fmt: skip
    return moved and _end_attempt(session, task_id, attempt, AttemptOutcome.RETRIED, now, failure)


def hand_back(session: Session, task_id: str, *, attempt: int, now: datetime) -> bool:
    """running → pending because the worker shuts down; no retry is counted. False if the attempt lost the row."""
    moved = _outcome(
        session, task_id, attempt, status=TaskStatus.PENDING, eta=None, enqueued_at=now, progress=None,
        progress_message=None,
    )  # fmt: skip
    return moved and _end_attempt(session, task_id, attempt, AttemptOutcome.SHUT_DOWN, now, None)


def skip(session: Session, task_id: str, *, attempt: int, reason: str, now: datetime) -> bool:
    """running → cancelled: the task, or a middleware, found that there is nothing to do."""
    moved = _outcome(
        session, task_id, attempt, status=TaskStatus.CANCELLED, completed_at=now, eta=None,
        reason=clean_text(f"skipped: {reason}", REASON_MAX_CHARS),
    )  # fmt: skip
    return moved and _end_attempt(session, task_id, attempt, AttemptOutcome.SKIPPED, now, None)


def outcome_of(session: Session, task_id: str, attempt: int) -> AttemptOutcome | None:
    """How an attempt is on record to have ended; None while it runs, or if there is no such attempt."""
    found = session.get(TaskAttempt, (task_id, attempt))
    return None if found is None or found.outcome is None else AttemptOutcome(found.outcome)


def cancel(session: Session, task_id: str, *, by: str, now: datetime) -> bool:
    """pending → cancelled. False if it is not pending (any more)."""
    return _changed(
        session,
        update(Task)
        .where(col(Task.task_id) == clean_text(task_id, 1_000), col(Task.status) == TaskStatus.PENDING)
        .values(
            status=TaskStatus.CANCELLED,
            reason=clean_text(f"by {by}", REASON_MAX_CHARS),
            cancel_requested_at=now,
            completed_at=now,
            eta=None,
        ),
    )


def report_progress(session: Session, task_id: str, *, attempt: int, progress: float, message: str | None) -> bool:
    """Write how far a running attempt is; changes no status. False if the attempt no longer holds the row."""
    values: dict[str, Any] = {"progress": min(max(0.0, progress), 1.0)}
    if message is not None:
        values["progress_message"] = clean_text(message, 500)
    return _outcome(session, task_id, attempt, **values)


def write_log(session: Session, task_id: str, *, attempt: int, level: str, message: str, now: datetime) -> bool:
    """Keep a log line with its attempt; False once the attempt has LOG_LINES_PER_ATTEMPT of them."""
    kept = session.execute(
        select(func.count())
        .select_from(TaskLog)
        .where(col(TaskLog.task_id) == task_id, col(TaskLog.attempt) == attempt)
    ).scalar_one()
    if kept >= LOG_LINES_PER_ATTEMPT:
        return False
    line = clean_text(message, LOG_LINE_MAX_CHARS)
    session.execute(
        insert(TaskLog).values(task_id=task_id, attempt=attempt, logged_at=now, level=level[:16], message=line)
    )
    return True


def _start(worker_id: str, now: datetime) -> dict[str, Any]:
    return {
        "status": TaskStatus.RUNNING,
        "attempt": col(Task.attempt) + 1,
        "worker_id": worker_id,
        "started_at": now,
        "eta": None,
        "progress": None,
        "progress_message": None,
    }


def _claimed(session: Session, task_id: str, granted: Claim, worker_id: str, now: datetime) -> Claim:
    session.execute(
        insert(TaskAttempt).values(task_id=task_id, number=granted.attempt, worker_id=worker_id, started_at=now)
    )
    return granted


def _outcome(session: Session, task_id: str, attempt: int, **values: Any) -> bool:
    return _changed(
        session,
        update(Task)
        .where(col(Task.task_id) == task_id, col(Task.status) == TaskStatus.RUNNING, col(Task.attempt) == attempt)
        .values(**values),
    )


def _end_attempt(
    session: Session, task_id: str, number: int, outcome: AttemptOutcome, now: datetime, failure: Failure | None
) -> bool:
    values: dict[str, Any] = {"outcome": outcome, "finished_at": now}
    if failure is not None:
        values |= _error(failure)
        values["traceback"] = failure.traceback and clean_text(failure.traceback, ERROR_MAX_CHARS)
    session.execute(
        update(TaskAttempt)
        .where(
            col(TaskAttempt.task_id) == task_id, col(TaskAttempt.number) == number, col(TaskAttempt.outcome).is_(None)
        )
        .values(**values)
    )
    return True


def _error(failure: Failure) -> dict[str, str]:
    return {
        "error_type": clean_text(failure.error_type, 200),
        "error_message": clean_text(failure.message, ERROR_MAX_CHARS),
    }


def _is_alive(session: Session, worker_id: str | None, alive_since: datetime) -> bool:
    found = session.execute(
        select(col(WorkerProcess.worker_id)).where(
            col(WorkerProcess.worker_id) == worker_id,
            col(WorkerProcess.heartbeat_at) >= alive_since,
            col(WorkerProcess.stopped_at).is_(None),
        )
    ).one_or_none()
    return found is not None


def _lost_attempts(session: Session, task_id: str) -> int:
    lost: int = session.execute(
        select(func.count())
        .select_from(TaskAttempt)
        .where(col(TaskAttempt.task_id) == task_id, col(TaskAttempt.outcome) == AttemptOutcome.LOST)
    ).scalar_one()
    return lost


def _changed(session: Session, statement: Executable) -> bool:
    """Whether the statement moved a row: the compare of compare-and-set."""
    return cast("CursorResult[Any]", session.execute(statement)).rowcount == 1
