"""Messages that cannot be read, or not here (faults row 10, what the bus can see of it)."""

from __future__ import annotations

import json
import threading
import time

import dramatiq
import pytest

from tests.workers.broker import scale
from tests.workers.broker.actors import actor_of
from tests.workers.broker.conftest import running, wait_until
from workers.broker import CallboardBroker, Limit, MessageCodec
from workers.broker.calls import Posting
from workers.broker.envelope import pack


def fields(**changes: object) -> bytes:
    plain = {
        "queue_name": "default",
        "actor_name": "note",
        "args": [1],
        "kwargs": {},
        "options": {},
        "message_id": "poison",
        "message_timestamp": 1,
    }
    return json.dumps(plain | changes).encode()


DEEP = b'{"args":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
LONG_NUMBER = fields(args=["N"]).replace(b'"N"', b"9" * 5_000)
POISON = {
    "garbage": b"\xff\x00\xfe",
    "nothing": b"",
    "deep": DEEP,
    "long number": LONG_NUMBER,
    "a list": b"[]",
    "no fields": b"{}",
    "options that are none": fields(options="none"),
    "kwargs that are none": fields(kwargs=[1]),
    "an actor that is a list": fields(actor_name=["note"]),
    "another's id": fields(message_id="other"),
    "a number beyond doubles": fields(args=["N"]).replace(b'"N"', b"1e999"),
}


@pytest.mark.parametrize("name", POISON)
def test_poison_is_set_aside_and_its_neighbours_run(broker: CallboardBroker, name: str) -> None:
    runs: list[int] = []
    actor = actor_of(runs.append, actor_name="note", broker=broker)
    bus = broker.bus_of("default")
    broker.enqueue_many([actor.message(i) for i in range(5)])
    bus.enqueue([Posting("poison", pack(POISON[name], priority=9, attempt=0), "default")])
    broker.enqueue_many([actor.message(i) for i in range(5, 10)])

    with running(broker, threads=1) as worker:
        wait_until(lambda: len(runs) == 10)
        wait_until(lambda: broker.depth("default").live == 0)
        assert all(thread.is_alive() for thread in [*worker.workers, *worker.consumers.values()])

    letters = broker.dead_letters("default")
    assert [(letter.message_id, letter.payload) for letter in letters] == [("poison", POISON[name])]
    assert letters[0].reason.startswith("undecodable: ")


@pytest.mark.parametrize("name", ["options that are none", "an actor that is a list", "another's id"])
def test_poison_is_set_aside_with_somebodys_own_encoder_too(broker: CallboardBroker, name: str) -> None:
    runs: list[int] = []
    actor = actor_of(runs.append, actor_name="note", broker=broker)
    usual = dramatiq.get_encoder()
    dramatiq.set_encoder(dramatiq.JSONEncoder())
    try:
        broker.bus_of("default").enqueue([Posting("poison", pack(POISON[name], priority=9, attempt=0), "default")])
        actor.send(1)

        with running(broker, threads=1):
            wait_until(lambda: broker.depth("default").live == 0)
    finally:
        dramatiq.set_encoder(usual)

    assert runs == [1]
    assert [letter.message_id for letter in broker.dead_letters("default")] == ["poison"]


def test_a_field_that_only_later_versions_know_is_passed_over(broker: CallboardBroker) -> None:
    runs: list[int] = []
    actor_of(runs.append, actor_name="note", broker=broker)
    record = pack(fields(message_id="m", colour="red"), priority=5, attempt=0)
    broker.bus_of("default").enqueue([Posting("m", record, "default")])

    with running(broker, threads=1):
        wait_until(lambda: broker.depth("default").live == 0)

    assert runs == [1]


def test_lone_surrogates_come_as_they_were_sent(broker: CallboardBroker) -> None:
    runs: list[str] = []
    actor = actor_of(runs.append, actor_name="note", broker=broker)
    actor.send("half a \ud83d, a whole \N{GRINNING FACE}")

    with running(broker, threads=1):
        wait_until(lambda: broker.depth("default").live == 0)

    assert runs == ["half a \ud83d, a whole \N{GRINNING FACE}"]


def test_poison_among_many_good_neighbours(broker: CallboardBroker) -> None:
    runs: list[int] = []
    actor = actor_of(runs.append, actor_name="note", broker=broker)
    bus = broker.bus_of("default")
    for at, payload in enumerate(POISON.values()):
        count = scale.GOOD_NEIGHBOURS // len(POISON) + 1
        broker.enqueue_many([actor.message(i) for i in range(count)])
        bus.enqueue([Posting(f"poison{at}", pack(payload, priority=5, attempt=0), "default")])

    with running(broker):
        broker.join("default", timeout=60_000, interval=10)

    assert len(runs) == len(POISON) * (scale.GOOD_NEIGHBOURS // len(POISON) + 1)
    assert len(broker.dead_letters("default")) == len(POISON)


def test_messages_of_an_unknown_actor_wait_in_their_place_for_a_worker_that_knows_it(
    broker: CallboardBroker, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = (CallboardBroker(client=broker.client, namespace=namespace) for _ in range(2))
    runs: list[str] = []
    known = actor_of(lambda: runs.append("known"), actor_name="known", broker=old)
    fresh = actor_of(lambda: runs.append("fresh"), actor_name="fresh", broker=new)
    actor_of(lambda: runs.append("known"), actor_name="known", broker=new)

    with running(old, threads=1):
        for _ in range(20):
            fresh.send()
        wait_until(lambda: "'fresh'" in caplog.text)
        known.send()
        wait_until(lambda: runs == ["known"])  # by the old one, although what it cannot run came before
        wait_until(lambda: old.depth("default").waiting == 20)

        with running(new, threads=1):
            wait_until(lambda: runs == ["known"] + 20 * ["fresh"])
            wait_until(lambda: new.depth("default").live == 0)

    assert new.depth("default").dead == 0
    assert caplog.text.count("No actor") == 1


def test_a_limited_actor_that_older_workers_do_not_know_keeps_its_limit(
    broker: CallboardBroker, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    old = CallboardBroker(client=broker.client, namespace=namespace)
    new = CallboardBroker(client=broker.client, namespace=namespace, limit_of=lambda name: Limit(concurrency=1))
    at_once, most = [0], [0]
    lock = threading.Lock()

    def one_at_a_time() -> None:
        with lock:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
        time.sleep(0.02)  # why: so that another would meet it
        with lock:
            at_once[0] -= 1

    sender = CallboardBroker(client=broker.client, namespace=namespace)
    actor_of(lambda: None, actor_name="known", broker=old)
    fresh = actor_of(one_at_a_time, actor_name="fresh", broker=sender)
    actor_of(one_at_a_time, actor_name="fresh", broker=new)

    with running(old, threads=2):
        for _ in range(10):
            fresh.send()
        wait_until(lambda: "'fresh'" in caplog.text)
        with running(new, threads=4):
            wait_until(lambda: new.depth("default").live == 0)

    assert most == [1]


def test_a_record_of_a_later_version_is_put_off(broker: CallboardBroker) -> None:
    actor_of(lambda: None, actor_name="note", broker=broker)
    record = b"B" + pack(fields(), priority=5, attempt=0)[1:]
    broker.bus_of("default").enqueue([Posting("poison", record, "default")])

    with running(broker, threads=1):
        wait_until(lambda: broker.depth("default").delayed == 1)

    assert broker.depth("default").dead == 0


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [([object()], TypeError), (["x" * (1 << 21)], ValueError), ([{1: {2: object}}], TypeError)],
)
def test_what_cannot_be_sent_is_refused_by_name_before_it_is_sent(
    broker: CallboardBroker, arguments: list[object], problem: type[Exception]
) -> None:
    actor = actor_of(lambda *_: None, actor_name="note", broker=broker)

    with pytest.raises(problem):
        actor.send(*arguments)

    assert broker.depth("default").live == 0


def test_the_codec_reads_what_stock_dramatiq_writes_and_the_other_way_round() -> None:
    ours, stock = MessageCodec(), dramatiq.JSONEncoder()
    message = {
        "queue_name": "default",
        "actor_name": "note",
        "args": [1, "zwei", None, {"drei": [3.5, True]}],
        "kwargs": {"ü": "é"},
        "options": {"retries": 2, "traceback": "…"},
        "message_id": "id",
        "message_timestamp": 1_795_000_000_000,
    }

    assert ours.decode(stock.encode(message)) == message
    assert stock.decode(ours.encode(message)) == message
