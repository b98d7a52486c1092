"""Rows in a known state, made by the moves themselves, and the race in which two threads start together."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from models import database, direct, task_moves, task_query
from models.task import AttemptOutcome, Task, TaskAttempt, TaskStatus, new_task_id
from models.task_moves import End, Loss, NewTask, Start

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)
WORKER = "w-1"


def new_task(**columns: Any) -> Task:
    """A row that is not stored yet, for tests of columns and tables."""
    made: dict[str, Any] = {
        "task_id": new_task_id(),
        "task_name": "diagnostics.run_self_test",
        "task_type": "health",
        "queue": "health",
        "created_at": NOW,
        "enqueued_at": NOW,
    }
    return Task(**made | columns)


def new_row(**fields: Any) -> NewTask:
    """What `task_moves.accept` takes."""
    made: dict[str, Any] = {
        "task_id": new_task_id(),
        "task_name": "diagnostics.run_self_test",
        "task_type": "health",
        "queue": "health",
        "created_at": NOW,
        "enqueued_at": NOW,
    }
    return NewTask(**made | fields)


def accepted(**fields: Any) -> str:
    """The id of a new pending row."""
    task = new_row(**fields)
    with direct.transaction() as to:
        assert task_moves.accept(to, [task]) == 1
    return task.task_id


def a_start(task_id: str, attempt: int = 1, worker_id: str = WORKER, **fields: Any) -> Start:
    """The start of an attempt, at NOW."""
    return Start(task_id, attempt, worker_id, NOW, **fields)


def an_end(task_id: str, attempt: int = 1, **fields: Any) -> End:
    """The end of an attempt that completed, a second after its start."""
    made: dict[str, Any] = {
        "worker_id": WORKER,
        "started_at": NOW,
        "finished_at": NOW + timedelta(seconds=1),
        "status": TaskStatus.COMPLETED,
        "outcome": AttemptOutcome.COMPLETED,
    }
    return End(task_id=task_id, attempt=attempt, **made | fields)


def start(task_id: str, attempt: int = 1, worker_id: str = WORKER, **fields: Any) -> bool:
    """Start in a transaction of its own; whether it was granted."""
    with direct.transaction() as to:
        return bool(task_moves.start(to, [a_start(task_id, attempt, worker_id, **fields)]))


def lose(task_id: str, attempt: int = 1, worker_id: str = WORKER) -> bool:
    """Declare an attempt lost with its worker, in a transaction of its own; whether it was."""
    with direct.transaction() as to:
        return bool(task_moves.lose(to, [Loss(task_id, attempt, worker_id)], NOW))


def end(task_id: str, attempt: int = 1, **fields: Any) -> bool:
    """End in a transaction of its own; whether the row moved."""
    with direct.transaction() as to:
        return bool(task_moves.end(to, [an_end(task_id, attempt, **fields)]))


def running(worker_id: str = WORKER) -> str:
    """The id of a row whose first attempt runs on this worker."""
    task_id = accepted()
    assert start(task_id, worker_id=worker_id)
    return task_id


def in_status(status: TaskStatus) -> str:
    """The id of a new row in this status."""
    if status is TaskStatus.PENDING:
        return accepted()
    if status is TaskStatus.CANCELLED:
        task_id = accepted()
        with direct.transaction() as to:
            assert task_moves.cancel(to, task_id, reason="by test", now=NOW)
        return task_id
    task_id = running()
    if status is TaskStatus.COMPLETED:
        assert end(task_id, result="1")
    if status is TaskStatus.FAILED:
        assert end(task_id, status=TaskStatus.FAILED, outcome=AttemptOutcome.FAILED, reason="x")
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
