"""The operators' reference of keys says what is on a server, and nothing that is not."""

from __future__ import annotations

import re

import dramatiq
import redis

from tests.workers.broker.actors import actor_of
from tests.workers.broker.server import Server
from workers.broker import CallboardBroker, Limit, keys
from workers.broker.keys import Keys
from workers.broker.parcel import Delivery


def reference() -> dict[str, str]:
    """Name → type of each key in the table of the module's docstring."""
    return dict(re.findall(r"^(\S+) +(string|hash|list|set|zset) ", keys.__doc__ or "", re.MULTILINE))


def pattern(name: str) -> str:
    return re.sub(r"<\w+>", "[^:]+", name)


def test_every_key_is_in_the_reference_and_each_of_the_reference_is_met(
    shared_server: Server, client: redis.Redis, namespace: str
) -> None:
    limits = {"slim": Limit(concurrency=1, rate=5, per_s=60)}
    broker = CallboardBroker(shared_server.url, namespace=namespace, limit_of=limits.get)
    note = actor_of(lambda: None, actor_name="note", queue_name="q", broker=broker)
    slim = actor_of(lambda: None, actor_name="slim", queue_name="q", broker=broker)

    for actor in (note, note, slim, slim):
        actor.send()
    note.send_with_options(delay=60_000)
    consumer = broker.consume("q", prefetch=4, timeout=500)
    dead, held, of_lane = (next(consumer) for _ in range(3))
    assert isinstance(dead, dramatiq.MessageProxy)
    assert held is not None
    assert of_lane is not None
    consumer.nack(dead)
    note.send()
    broker.remove("q", "never sent")
    broker.pause_queue("other")
    broker.probe(timeout_s=5.0)
    broker.bus_of("q").poke("me")
    for task_id in ("a", "b"):
        at = Delivery(task_id, b"", 1, 0, "0", "q", "me", claim=1)
        broker.locks.take("door", task_id, at, ttl_s=30.0, waits=True)

    prefix = Keys(namespace).prefix
    there = {key.decode().removeprefix(prefix): client.type(key).decode() for key in client.scan_iter(prefix + "*")}
    documented = reference()
    explained = {
        key: name
        for key, kind in there.items()
        for name, its in documented.items()
        if re.fullmatch(pattern(name), key) and its == kind
    }

    assert len(documented) > 20
    assert set(there) == set(explained), "keys that the reference does not have"
    assert set(documented) == set(explained.values()), "keys that nobody writes"
    broker.close()
