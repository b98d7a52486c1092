"""The short way of a single send leaves on the server just what the long way leaves."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from typing import Any

import pytest
import redis

from tests.workers.broker.server import Server
from workers.broker import CallboardBroker, Policy, Receipt
from workers.broker.bus import Bus
from workers.broker.calls import Posting
from workers.broker.envelope import pack

_names = (f"one-{os.getpid()}-{i}" for i in itertools.count())


Story = Callable[[Bus, str], list[Receipt]]


def posting(message_id: str, when: str = "", *, priority: int = 5, attempt: int = 0, queue: str = "jobs") -> Posting:
    return Posting(message_id, pack(b"{}", priority=priority, attempt=attempt), queue, when)


def after(first: Posting, *more: Posting) -> Story:
    """Sends them one by one, the last as `when` says."""

    def tell(bus: Bus, when: str) -> list[Receipt]:
        postings = [first, *more]
        postings[-1] = postings[-1]._replace(when=when)
        return [receipt for one in postings for receipt in bus.enqueue([one])]

    return tell


def cancelled(bus: Bus, when: str) -> list[Receipt]:
    bus.take_off("jobs", "a")
    return bus.enqueue([posting("a", when)])


def paused(bus: Bus, when: str) -> list[Receipt]:
    bus.pause("jobs", paused=True)
    return bus.enqueue([posting("a", when)])


STORIES: dict[str, Story] = {
    "the first message of a queue": after(posting("a")),
    "one after another": after(posting("a"), posting("b")),
    "a more urgent one": after(posting("a"), posting("b", priority=9)),
    "a less urgent one": after(posting("a"), posting("b", priority=2)),
    "another queue": after(posting("a"), posting("b", queue="mail")),
    "the same message twice": after(posting("a"), posting("a")),
    "a later attempt": after(posting("a"), posting("a", attempt=2)),
    "a lane": after(posting("a", queue="jobs|mail.send")),
    "a cancelled one": cancelled,
    "a paused queue": paused,
}


def left_behind(client: Any, prefix: str) -> dict[str, Any]:
    """Every key of a namespace; times count from the bus's clock, to a thousand seconds: a step of priority is years,
    and a later message is only microseconds later."""
    clock_us = int(client.get(f"{prefix}clock") or 0)
    found: dict[str, Any] = {}
    for key in sorted(client.scan_iter(f"{prefix}*")):
        name, kind = key.decode().removeprefix(prefix), client.type(key)
        if kind == b"hash":
            found[name] = client.hgetall(key)
        elif kind == b"set":
            found[name] = client.smembers(key)
        elif kind == b"list":
            found[name] = client.lrange(key, 0, -1)
        elif kind == b"zset":
            scored = client.zrange(key, 0, -1, withscores=True)
            found[name] = [(member, round((score - clock_us) / 1e9)) for member, score in scored]
        elif name.startswith("producer:"):
            found["producer"] = (client.get(key), client.pttl(key) > 0)
        else:
            found[name] = kind
    return found


@pytest.mark.parametrize("story", STORIES)
def test_the_short_way_leaves_what_the_long_way_leaves(shared_server: Server, client: redis.Redis, story: str) -> None:
    left, receipts = [], []
    for when in ("", "d0"):  # A delay of nothing is due at once, and goes the long way.
        broker = CallboardBroker(shared_server.url, namespace=next(_names), policy=Policy())
        bus = broker.bus_of("jobs")

        receipts.append(STORIES[story](bus, when))

        left.append(left_behind(client, bus.keys.prefix))
        broker.close()
    short, long = left
    assert short == long
    assert receipts[0] == receipts[1]


def test_an_answer_that_was_lost_is_given_again_and_nothing_is_sent_twice(
    shared_server: Server, client: redis.Redis, broker: CallboardBroker
) -> None:
    bus = broker.bus_of("jobs")
    bus.enqueue([posting("a")])
    bus.flush("jobs")  # A worker has run it meanwhile.

    bus._producer.calls -= 1
    again = bus.enqueue([posting("a")])

    assert again == [Receipt.TAKEN]
    assert client.hlen(f"{bus.keys.prefix}messages") == 0
