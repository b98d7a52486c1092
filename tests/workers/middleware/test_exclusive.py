"""`@exclusive`: one task at a time, across actors, and what becomes of the others is what was said."""

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from dramatiq import Worker

from models.task import Task, TaskStatus, TaskType
from models.text import words_of
from tests.servers import wait_until
from workers import callboard, tasks
from workers.broker.lock import HeldLock
from workers.broker.parcel import Delivery
from workers.middleware.exclusive import InvalidLock, exclusive
from workers.registry import actor
from workers.runner.current import current_task

LOCK_KEY = callboard.broker.bus_of("jobs").keys.prefix + "lock:"
gate = threading.Event()
tokens: list[tuple[str, int | None]] = []
inside = itertools.count()
_now_inside: list[str] = []
overlaps: list[list[str]] = []


def _pass_through(name: str) -> None:
    tokens.append((name, current_task().fencing_token))
    _now_inside.append(name)
    if len(_now_inside) > 1:
        overlaps.append(list(_now_inside))
    try:
        while not gate.is_set():
            time.sleep(0.01)  # why: bytecode at which an interrupt can land
    finally:
        _now_inside.remove(name)


@actor(task_type=TaskType.JOB, name="locks.hold", max_retries=0)
@exclusive("house", ttl_s=2.0)
def hold() -> None:
    """Hold the lock until the gate opens."""
    _pass_through("hold")


@actor(task_type=TaskType.JOB, name="locks.skip")
@exclusive("house", ttl_s=2.0, if_held="skip")
def skips() -> None:
    _pass_through("skip")


@actor(task_type=TaskType.JOB, name="locks.wait", max_retries=0)
@exclusive("house", ttl_s=2.0, if_held="wait")
def waits() -> None:
    _pass_through("wait")


@actor(task_type=TaskType.JOB, name="locks.fail")
@exclusive("house", ttl_s=2.0, if_held="fail")
def fails() -> None:
    _pass_through("fail")


@actor(task_type=TaskType.JOB, name="locks.breaks", max_retries=0)
@exclusive("house", ttl_s=2.0)
def breaks() -> None:
    raise OSError("no")


@pytest.fixture(autouse=True)
def _anew() -> None:
    gate.clear()
    tokens.clear()
    overlaps.clear()


def row_of(task_id: str) -> Task:
    found = tasks.get_task(task_id)
    assert found is not None
    return found


def ended(task_id: str) -> Task:
    wait_until(lambda: row_of(task_id).completed_at is not None, within_s=20, what=f"the end of {task_id}")
    return row_of(task_id)


def held(bus: redis.Redis) -> str:
    """A task that holds the lock by now."""
    task_id: str = hold.send().message_id
    wait_until(lambda: bool(tokens), within_s=20, what="the holder to run")
    return task_id


def attempts(task_id: str) -> list[Any]:
    from models import database, task_query

    with database.reading() as session:
        return list(task_query.attempts(session, task_id))


@pytest.mark.usefixtures("sqlite_database")
def test_a_task_that_finds_it_held_is_skipped_with_the_holder_s_name(bus: redis.Redis, worker: Worker) -> None:
    holder = held(bus)

    row = ended(skips.send().message_id)

    assert (row.status, row.reason) == (TaskStatus.CANCELLED, f"skipped: lock house is held by {holder}")
    gate.set()
    assert ended(holder).status == TaskStatus.COMPLETED


@pytest.mark.usefixtures("sqlite_database")
def test_a_task_that_finds_it_held_fails_for_good(bus: redis.Redis, worker: Worker) -> None:
    holder = held(bus)

    row = ended(fails.send().message_id)

    assert (row.status, row.error_type, row.reason) == (TaskStatus.FAILED, "LockHeld", "not retryable")
    assert (
        row.error_message == f"lock house is held by {holder}: send it again later, or declare it with if_held='wait'"
    )
    gate.set()


@pytest.mark.usefixtures("sqlite_database")
def test_a_task_that_waits_runs_later_and_uses_up_neither_attempt_nor_retry(bus: redis.Redis, worker: Worker) -> None:
    holder = held(bus)
    waiting = [waits.send().message_id for _ in range(2)]
    wait_until(lambda: bus.zcard(f"{LOCK_KEY}house:waits") == 2, within_s=20, what="both to find the lock held")
    assert [row_of(task_id).status for task_id in waiting] == [TaskStatus.PENDING] * 2
    assert [tasks.waiting_on(task_id) for task_id in waiting] == [f"lock house, which task {holder} holds"] * 2

    gate.set()

    for task_id in (holder, *waiting):
        row = ended(task_id)
        assert (row.status, row.retry_count, len(attempts(task_id))) == (TaskStatus.COMPLETED, 0, 1)
    metrics = callboard.broker.locks.metrics()["house"]
    assert (metrics.acquired, metrics.held, metrics.lost) == (3, 2, 0)
    assert metrics.waited_s > 0
    assert overlaps == []


@pytest.mark.usefixtures("sqlite_database")
def test_each_holder_has_a_higher_token_and_a_lock_is_renewed_while_it_runs(bus: redis.Redis, worker: Worker) -> None:
    held(bus)
    token = bus.get(f"{LOCK_KEY}house")
    began_s = time.monotonic()
    wait_until(lambda: time.monotonic() > began_s + 4.5, within_s=20, what="more than twice its ttl_s to pass")
    assert bus.get(f"{LOCK_KEY}house") == token
    gate.set()
    ended(skips.send().message_id)
    wait_until(lambda: not bus.exists(f"{LOCK_KEY}house"), within_s=20, what="the lock to be free")
    second = ended(waits.send().message_id)

    assert second.status == TaskStatus.COMPLETED
    numbers = [number for _, number in tokens]
    assert None not in numbers
    assert numbers == sorted(set(numbers), key=lambda number: number or 0)


@pytest.mark.usefixtures("sqlite_database")
def test_a_task_whose_lock_is_another_s_by_now_is_interrupted_with_a_clear_error(
    bus: redis.Redis, worker: Worker
) -> None:
    holder = held(bus)
    later = Delivery(message_id="x", record=b"", fence=1, losses=0, score="0", queue_name="jobs", owner="w", claim=9)

    def is_robbed() -> bool:
        bus.delete(f"{LOCK_KEY}house")
        taken = callboard.broker.locks.take("house", "another", later, ttl_s=15, waits=False)
        return isinstance(taken, HeldLock)

    wait_until(is_robbed, within_s=30, what="another to take the lock")  # it may rest for the fixture's flush

    row = ended(holder)

    assert (row.status, row.error_type) == (TaskStatus.FAILED, "LockLost")
    assert row.error_message is not None
    assert "could not be renewed" in row.error_message
    other = ended(skips.send().message_id)
    assert other.reason == "skipped: lock house is held by another"


@pytest.mark.usefixtures("sqlite_database")
def test_a_holder_keeps_its_lock_when_redis_loses_its_data(bus: redis.Redis, worker: Worker) -> None:
    holder = held(bus)
    bus.flushall()

    row = ended(skips.send().message_id)

    assert (row.status, row.reason) == (TaskStatus.CANCELLED, f"skipped: lock house is held by {holder}")
    gate.set()
    assert ended(holder).status == TaskStatus.COMPLETED


@pytest.mark.usefixtures("sqlite_database")
def test_a_task_that_fails_frees_its_lock(bus: redis.Redis, worker: Worker) -> None:
    row = ended(breaks.send().message_id)

    assert (row.status, row.error_type) == (TaskStatus.FAILED, "OSError")
    wait_until(lambda: not bus.exists(f"{LOCK_KEY}house"), within_s=20, what="the lock to be free")


@pytest.mark.usefixtures("sqlite_database")
def test_a_task_that_waits_can_be_cancelled(bus: redis.Redis, worker: Worker) -> None:
    held(bus)
    waiting = waits.send().message_id
    wait_until(lambda: bus.zcard(f"{LOCK_KEY}house:waits") == 1, within_s=20, what="it to find the lock held")
    wait_until(lambda: tasks.cancel_task(waiting), within_s=20, what="it to be cancelled")

    assert ended(waiting).status == TaskStatus.CANCELLED
    gate.set()


def test_called_directly_it_runs_in_place_without_a_lock() -> None:
    gate.set()

    hold()

    assert tokens == [("hold", None)]


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (lambda: exclusive(""), "name: expected 1–100"),
        (lambda: exclusive("two words"), "name: expected 1–100"),
        (lambda: exclusive("x", ttl_s=0), "ttl_s: expected 0.1–86400 seconds"),
        (lambda: exclusive("x", if_held="retry"), "if_held: expected 'skip', 'wait' or 'fail', got 'retry'"),  # type: ignore[arg-type]  # the point
        (lambda: exclusive("x")(hold), "put it below"),
    ],
)
def test_a_lock_that_cannot_be_is_refused_where_it_is_declared(declare: Callable[[], object], said: str) -> None:
    with pytest.raises(InvalidLock) as refused:
        declare()

    assert said in words_of(refused.value)
