"""Rows in a known state, made by the moves themselves, and the race in which two threads start together."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from models import database, task_moves, task_query
from models.task import Task, TaskAttempt, TaskStatus, WorkerProcess, new_task_id
from models.task_moves import Claim, Failure

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ALIVE_SINCE = NOW - timedelta(seconds=15)
FAILURE = Failure("ValueError", "what was raised", "Traceback …")


def new_task(**columns: Any) -> Task:
    """A row that is not stored yet."""
    made: dict[str, Any] = {
        "task_id": new_task_id(),
        "task_name": "diagnostics.run_self_test",
        "task_type": "health",
        "queue": "health",
        "created_at": NOW,
        "enqueued_at": NOW,
    }
    return Task(**made | columns)


def accepted(**columns: Any) -> str:
    """The id of a new pending row."""
    task = new_task(**columns)
    with database.writing() as session:
        assert task_moves.accept(session, task)
    return task.task_id


def beat(worker_id: str, at: datetime = NOW, *, stopped_at: datetime | None = None) -> None:
    """Write a worker's heartbeat."""
    with database.writing() as session:
        session.merge(
            WorkerProcess(
                worker_id=worker_id, hostname="h", pid=1, threads=1, started_at=at, heartbeat_at=at,
                stopped_at=stopped_at,
            )
        )  # fmt: skip


def claim(task_id: str, worker_id: str = "alive", *, message_attempt: int = 1) -> Any:
    """Claim in a transaction of its own."""
    with database.writing() as session:
        return task_moves.claim(
            session, task_id, message_attempt=message_attempt, worker_id=worker_id, now=NOW, alive_since=ALIVE_SINCE
        )


def running(worker_id: str = "alive") -> str:
    """The id of a row whose first attempt runs on this worker; alive only if it has a heartbeat."""
    task_id = accepted()
    assert isinstance(claim(task_id, worker_id), Claim)
    return task_id


def in_status(status: TaskStatus) -> str:
    """The id of a new row in this status; a running one is held by a live worker."""
    if status is TaskStatus.PENDING:
        return accepted()
    if status is TaskStatus.CANCELLED:
        task_id = accepted()
        with database.writing() as session:
            assert task_moves.cancel(session, task_id, by="test", now=NOW)
        return task_id
    beat("alive")
    task_id = running()
    with database.writing() as session:
        if status is TaskStatus.COMPLETED:
            assert task_moves.complete(session, task_id, attempt=1, result=1, now=NOW)
        if status is TaskStatus.FAILED:
            assert task_moves.fail(session, task_id, attempt=1, reason="x", failure=FAILURE, now=NOW)
    return task_id


def row(task_id: str) -> Task:
    """The row; it must be there."""
    with database.reading() as session:
        found = task_query.get(session, task_id)
    assert found is not None
    return found


def attempts(task_id: str) -> list[TaskAttempt]:
    """Its attempts."""
    with database.reading() as session:
        return task_query.attempts(session, task_id)


def everything(task_id: str) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """All that is stored of a task, to compare with later."""
    with database.reading() as session:
        found = task_query.get(session, task_id)
        return found and found.model_dump(), [one.model_dump() for one in task_query.attempts(session, task_id)]


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Call all of them in threads that start together; their results, or what they raised, in order."""
    barrier = threading.Barrier(len(calls))
    results: list[Any] = [None] * len(calls)

    def run(index: int, call: Callable[[], Any]) -> None:
        barrier.wait(timeout=10)
        try:
            results[index] = call()
        except Exception as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return results
