"""What a ledger asks of the bus to compare itself with it, and what a delivery says about those before it."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from dataclasses import replace
from typing import Any

import pytest
import redis

from tests.workers.broker import scale
from tests.workers.broker.actors import actor_of
from tests.workers.broker.conftest import running, wait_until
from tests.workers.broker.server import Server
from workers.broker import CallboardBroker, Outcome, Parcel, Policy, Removal, TakenOff, Verdict
from workers.broker.bus import Bus
from workers.broker.calls import Fetch, Posting
from workers.broker.envelope import pack
from workers.broker.keys import Keys
from workers.broker.line import Line


@pytest.fixture
def sharded(shared_server: Server, namespace: str) -> Generator[CallboardBroker]:
    """Two queues on two shards."""
    broker = CallboardBroker(shared_server.url, namespace=namespace, shards={"far": ["away"]})
    yield broker
    broker.close()


class Hands:
    """Two owners that fetch and settle by hand, on a clock that the test moves."""

    def __init__(self, broker: CallboardBroker) -> None:
        self.broker = broker
        self.claims = 0
        self.later_s = 0
        self._open()

    def _open(self) -> None:
        policy = replace(self.broker.policy, clock_offset_us=self.later_s * 1_000_000)
        keys = Keys(self.broker.namespace)
        self.bus = Bus(self.broker.client, keys, policy, self.broker._watch, send_timeout_s=10)
        self.line: Line = self.bus.open_line(threading.Event())

    def wait(self, seconds: int) -> None:
        self.line.close()
        self.later_s += seconds
        self._open()

    def send(self, attempt: int = 0, *, queue: str = "default") -> None:
        self.bus.enqueue([Posting("m", pack(b"{}", priority=5, attempt=attempt), queue)])

    def take(self, owner: str) -> tuple[int, str | None]:
        """Returns fence and previous owner of the one message."""
        self.claims += 1
        catch = self.bus.fetch(
            self.line, Fetch(owner=owner, claim=self.claims, room=1, queue_names=["default"], remember=True)
        )
        (self.delivery,) = catch.deliveries
        return self.delivery.fence, self.delivery.previous_owner

    def settle(self, verdict: Verdict, **details: Any) -> Outcome:
        return self.bus.settle([self.delivery.settlement(verdict, **details)])[0]


@pytest.fixture
def hands(broker: CallboardBroker) -> Generator[Hands]:
    hands = Hands(broker)
    yield hands
    hands.line.close()
    hands.bus.close()


def test_who_takes_a_message_off_learns_which_worker_vanished_with_it(hands: Hands) -> None:
    hands.send()
    hands.take("w-1")
    assert hands.bus.take_off("default", "m") == TakenOff(Removal.LEASED)
    hands.wait(3_600)
    hands.take("w-2")
    hands.settle(Verdict.RELEASE)

    assert hands.bus.take_off("default", "m") == TakenOff(Removal.REMOVED, 1, "w-1")
    assert hands.bus.take_off("default", "m") == TakenOff(Removal.ABSENT)


def held_parcel(consumer: Any) -> Parcel:
    parcel = next(consumer)
    assert isinstance(parcel, Parcel)
    return parcel


def test_absent_is_what_neither_waits_nor_is_delayed_nor_leased(sharded: CallboardBroker) -> None:
    here = actor_of(print, broker=sharded, actor_name="here")
    away = actor_of(print, broker=sharded, actor_name="away", queue_name="away")
    leased, done = here.send("leased"), here.send("done")
    consumer = sharded.consume("default", prefetch=2, timeout=50)
    parcels = [held_parcel(consumer), held_parcel(consumer)]
    consumer.ack(parcels[1])
    there = [leased, here.send("waiting"), here.send_with_options(args=("x",), delay=60_000), away.send("far")]
    wanted = [(m.queue_name, m.message_id) for m in there]

    assert sharded.absent([*wanted, ("default", done.message_id), ("away", "never")]) == {done.message_id, "never"}
    assert sharded.absent([]) == set()
    consumer.close()


def test_a_hundred_thousand_ids_are_looked_up_in_moments(broker: CallboardBroker) -> None:
    count = scale.LOOKED_UP_MESSAGES
    record = pack(b"x" * 300, priority=5, attempt=0)
    broker.bus_of("default").enqueue([Posting(f"m{i}", record, "default") for i in range(0, count, 2)])

    started_s = time.monotonic()
    absent = broker.absent(("default", f"m{i}") for i in range(count))

    print(f"absent: {count} ids in {time.monotonic() - started_s:.2f} s")
    assert absent == {f"m{i}" for i in range(1, count, 2)}


def test_a_scan_meets_every_message_of_all_shards(sharded: CallboardBroker) -> None:
    here = actor_of(print, broker=sharded, actor_name="here")
    away = actor_of(print, broker=sharded, actor_name="away", queue_name="away")
    sent = sharded.enqueue_many([actor.message(i) for i in range(1_500) for actor in (here, away)])

    found: list[str] = []
    cursor, names = sharded.scan_ids(count=200)
    while cursor is not None:
        found += names
        cursor, names = sharded.scan_ids(cursor, count=200)
    found += names

    assert set(found) == {m.message_id for m in sent}
    assert len(names) < 1_500


def test_records_are_the_messages_as_they_would_be_delivered(sharded: CallboardBroker) -> None:
    here = actor_of(print, broker=sharded, actor_name="here")
    away = actor_of(print, broker=sharded, actor_name="away", queue_name="away")
    first, second = here.send("a"), away.send_with_options(args=("b",), priority=3)
    sharded.reprioritise("default", first.message_id, 9)
    sharded.bus_of("default").enqueue([Posting("broken", pack(b"{", priority=5, attempt=0), "default")])

    records = sharded.records([first.message_id, "never", "broken", second.message_id])

    assert [m and (m.message_id, m.args, m.options["priority"]) for m in records] == [
        (first.message_id, ("a",), 9),
        None,
        None,
        (second.message_id, ("b",), 3),
    ]


def test_large_records_come_in_several_calls(broker: CallboardBroker) -> None:
    actor = actor_of(print, broker=broker, actor_name="large")
    sent = broker.enqueue_many([actor.message("x" * 300_000) for _ in range(30)])

    records = broker.records([m.message_id for m in sent])

    assert [m and m.message_id for m in records] == [m.message_id for m in sent]


def test_leased_names_the_worker_process_by_the_name_it_was_given(shared_server: Server, namespace: str) -> None:
    broker = CallboardBroker(shared_server.url, namespace=namespace, owner_name=lambda: "host:42:7")
    started, release = threading.Event(), threading.Event()

    def task() -> None:
        started.set()
        release.wait(10)

    actor = actor_of(task, broker=broker)
    with running(broker, threads=1):
        runs = actor.send()
        assert started.wait(10)
        waits = actor.send_with_options(delay=60_000)

        assert broker.leased([runs.message_id, waits.message_id, "never"]) == {runs.message_id: "host:42:7"}
        release.set()
        wait_until(lambda: broker.leased([runs.message_id]) == {})
    broker.close()


@pytest.mark.parametrize("name", ["", "two words", "line\nbreak", "-", "x" * 121])
def test_a_worker_name_that_the_bus_cannot_keep_is_refused(shared_server: Server, namespace: str, name: str) -> None:
    broker = CallboardBroker(shared_server.url, namespace=namespace, owner_name=lambda: name)
    actor_of(print, broker=broker, actor_name="any")

    with pytest.raises(ValueError, match="1 to 120 characters without white space"), running(broker):
        pass
    broker.close()


def test_a_delivery_says_who_held_the_message_when_its_lease_ended(hands: Hands) -> None:
    hands.send()

    assert hands.take("ann") == (1, None)
    hands.wait(60)
    assert hands.take("bob") == (2, "ann")
    assert hands.settle(Verdict.RELEASE) is Outcome.DONE
    assert hands.take("cid") == (2, "ann")  # bob's delivery did not count
    hands.wait(60)
    assert hands.take("dan") == (3, "cid")
    assert hands.delivery.losses == 2
    assert hands.settle(Verdict.RETRY, record=pack(b"{}", priority=5, attempt=3)) is Outcome.DONE
    assert hands.take("eve") == (4, None)


def test_a_fence_is_the_number_of_the_attempt_it_begins(hands: Hands, client: redis.Redis) -> None:
    retry = {attempt: pack(b"{}", priority=5, attempt=attempt) for attempt in range(1, 9)}
    hands.send()

    assert hands.take("ann")[0] == 1
    assert hands.settle(Verdict.RETRY, record=retry[1]) is Outcome.DONE
    assert hands.settle(Verdict.RETRY, record=retry[1]) is Outcome.REPEATED
    assert hands.take("bob")[0] == 2
    assert hands.settle(Verdict.DEFER, delay_ms=1_000) is Outcome.DONE
    hands.wait(2)
    assert hands.take("bob")[0] == 2
    hands.wait(60)  # lost: the row does not know of it, the fence does
    assert hands.take("cid")[0] == 3
    assert hands.settle(Verdict.RETRY, record=retry[3]) is Outcome.DONE
    hands.send(attempt=6)  # the ledger has counted further, and publishes
    assert hands.take("dan")[0] == 7
    assert hands.settle(Verdict.RELEASE) is Outcome.DONE
    assert hands.take("eve")[0] == 7
    client.delete(*client.scan_iter(f"{hands.bus.keys.prefix}*"))  # the data is gone
    hands.line.greet()
    assert hands.bus.reregister(hands.line, "eve", [hands.delivery])[0] is Outcome.DONE
    hands.wait(60)
    assert hands.take("fay")[0] == 8


def test_a_permit_goes_and_comes_with_the_lease(hands: Hands, client: redis.Redis) -> None:
    held = f"{hands.bus.keys.prefix}queue:default|one:held"
    hands.send(queue="default|one")

    hands.take("ann")
    assert client.smembers(held) == {b"m"}
    hands.wait(60)
    hands.bus.tidy(hands.line)
    assert client.smembers(held) == set()
    assert hands.bus.renew(hands.line, "ann", [hands.delivery]) == [Outcome.DONE]
    assert client.smembers(held) == {b"m"}
    hands.send(attempt=5, queue="default|one")  # replaces it: its holder's answer will be stale
    assert client.smembers(held) == set()
    assert hands.take("bob")[0] == 6
    client.delete(*client.scan_iter(f"{hands.bus.keys.prefix}*"))  # the data is gone
    hands.line.greet()
    assert hands.bus.reregister(hands.line, "bob", [hands.delivery]) == [Outcome.DONE]
    assert client.smembers(held) == {b"m"}
    assert hands.settle(Verdict.DEAD, reason="enough") is Outcome.DONE
    assert client.smembers(held) == set()
    assert client.zcard(f"{hands.bus.keys.prefix}queue:default:dead") == 1


def test_a_parcel_tells_when_it_arrived_by_the_servers_clock(
    broker: CallboardBroker, shared_server: Server, namespace: str
) -> None:
    ageing = CallboardBroker(shared_server.url, namespace=namespace, policy=Policy(ageing_s_per_priority=60))
    actor = actor_of(print, broker=broker, actor_name="any")
    seconds, micros = broker.client.time()  # type: ignore[misc]  # redis-py types it for both of its clients
    before_us = seconds * 1_000_000 + micros
    for priority in (1, 5, 10):
        actor.send_with_options(args=(priority,), priority=priority)
    actor.send_with_options(args=(0,), delay=20)
    consumer = broker.consume("default", prefetch=9, timeout=2_000)

    parcels = [held_parcel(consumer) for _ in range(4)]

    seconds, micros = broker.client.time()  # type: ignore[misc]  # as above
    for parcel in parcels:
        assert before_us + 20_000 * (parcel.args == (0,)) <= parcel.arrived_us <= seconds * 1_000_000 + micros
        assert parcel.previous_owner is None
    assert ageing.policy.arrived_us("0", 9) - broker.policy.arrived_us("0", 5) == 240_000_000
    consumer.close()
    ageing.close()


def test_fetching_held_before_a_worker_boots_stays_held(broker: CallboardBroker) -> None:
    done: list[int] = []
    actor = actor_of(done.append, broker=broker, actor_name="any")
    broker.hold_fetching("no database")
    actor.send(1)

    with running(broker) as worker:
        wait_until(lambda: worker.consumers)
        broker.hold_fetching("other")
        broker.allow_fetching("other")
        assert broker.depth("default").waiting == 1
        broker.allow_fetching("no database")
        wait_until(lambda: done == [1])


def test_a_message_that_another_process_holds_unstarted_is_leased(broker: CallboardBroker) -> None:
    actor = actor_of(print, broker=broker, actor_name="any")
    message = actor.send("x")
    other = broker.consume("default", prefetch=1, timeout=1_000)
    parcel = held_parcel(other)

    assert broker.remove("default", message.message_id) is Removal.LEASED
    other.requeue([parcel])
    assert broker.remove("default", message.message_id) is Removal.REMOVED
    other.close()
