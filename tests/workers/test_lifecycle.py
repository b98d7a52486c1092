"""A task's row through the real worker, bus and database: each way that a life can take."""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dramatiq
import pytest
import redis
from dramatiq import Message, Worker

from models import database, direct, task_moves, task_query
from models.task import TaskLog, TaskStatus
from models.task_moves import NewTask
from tests import probes
from tests.servers import wait_until
from tests.workers.rows import ended, outcomes, row
from workers import callboard, tasks
from workers.actors.diagnostics import run_self_test
from workers.broker import Settlement, Verdict
from workers.broker.envelope import HEADER_BYTES
from workers.errors import InvalidTask
from workers.ledger.attempt import ENVELOPE

pytestmark = pytest.mark.usefixtures("ledger_database")


def logged(task_id: str) -> list[TaskLog]:
    with database.reading() as session:
        return task_query.logs(session, task_id)


@pytest.fixture
def paper(tmp_path: Path) -> Path:
    """Where probes leave their evidence."""
    return tmp_path / "evidence"


@pytest.mark.usefixtures("bus")
def test_a_sent_task_is_pending_before_any_worker_looks() -> None:
    message = run_self_test.send(steps=1, seconds=0)

    found = row(message.message_id)
    assert (found.status, found.attempt, found.started_at) == (TaskStatus.PENDING, 0, None)
    assert found.params == {"args": [], "kwargs": {"steps": 1, "seconds": 0}}
    assert (found.priority, found.queue, found.task_type) == (8, "health", "health")


def test_a_task_runs_and_its_result_is_what_it_returned(worker: Worker) -> None:
    message = run_self_test.send(steps=2, seconds=0.02)

    found = ended(message.message_id)
    assert (found.status, found.result) == (TaskStatus.COMPLETED, {"steps": 2, "seconds": 0.02, "attempt": 1})
    assert found.started_at is not None
    assert found.completed_at is not None
    assert found.created_at <= found.started_at <= found.completed_at
    assert outcomes(message.message_id) == ["completed"]
    assert [line.message for line in logged(message.message_id)] == ["step 1 of 2 done", "step 2 of 2 done"]
    assert found.progress == 1.0


def test_a_permanent_error_fails_at_once_and_says_why(worker: Worker) -> None:
    message = probes.refuse.send()

    found = ended(message.message_id)
    assert (found.status, found.reason, found.error_type) == (TaskStatus.FAILED, "not retryable", "PermanentError")
    assert found.error_message == "this will never work"
    assert (found.retry_count, outcomes(message.message_id)) == (0, ["failed"])


def test_failures_are_retried_and_the_row_says_when(worker: Worker, paper: Path) -> None:
    message = probes.fail_times.send_with_options(args=(str(paper), 1), min_backoff=1_500, max_backoff=1_500)

    wait_until(lambda: row(message.message_id).retry_count == 1, within_s=10, what="the first retry")
    waiting = row(message.message_id)
    assert (waiting.status, waiting.error_type) == (TaskStatus.PENDING, "ConnectionError")
    assert waiting.eta is not None
    found = ended(message.message_id)
    assert (found.status, found.result, found.retry_count) == (TaskStatus.COMPLETED, 2, 1)
    assert found.started_at is not None
    assert found.started_at >= waiting.eta - timedelta(milliseconds=50)
    assert (found.error_type, found.eta) == (None, None)
    assert outcomes(message.message_id) == ["retried", "completed"]
    assert probes.lines(paper) == ["ran", "ran"]


@pytest.mark.parametrize("name", ["throws", "retry_when"])
def test_what_the_policy_does_not_retry_says_so(worker: Worker, name: str) -> None:
    message = probes.unlucky.send() if name == "throws" else probes.choosy.send()

    found = ended(message.message_id)
    assert (found.status, found.reason, found.retry_count) == (TaskStatus.FAILED, "not retryable", 0)


def test_a_task_that_changes_its_arguments_is_tried_again_with_what_its_row_says(worker: Worker, paper: Path) -> None:
    message = probes.mutate.send_with_options(args=(str(paper), [1]), max_retries=2)

    found = ended(message.message_id)
    assert (found.status, found.reason, found.retry_count) == (TaskStatus.FAILED, "retries exhausted", 2)
    assert probes.lines(paper) == ["[1]"] * 3
    assert found.params["args"] == [str(paper), [1]]


def test_when_retries_are_exhausted_the_task_has_failed(worker: Worker, paper: Path) -> None:
    message = probes.fail_times.send_with_options(args=(str(paper), 99), max_retries=2)

    found = ended(message.message_id)
    assert (found.status, found.reason, found.retry_count) == (TaskStatus.FAILED, "retries exhausted", 2)
    assert outcomes(message.message_id) == ["retried", "retried", "failed"]
    assert probes.lines(paper) == ["ran"] * 3


def test_a_retry_policy_that_raises_loses_no_task(worker: Worker) -> None:
    message = probes.broken_policy.send()

    found = ended(message.message_id)
    assert (found.status, found.error_type) == (TaskStatus.FAILED, "ValueError")


def test_a_task_past_its_time_limit_says_so(worker: Worker) -> None:
    callboard.broker.emit_after("process_boot")  # why: it starts the time limit's clock, as a worker process does

    message = probes.too_long.send()

    found = ended(message.message_id)
    assert (found.status, found.reason, found.error_type) == (TaskStatus.FAILED, "time limit", "TimeLimitExceeded")


def test_time_limits_that_pass_just_as_tasks_end_kill_no_thread_and_leave_no_row_open(worker: Worker) -> None:
    callboard.broker.emit_after("process_boot")
    sent = [
        probes.linger.send_with_options(args=(0.2 + number % 20 / 200, number % 2 == 0), time_limit=1, max_retries=0)
        for number in range(40)
    ]

    found = [ended(message.message_id) for message in sent]

    assert {task.reason for task in found if task.status == TaskStatus.FAILED} <= {"time limit", "retries exhausted"}
    assert all(task.attempt == 1 for task in found)
    assert all(thread.is_alive() for thread in worker.workers)


def test_a_task_that_finds_nothing_to_do_ends_as_skipped_with_its_reason(worker: Worker) -> None:
    message = probes.skip.send()

    found = ended(message.message_id)
    assert (found.status, found.reason) == (TaskStatus.CANCELLED, "skipped: the feature is off")
    assert outcomes(message.message_id) == ["skipped"]


@pytest.mark.parametrize("task_id", ["x" * 100, "nul\x00nul"])
def test_a_message_that_can_have_no_row_goes_to_the_dead_letters_unrun(
    worker: Worker, paper: Path, task_id: str
) -> None:
    hostile = Message(
        queue_name="jobs", actor_name="plain_probe", args=(str(paper),), kwargs={}, options={}, message_id=task_id
    )

    callboard.broker.publish([hostile])
    after = probes.note.send(str(paper), "after")

    ended(after.message_id)
    wait_until(lambda: callboard.broker.depth("jobs").live == 0, within_s=10, what="an empty queue")
    assert "plain" not in probes.lines(paper) or database.engine().dialect.name == "sqlite"
    assert callboard.broker.depth("jobs").dead == (0 if "plain" in probes.lines(paper) else 1)


def test_a_foreign_message_whose_arguments_do_not_fit_goes_to_the_dead_letters(worker: Worker) -> None:
    foreign = Message(queue_name="jobs", actor_name="probes.add", args=(1, 2, 3), kwargs={}, options={})

    callboard.broker.publish([foreign])

    wait_until(lambda: callboard.broker.depth("jobs").dead == 1, within_s=10, what="a dead letter")
    assert tasks.get_task(foreign.message_id) is None


def test_a_result_that_json_cannot_hold_is_said_clearly(worker: Worker) -> None:
    message = probes.unstorable.send()

    found = ended(message.message_id)
    assert (found.status, found.reason) == (TaskStatus.FAILED, "result not storable")
    assert "send plain values or an id instead" in (found.error_message or "")


def test_no_warning_says_that_a_result_is_discarded(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        message = probes.add.send(1, 2)
        ended(message.message_id)

    assert row(message.message_id).result == 3
    assert caplog.text == ""


def test_async_actors_know_their_task(worker: Worker) -> None:
    callboard.broker.emit_after("process_boot")

    message = probes.later.send(7)

    assert ended(message.message_id).result == {"value": 7, "task_id": message.message_id}


def test_a_delayed_task_waits_for_its_time(worker: Worker) -> None:
    eta = datetime.now(UTC) + timedelta(seconds=1)

    message = run_self_test.send_with_options(kwargs={"steps": 1, "seconds": 0}, eta=eta)

    assert row(message.message_id).eta is not None
    found = ended(message.message_id)
    assert found.status == TaskStatus.COMPLETED
    assert found.started_at is not None
    assert found.started_at >= eta - timedelta(milliseconds=50)


def test_a_task_cancelled_while_pending_never_runs(
    bus: redis.Redis, paper: Path, request: pytest.FixtureRequest
) -> None:
    cancelled = probes.note.send(str(paper), "cancelled")
    after = probes.note.send(str(paper), "after")

    assert tasks.cancel_task(cancelled.message_id, by="test")
    request.getfixturevalue("worker")

    ended(after.message_id)
    wait_until(lambda: callboard.broker.depth("jobs").live == 0, within_s=10, what="an empty queue")
    assert probes.lines(paper) == ["after"]
    found = row(cancelled.message_id)
    assert (found.status, found.reason, found.attempt) == (TaskStatus.CANCELLED, "by test", 0)
    assert not tasks.cancel_task(cancelled.message_id)
    assert not tasks.cancel_task(after.message_id)


def test_a_message_delivered_twice_runs_once(bus: redis.Redis, paper: Path, request: pytest.FixtureRequest) -> None:
    message = probes.note.send(str(paper), "once", 0.2)
    callboard.broker.publish([message])
    callboard.broker.publish([message])

    request.getfixturevalue("worker")

    assert ended(message.message_id).status == TaskStatus.COMPLETED
    wait_until(lambda: callboard.broker.depth("jobs").live == 0, within_s=15, what="an empty queue")
    assert probes.lines(paper) == ["once"]
    assert outcomes(message.message_id) == ["completed"]


def test_a_message_from_plain_dramatiq_gets_a_row(worker: Worker, paper: Path) -> None:
    foreign = Message(queue_name="jobs", actor_name="plain_probe", args=(str(paper),), kwargs={}, options={})

    callboard.broker.publish([foreign])

    wait_until(lambda: tasks.get_task(foreign.message_id) is not None, within_s=10, what="its row")
    assert ended(foreign.message_id).status == TaskStatus.COMPLETED
    assert (row(foreign.message_id).priority, row(foreign.message_id).task_type) == (5, None)


def test_a_message_under_a_legacy_name_runs_its_actor(worker: Worker) -> None:
    older = Message(
        queue_name="health",
        actor_name="test_background_task",
        args=(1, 0),
        kwargs={},
        options={},
        message_id="legacy-1",
    )

    callboard.broker.publish([older])

    wait_until(lambda: tasks.get_task("legacy-1") is not None, within_s=10, what="its row")
    assert ended("legacy-1").task_name == "diagnostics.run_self_test"
    assert tasks.as_dict(row("legacy-1"))["params"] == {"steps": 1, "seconds": 0}


def test_a_task_of_an_actor_that_this_code_does_not_know_waits(
    worker: Worker, paper: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Trap 15: stock Dramatiq moves it to the dead letters."""
    message = probes.note.message(str(paper), "newer")
    newer = callboard.registry.actors.pop("probes.note")
    try:
        now = datetime.now(UTC)
        callboard.ledger.accept([NewTask(message.message_id, "probes.note", "jobs", created_at=now, enqueued_at=now)])
        callboard.broker.publish([message.copy(options={ENVELOPE: 1})])
        wait_until(lambda: "No actor 'probes.note'" in caplog.text, within_s=10, what="a worker to leave it to others")
        assert callboard.broker.depth("jobs").live == 1
        assert row(message.message_id).status == TaskStatus.PENDING
    finally:
        callboard.registry.actors["probes.note"] = newer
    found = ended(message.message_id)
    assert (found.status, found.attempt) == (TaskStatus.COMPLETED, 1)
    assert probes.lines(paper) == ["newer"]


def test_children_name_their_parent_and_share_its_correlation_id(worker: Worker, paper: Path) -> None:
    message = probes.parent.send_with_options(args=(str(paper),), correlation_id="request-7")

    child_id = ended(message.message_id).result
    child = ended(child_id)
    assert (child.parent_id, child.correlation_id) == (message.message_id, "request-7")


def test_pipelines_pass_results_on(worker: Worker) -> None:
    pipe = dramatiq.pipeline([probes.add.message(1, 2), probes.add.message(10)]).run()

    last = pipe.messages[-1].message_id
    wait_until(lambda: tasks.get_task(last) is not None, within_s=10, what="the row of the second step")
    assert ended(last).result == 13


def test_a_group_calls_back_when_its_last_member_is_done(worker: Worker, paper: Path) -> None:
    group = dramatiq.group([probes.add.message(1, 1), probes.add.message(2, 2)])
    group.add_completion_callback(probes.note.message(str(paper), "all done"))

    group.run()

    wait_until(lambda: probes.lines(paper) == ["all done"], within_s=10, what="the callback")


@pytest.mark.usefixtures("bus")
def test_parameters_that_are_no_json_are_refused_and_leave_no_row() -> None:
    with pytest.raises(InvalidTask, match=r"params\.line: .*send plain values or an id instead"):
        probes.note.send("path", line=object())

    assert tasks.get_task_count() == 0
    assert callboard.broker.depth("jobs").live == 0


@pytest.mark.usefixtures("bus")
def test_an_argument_that_the_actor_does_not_have_is_refused() -> None:
    with pytest.raises(InvalidTask, match="did you mean 'steps'"):
        run_self_test.send(stepps=3)

    assert tasks.get_task_count() == 0


def test_a_direct_call_runs_in_place_and_leaves_no_row() -> None:
    assert probes.add(2, 3) == 5
    assert run_self_test(steps=1, seconds=0) == {"steps": 1, "seconds": 0, "attempt": 1}
    assert tasks.get_task_count() == 0


@pytest.fixture
def held_back(bus: redis.Redis) -> Iterator[None]:
    """Nothing of the queue is handed out until the test resumes it."""
    callboard.broker.pause_queue("jobs")
    yield
    callboard.broker.resume_queue("jobs")


@pytest.mark.usefixtures("held_back")
def test_a_message_that_cannot_be_decoded_fails_its_row_and_a_retry_sends_it_anew(
    bus: redis.Redis, paper: Path, request: pytest.FixtureRequest
) -> None:
    spoiled, neighbour = (probes.note.send(str(paper), line).message_id for line in ("spoiled", "neighbour"))
    key = f"{{{callboard.broker.namespace}}}:messages"
    record = bus.hget(key, spoiled)
    assert isinstance(record, bytes)
    bus.hset(key, spoiled, record[:HEADER_BYTES] + b"\xff")
    callboard.broker.publish([probes.note.message_with_options(args=(str(paper),)).copy(message_id="of nobody")])
    bus.hset(key, "of nobody", record[:HEADER_BYTES] + b"\xff")

    request.getfixturevalue("worker")
    callboard.broker.resume_queue("jobs")

    found = ended(spoiled)
    assert (found.status, found.reason, found.error_type) == (TaskStatus.FAILED, "undecodable", "Undecodable")
    assert "in the dead letters of queue 'jobs'; retrying the task sends it anew" in (found.error_message or "")
    assert ended(neighbour).status == TaskStatus.COMPLETED
    wait_until(lambda: callboard.broker.depth("jobs").dead == 2, within_s=10, what="the dead letters")
    assert tasks.get_task("of nobody") is None
    with direct.transaction() as to:
        assert task_moves.reopen(to, spoiled)
    wait_until(lambda: row(spoiled).status == TaskStatus.COMPLETED, within_s=20, what="it to run from its row")
    assert sorted(probes.lines(paper)) == ["neighbour", "spoiled"]


def test_with_the_database_away_a_message_that_cannot_be_decoded_is_put_off(tmp_path: Path) -> None:
    settlement = Settlement("m", "jobs", "me", 1, Verdict.DEAD, reason="undecodable: garbage", claim=3)
    database.bind(f"sqlite:///{tmp_path / 'not there.db'}")

    put_off = callboard.ledger.fail_undecodable(settlement)

    assert (put_off.verdict, put_off.fence, put_off.claim) == (Verdict.DEFER, 1, 3)
    assert put_off.delay_ms
