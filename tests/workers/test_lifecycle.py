"""A task's row through the real worker, bus and database: each way that a life can take."""

from datetime import UTC, datetime, timedelta

import pytest
from dramatiq import Worker

from models import database, task_query
from models.task import TERMINAL, Task, TaskAttempt, TaskStatus
from tests.servers import wait_until
from workers import callboard, tasks
from workers.actors.diagnostics import run_self_test

pytestmark = pytest.mark.usefixtures("ledger_database")


def row(task_id: str) -> Task:
    found = tasks.get_task(task_id)
    assert found is not None
    return found


def ended(task_id: str) -> Task:
    wait_until(lambda: row(task_id).status in TERMINAL, within_s=20, what=f"the end of {task_id}")
    return row(task_id)


def attempts(task_id: str) -> list[TaskAttempt]:
    with database.reading() as session:
        return task_query.attempts(session, task_id)


def test_a_sent_task_is_pending_before_any_worker_looks(bus: object) -> None:
    message = run_self_test.send(steps=1, seconds=0)

    found = row(message.message_id)
    assert (found.status, found.attempt, found.started_at) == (TaskStatus.PENDING, 0, None)
    assert found.params == {"args": [], "kwargs": {"steps": 1, "seconds": 0}}


def test_a_task_runs_and_its_result_is_what_it_returned(worker: Worker) -> None:
    message = run_self_test.send(steps=2, seconds=0.02)

    found = ended(message.message_id)
    assert (found.status, found.result) == (TaskStatus.COMPLETED, {"steps": 2, "seconds": 0.02, "attempt": 1})
    assert found.started_at is not None
    assert found.completed_at is not None
    assert found.created_at <= found.started_at <= found.completed_at
    assert [(attempt.number, attempt.outcome) for attempt in attempts(message.message_id)] == [(1, "completed")]


def test_a_permanent_error_fails_at_once_and_says_why(worker: Worker) -> None:
    message = run_self_test.send(steps=3, seconds=0, fail_at=2)

    found = ended(message.message_id)
    assert (found.status, found.reason, found.error_type) == (TaskStatus.FAILED, "not retryable", "PermanentError")
    assert "step 2" in (found.error_message or "")
    assert found.retry_count == 0


def test_a_delayed_task_waits_for_its_time(worker: Worker) -> None:
    eta = datetime.now(UTC) + timedelta(seconds=1)
    message = run_self_test.send_with_options(kwargs={"steps": 1, "seconds": 0}, eta=eta)

    assert row(message.message_id).eta is not None
    found = ended(message.message_id)
    assert found.status == TaskStatus.COMPLETED
    assert found.started_at is not None
    assert found.started_at >= eta - timedelta(milliseconds=5)
    assert callboard.broker.get_declared_queues() >= {"health"}
