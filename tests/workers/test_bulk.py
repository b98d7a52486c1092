"""Many tasks at once: each item says what became of it, and nothing but what was meant is touched."""

from pathlib import Path

import pytest
from sqlalchemy import update

from models import database
from models.task import Task, TaskStatus
from tests import probes
from tests.servers import OwnRedis, wait_until
from workers import bulk, callboard, tasks
from workers.bulk import Action
from workers.errors import InvalidTask, LedgerUnavailable
from workers.ledger.relay import relay
from workers.tasks import TaskFilter, make_filter

ADD = "probes.add"
PENDING, RUNNING, COMPLETED, FAILED, CANCELLED = TaskStatus


def statuses() -> dict[str, int]:
    return {status: number for status in TaskStatus if (number := tasks.get_task_count(status))}


def in_status(status: TaskStatus, count: int = 1) -> list[str]:
    messages = probes.add.send_many([(1, 2)] * count)
    ids = [message.message_id for message in messages]
    with database.writing() as session:
        session.execute(update(Task).where(Task.task_id.in_(ids)).values(  # type: ignore[attr-defined]  # a column
            status=status, completed_at=None if status in (PENDING, RUNNING) else Task.created_at))  # fmt: skip
    return ids


def test_each_item_of_a_bulk_enqueue_says_what_became_of_it(ledger_database: str, bus: object) -> None:
    earlier = tasks.enqueue_task(ADD, params={"left": 1, "right": 2}, idempotency_key="k")

    accepted, wrong, unknown, duplicate, delayed, large = bulk.enqueue_many([
        {"task_name": ADD, "params": {"left": 1, "right": 2}, "priority": 9, "tags": ["a"]},
        {"task_name": ADD, "params": {"left": 1, "rigth": 2}},
        {"task_name": "probes.ad"},
        {"task_name": ADD, "params": {"left": 1, "right": 2}, "idempotency_key": "k"},
        {"task_name": ADD, "params": {"left": 1, "right": 2}, "delay_s": 60},
        {"task_name": "probes.echo", "params": {"value": "x" * 300_000}},
    ])  # fmt: skip

    assert (accepted.outcome, delayed.outcome) == ("accepted", "accepted")
    assert (duplicate.outcome, duplicate.task_id) == ("duplicate", earlier)
    assert (wrong.outcome, wrong.field) == ("invalid", "params.rigth")
    assert (unknown.outcome, unknown.field) == ("invalid", "task_name")
    assert "did you mean probes.add" in str(unknown.detail)
    assert (large.outcome, large.field) == ("invalid", "params.value")
    assert tasks.get_task_count() == 3
    assert accepted.task_id is not None
    assert delayed.task_id is not None
    row, later = tasks.get_task(accepted.task_id), tasks.get_task(delayed.task_id)
    assert row is not None
    assert later is not None
    assert (row.priority, row.tags, row.eta) == (9, ["a"], None)
    assert later.eta is not None
    assert (later.eta - later.created_at).total_seconds() == pytest.approx(60, abs=1)
    depth = callboard.broker.depth("jobs")
    assert (depth.waiting, depth.delayed) == (2, 1)


def test_ten_thousand_are_enqueued_by_one_call(ledger_database: str, bus: object) -> None:
    found = bulk.enqueue_many([{"task_name": ADD, "params": {"left": n, "right": 2}} for n in range(10_000)])

    assert {one.outcome for one in found} == {"accepted"}
    while relay(callboard.broker, grace_s=-1):  # what the bus had not taken in time, if the machine is slow
        continue
    assert len({one.task_id for one in found}) == tasks.get_task_count() == callboard.broker.depth("jobs").waiting


@pytest.mark.parametrize("count", [0, 10_001])
def test_none_and_too_many_are_refused(system: object, count: int) -> None:
    with pytest.raises(InvalidTask, match=f"tasks: expected 1–10000, got {count}"):
        bulk.enqueue_many([{"task_name": ADD}] * count)


def test_with_redis_away_a_bulk_enqueue_is_accepted(ledger_database: str, own_redis: OwnRedis) -> None:
    own_redis.kill()

    found = bulk.enqueue_many([{"task_name": ADD, "params": {"left": 1, "right": 2}}] * 3)

    assert {one.outcome for one in found} == {"accepted"}
    assert statuses() == {"pending": 3}
    assert {row.enqueued_at for row in tasks.find_tasks(TaskFilter()).rows} == {None}
    own_redis.start()
    wait_until(lambda: callboard.broker.is_bus_up, within_s=10, what="the bus to be tried again")


def test_with_the_database_away_a_bulk_enqueue_is_an_error(system: object, tmp_path: Path) -> None:
    database.bind(f"sqlite:///{tmp_path}/nowhere/callboard.db")

    with pytest.raises(LedgerUnavailable, match="nothing was sent"):
        bulk.enqueue_many([{"task_name": ADD, "params": {"left": 1, "right": 2}}])


def test_a_bulk_cancel_is_for_what_has_not_ended(ledger_database: str, bus: object) -> None:
    waiting, running, done = in_status(PENDING, 700), in_status(RUNNING, 2), in_status(COMPLETED, 3)
    with database.writing() as session:
        session.execute(update(Task).where(Task.task_id == waiting[0]).values(queue="other"))  # type: ignore[arg-type]

    meant = bulk.count(Action.CANCEL, TaskFilter(queue="jobs"))
    found = bulk.act(Action.CANCEL, TaskFilter(queue="jobs"), by="Ada")

    assert (meant.number, meant.is_estimate, found.matched) == (701, False, 701)
    assert found.outcomes == {"cancelled": 699, "requested": 2}
    assert not found.more
    assert statuses() == {"pending": 1, "running": 2, "completed": 3, "cancelled": 699}
    row = tasks.get_task(waiting[1])
    assert row is not None
    assert row.reason == "by Ada"
    again = bulk.act(Action.CANCEL, make_filter(ids=[waiting[1], running[0], done[0], "nobody"]))
    assert again.outcomes == {"ended": 2, "requested": 1}


def test_a_cancelled_one_of_many_never_runs(
    ledger_database: str, bus: object, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    probes.note.send_many([(str(tmp_path / "e"), str(n)) for n in range(20)], tags=["odd"])
    kept = probes.note.send(str(tmp_path / "e"), "kept").message_id

    assert bulk.act(Action.CANCEL, TaskFilter(tag="odd")).outcomes == {"cancelled": 20}

    request.getfixturevalue("worker")
    wait_until(lambda: tasks.get_task_count(COMPLETED) == 1, within_s=15, what="the end of the one that was kept")
    row = tasks.get_task(kept)
    assert row is not None
    assert row.status == COMPLETED
    assert probes.lines(tmp_path / "e") == ["kept"]


def test_a_bulk_retry_leaves_what_somebody_cancelled_unless_it_is_said(ledger_database: str, bus: object) -> None:
    in_status(FAILED, 3)
    in_status(CANCELLED, 2)
    in_status(COMPLETED, 1)

    assert bulk.act(Action.RETRY, TaskFilter(task_name=ADD)).outcomes == {"reopened": 3}
    assert statuses() == {"pending": 3, "completed": 1, "cancelled": 2}
    assert bulk.act(Action.RETRY, TaskFilter(status=CANCELLED)).outcomes == {"reopened": 2}
    assert bulk.act(Action.RETRY, TaskFilter(status=COMPLETED)).outcomes == {"refused": 1}


def test_a_bulk_delete_takes_only_what_has_ended_and_all_that_hangs_off_it(ledger_database: str, bus: object) -> None:
    waiting, failed = in_status(PENDING)[0], in_status(FAILED)[0]
    in_status(COMPLETED, 2)
    tasks.retry_task(failed)
    assert tasks.logs(failed) != []
    tasks.cancel_task(failed)

    assert bulk.count(Action.DELETE, TaskFilter(task_name=ADD)).number == 3
    assert bulk.act(Action.DELETE, TaskFilter(task_name=ADD)).outcomes == {"deleted": 3, "kept": 0}
    assert bulk.act(Action.DELETE, make_filter(ids=[waiting, failed])).outcomes == {"deleted": 0, "kept": 1}
    assert statuses() == {"pending": 1}
    assert tasks.logs(failed) == []


@pytest.mark.parametrize("action", Action)
def test_a_filter_with_nothing_in_it_is_refused(system: object, action: Action) -> None:
    in_status(FAILED)

    for ask in (bulk.act, bulk.count):
        with pytest.raises(InvalidTask, match="expected ids, or at least one filter"):
            ask(action, TaskFilter())  # type: ignore[operator]  # both take these

    assert statuses() == {"failed": 1}


def test_more_than_a_call_takes_is_said_and_the_next_call_goes_on(
    ledger_database: str, bus: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "MAX_TASKS", 3)
    in_status(PENDING, 5)

    first, second = (bulk.act(Action.CANCEL, TaskFilter(queue="jobs")) for _ in range(2))

    assert (first.outcomes, first.more) == ({"cancelled": 3}, True)
    assert (second.outcomes, second.more) == ({"cancelled": 2}, False)


def test_pruning_at_once_forgets_what_ended_long_ago(system: object) -> None:
    in_status(COMPLETED, 2)
    kept = in_status(PENDING)[0]

    assert bulk.prune(result_days=1, task_days=1)["tasks"] == 0
    with pytest.raises(InvalidTask, match="days: expected 1 or more, got 0"):
        bulk.prune(result_days=1, task_days=0)
    row = tasks.get_task(kept)
    assert row is not None
