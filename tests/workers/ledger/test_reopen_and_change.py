"""Retry and change of one task, and what a crash or an outage between their steps leaves."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dramatiq import Worker
from sqlalchemy import update

from models import database, direct, task_changes
from models.task import Task, TaskStatus
from tests import probes
from tests.servers import OwnRedis, wait_until
from workers import callboard, tasks
from workers.broker import BusUnavailable
from workers.errors import InvalidTask, TaskRefused
from workers.ledger.change import ChangeOutcome, change
from workers.ledger.reconcile import to_bus
from workers.ledger.relay import relay

PENDING, RUNNING, COMPLETED, FAILED, CANCELLED = TaskStatus
HOUR = timedelta(hours=1)


def status_of(task_id: str) -> str:
    found = tasks.get_task(task_id)
    assert found is not None
    return found.status


def ended(task_id: str) -> bool:
    return status_of(task_id) in ("completed", "failed", "cancelled")


def test_a_failed_task_runs_again_under_its_id_with_its_attempts_numbered_on(
    ledger_database: str, worker: Worker, tmp_path: Path
) -> None:
    task_id = probes.fail_times.send_with_options(args=(str(tmp_path / "e"), 1), max_retries=0).message_id
    wait_until(lambda: ended(task_id), within_s=15, what="the failure")
    assert status_of(task_id) == FAILED

    tasks.retry_task(task_id, by="Ada")

    wait_until(lambda: status_of(task_id) == COMPLETED, within_s=15, what="the second attempt")
    found = tasks.get_task(task_id)
    assert found is not None
    assert (found.retry_count, found.result, found.reason) == (0, 2, None)
    assert [(one["number"], one["outcome"]) for one in tasks.attempts(task_id)] == [(1, "failed"), (2, "completed")]
    assert tasks.logs(task_id)[0]["message"] == "retried by Ada; it was failed: retries exhausted"


def test_a_cancelled_task_runs_after_a_retry_though_the_bus_had_been_told_to_refuse_it(
    ledger_database: str, bus: object, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    task_id = probes.note.send(str(tmp_path / "e")).message_id
    callboard.broker.remove("jobs", task_id)
    assert tasks.cancel_task(task_id)
    with database.writing() as session:
        session.execute(update(Task).values(status=CANCELLED))

    tasks.retry_task(task_id)

    request.getfixturevalue("worker")
    wait_until(lambda: ended(task_id), within_s=15, what="its run")
    assert (status_of(task_id), probes.lines(tmp_path / "e")) == (COMPLETED, ["ran"])


@pytest.mark.parametrize("status", [PENDING, RUNNING, COMPLETED])
def test_only_failed_and_cancelled_tasks_are_retried(system: object, status: TaskStatus) -> None:
    task_id = probes.add.send(1, 2).message_id
    with database.writing() as session:
        session.execute(update(Task).values(status=status))

    with pytest.raises(TaskRefused, match=f"is {status}: only failed and cancelled tasks .* enqueue it anew"):
        tasks.retry_task(task_id)

    assert status_of(task_id) == status


def test_a_retry_does_not_make_two_of_one_idempotency_key(ledger_database: str, bus: object) -> None:
    first = probes.add.send_with_options(args=(1, 2), idempotency_key="k").message_id
    assert tasks.cancel_task(first)
    second = probes.add.send_with_options(args=(1, 2), idempotency_key="k").message_id
    assert second != first

    with pytest.raises(TaskRefused, match="another task has its idempotency key"):
        tasks.retry_task(first)

    assert status_of(first) == CANCELLED
    assert tasks.cancel_task(second)
    tasks.retry_task(first)
    third = probes.add.send_with_options(args=(1, 2), idempotency_key="k").message_id
    assert third == first


def test_with_redis_away_nothing_is_retried_or_changed(ledger_database: str, own_redis: OwnRedis) -> None:
    cancelled, waiting = probes.add.send(1, 2).message_id, probes.add.send(1, 2).message_id
    assert tasks.cancel_task(cancelled)
    own_redis.kill()

    for ask in (lambda: tasks.retry_task(cancelled), lambda: tasks.change_task(waiting, priority=9)):
        with pytest.raises(BusUnavailable):
            ask()

    assert (status_of(cancelled), status_of(waiting)) == (CANCELLED, PENDING)
    found = tasks.get_task(waiting)
    assert found is not None
    assert found.priority != 9
    own_redis.start()
    wait_until(lambda: callboard.broker.is_bus_up, within_s=10, what="the bus to be tried again")


def test_who_is_changed_to_a_higher_priority_starts_first(
    ledger_database: str, bus: object, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    ids = [probes.note.send(str(tmp_path / "e"), str(number), 0.05).message_id for number in range(40)]

    tasks.change_task(ids[-1], priority=10)

    found = tasks.get_task(ids[-1])
    assert found is not None
    assert (found.priority, found.status) == (10, PENDING)
    assert callboard.broker.records([ids[-1]])[0].options["priority"] == 10  # type: ignore[union-attr]
    request.getfixturevalue("worker")
    wait_until(lambda: probes.lines(tmp_path / "e"), within_s=15, what="the first start")
    assert "39" in probes.lines(tmp_path / "e")[:8]
    wait_until(lambda: all(ended(one) for one in ids), within_s=30, what="all to end")
    assert sorted(probes.lines(tmp_path / "e")) == sorted(map(str, range(40)))


def test_a_delayed_task_that_is_told_to_run_at_once_does(ledger_database: str, worker: Worker, tmp_path: Path) -> None:
    message = probes.note.send_with_options(args=(str(tmp_path / "e"),), delay=HOUR)

    tasks.change_task(message.message_id, eta=None)

    wait_until(lambda: status_of(message.message_id) == COMPLETED, within_s=15, what="its run")
    assert probes.lines(tmp_path / "e") == ["ran"]


def test_a_task_that_is_put_off_waits_for_its_new_time(ledger_database: str, bus: object) -> None:
    task_id = probes.add.send(1, 2).message_id
    eta = datetime.now(UTC) + HOUR

    tasks.change_task(task_id, eta=eta)

    found = tasks.get_task(task_id)
    assert found is not None
    assert found.eta == eta
    depth = callboard.broker.depth("jobs")
    assert (depth.waiting, depth.delayed) == (0, 1)


@pytest.mark.parametrize("crash_after", ["taken off", "row"])
def test_a_crash_in_a_change_leaves_the_task_as_it_was_or_as_it_is_to_be(
    ledger_database: str, bus: object, crash_after: str
) -> None:
    task_id = probes.add.send_with_options(args=(1, 2), delay=HOUR).message_id
    eta = datetime.now(UTC) + 2 * HOUR
    callboard.broker.take_off("jobs", task_id, tombstone_s=0.0)
    if crash_after == "row":
        with direct.transaction() as to:
            assert task_changes.change(to, task_id, {"eta": eta}, lost=None, now=eta)
    with database.writing() as session:
        session.execute(update(Task).where(Task.enqueued_at.is_not(None)).values(  # type: ignore[union-attr]  # a column
            enqueued_at=datetime.now(UTC) - HOUR))  # fmt: skip

    to_bus(callboard.ledger, callboard.broker)
    relay(callboard.broker, grace_s=0.0)

    found = tasks.get_task(task_id)
    assert found is not None
    assert found.eta is not None
    assert (found.eta == eta) is (crash_after == "row")
    assert callboard.broker.depth("jobs").delayed == 1
    assert callboard.broker.records([task_id])[0].options["eta"] == round(found.eta.timestamp() * 1000)  # type: ignore[union-attr]


def test_what_a_worker_has_is_not_changed(ledger_database: str, worker: Worker, tmp_path: Path) -> None:
    task_id = probes.note.send(str(tmp_path / "e"), "ran", 1.0).message_id
    wait_until(lambda: probes.lines(tmp_path / "e"), within_s=15, what="its start")

    with pytest.raises(TaskRefused, match=r"handed to a worker|just being sent"):
        tasks.change_task(task_id, priority=10)

    wait_until(lambda: status_of(task_id) == COMPLETED, within_s=15, what="its end")
    assert probes.lines(tmp_path / "e") == ["ran"]
    with pytest.raises(TaskRefused, match="has ended"):
        tasks.change_task(task_id, priority=10)


def test_a_message_that_may_be_on_its_way_keeps_a_task_from_being_changed(system: object) -> None:
    task_id = probes.add.send(1, 2).message_id
    callboard.broker.take_off("jobs", task_id, tombstone_s=0.0)

    assert change(callboard.broker, task_id, {"priority": 9}) is ChangeOutcome.BUSY


@pytest.mark.parametrize(
    ("changes", "mend"),
    [({}, "expected priority or eta"), ({"priority": 0}, "from 1"), ({"priority": 11}, "to 10"),
     ({"eta": datetime(2026, 1, 1)}, "with its offset"),  # noqa: DTZ001 - that it has no zone is the point
     ({"eta": datetime(8000, 1, 1, tzinfo=UTC)}, "next ten years")],
)  # fmt: skip
def test_a_change_that_cannot_be_is_refused(system: object, changes: dict[str, object], mend: str) -> None:
    task_id = probes.add.send(1, 2).message_id

    with pytest.raises(InvalidTask, match=mend):
        tasks.change_task(task_id, **changes)  # type: ignore[arg-type]


def test_a_task_that_is_not_there_is_neither_retried_nor_changed(ledger_database: str, bus: object) -> None:
    for task_id in ("nobody", "", "\ud800", "a\0b"):
        with pytest.raises(InvalidTask, match="there is no task"):
            tasks.retry_task(task_id)
        with pytest.raises(InvalidTask, match="there is no task"):
            tasks.change_task(task_id, priority=3)
