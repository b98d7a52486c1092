"""A lock has one holder, whose token is higher than any before; real server, whatever happens to it."""

import itertools
from collections.abc import Iterator

import pytest
import redis

from tests.servers import OwnRedis, wait_until
from workers import callboard
from workers.broker.lock import HeldBy, HeldLock, LockMetrics, Locks
from workers.broker.parcel import Delivery

_claims = itertools.count(1)


def delivery(task_id: str, fence: int = 1) -> Delivery:
    """A delivery of a task to a worker of its own."""
    return Delivery(message_id=task_id, record=b"", fence=fence, losses=0, score="0", queue_name="jobs", owner="w",
                    claim=next(_claims))  # fmt: skip


def take(
    locks: Locks, task_id: str, at: Delivery | None = None, *, ttl_s: float = 30.0, waits: bool = False
) -> HeldLock | HeldBy | None:
    return locks.take("door", task_id, at or delivery(task_id), ttl_s=ttl_s, waits=waits)


def taken(answer: HeldLock | HeldBy | None) -> HeldLock:
    assert isinstance(answer, HeldLock)
    return answer


@pytest.fixture
def locks(bus: redis.Redis) -> Iterator[Locks]:
    return callboard.broker.locks


def test_one_task_has_it_and_another_is_told_which(locks: Locks) -> None:
    taken(take(locks, "a"))

    assert take(locks, "b") == HeldBy("a", 0.0)


def test_a_lock_that_is_freed_can_be_taken_under_a_higher_token(locks: Locks) -> None:
    first = taken(take(locks, "a"))
    assert locks.free(first)

    assert taken(take(locks, "b")).token > first.token


def test_who_holds_what_can_be_asked(locks: Locks) -> None:
    held = taken(take(locks, "a"))
    locks.free(taken(locks.take("window", "b", delivery("b"), ttl_s=30, waits=False)))

    (found,) = locks.held()

    assert (found.name, found.task_id, found.token) == ("door", "a", held.token)
    assert 0 < found.expires_in_s <= 30


def test_a_call_that_is_repeated_gets_the_same_token(locks: Locks) -> None:
    at = delivery("a")

    assert taken(take(locks, "a", at)) == taken(take(locks, "a", at))
    assert locks.metrics()["door"].acquired == 1


def test_a_later_delivery_of_its_task_takes_it_over_and_no_earlier_one(locks: Locks) -> None:
    killed = taken(take(locks, "a", delivery("a", 1)))
    again = taken(take(locks, "a", delivery("a", 2)))

    assert again.token > killed.token
    assert locks.renew([killed, again]) == [False, True]
    assert isinstance(take(locks, "a", delivery("a", 1)), HeldBy)
    assert not locks.free(killed)
    assert isinstance(take(locks, "b"), HeldBy)


def test_a_holder_that_is_frozen_beyond_its_time_is_refused_with_its_stale_token(locks: Locks) -> None:
    frozen = taken(take(locks, "a", ttl_s=0.1))
    wait_until(lambda: isinstance(take(locks, "b"), HeldLock), within_s=10, what="the lock to fall free")

    second = taken(take(locks, "b", delivery("b", 2)))
    assert locks.renew([frozen]) == [False]
    assert not locks.free(frozen)
    assert second.token > frozen.token
    assert locks.metrics()["door"].lost == 1


def test_a_renewed_lock_outlives_its_time(locks: Locks, bus: redis.Redis) -> None:
    held = taken(take(locks, "a", ttl_s=0.2))
    longer = HeldLock(held.name, held.token, held.value, 30.0)

    assert locks.renew([longer]) == [True]
    assert bus.pttl(callboard.broker.bus_of("jobs").keys.prefix + "lock:door") > 1_000


def test_a_lock_that_went_with_the_data_is_kept_by_who_renews_first(locks: Locks, bus: redis.Redis) -> None:
    held = taken(take(locks, "a"))
    bus.flushall()

    assert locks.renew([held]) == [True]
    assert isinstance(take(locks, "b"), HeldBy)


def test_tokens_go_on_above_those_of_before_a_loss_of_the_data(locks: Locks, bus: redis.Redis) -> None:
    lost = taken(take(locks, "a"))
    bus.flushall()

    assert taken(take(locks, "b")).token > lost.token
    assert locks.renew([lost]) == [False]


def test_a_lock_rests_after_a_loss_of_the_data_under_living_workers(locks: Locks, bus: redis.Redis) -> None:
    held = taken(take(locks, "a"))
    bus.flushall()
    now_s, now_us = bus.time()
    bus.hset(callboard.broker.bus_of("jobs").keys.prefix + "generation", "emptied_us", now_s * 1_000_000 + now_us)

    assert take(locks, "b") is None
    assert locks.renew([held]) == [True]
    assert isinstance(take(locks, "b"), HeldBy)


def test_a_lock_that_fell_free_and_nobody_had_is_kept(locks: Locks, bus: redis.Redis) -> None:
    held = taken(take(locks, "a", ttl_s=0.1))
    key = callboard.broker.bus_of("jobs").keys.prefix + "lock:door"
    wait_until(lambda: not bus.exists(key), within_s=10, what="the lock to fall free")

    assert locks.renew([held]) == [True]


def test_waiting_is_counted_once_and_timed(locks: Locks) -> None:
    first = taken(take(locks, "a"))
    for _ in range(3):
        answer = take(locks, "b", waits=True)
    assert isinstance(answer, HeldBy)
    assert answer.waited_s > 0
    locks.free(first)

    waited_s = taken(take(locks, "b", waits=True)).waited_s

    assert waited_s >= answer.waited_s
    assert locks.metrics() == {"door": LockMetrics(acquired=2, held=1, lost=0, waited_s=waited_s)}


def test_locks_of_a_full_server_can_be_taken_renewed_and_freed(own_redis: OwnRedis, locks: Locks) -> None:
    held = taken(take(locks, "a"))
    with redis.Redis.from_url(own_redis.url) as server:
        server.config_set("maxmemory", 1)
        try:
            assert locks.renew([held]) == [True]
            assert locks.free(held)
            taken(take(locks, "b"))
        finally:
            server.config_set("maxmemory", 0)
