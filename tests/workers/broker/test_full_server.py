"""A server at its memory limit (faults row 15, what concerns the bus): sends fail, everything else drains unaided."""

from __future__ import annotations

from collections.abc import Generator

import dramatiq
import pytest

from tests.workers.broker import scale
from tests.workers.broker.actors import actor_of
from tests.workers.broker.conftest import running, wait_until
from tests.workers.broker.server import REDIS, REDIS_6, VALKEY, Server, require
from workers.broker import BusFull, CallboardBroker, Policy


@pytest.fixture(params=[VALKEY, REDIS, REDIS_6])
def small_server(request: pytest.FixtureRequest) -> Generator[Server]:
    require(request.param)
    server = Server(request.param, maxmemory_policy="noeviction")
    yield server
    server.remove()


def test_a_full_server_refuses_sends_and_drains(small_server: Server) -> None:
    runs: list[int] = []
    failed: set[int] = set()
    broker = CallboardBroker(small_server.url, policy=Policy(lease_s=1.0))

    def task(i: int) -> None:
        runs.append(i)
        if i % 50 == 0 and i not in failed:
            failed.add(i)
            raise dramatiq.errors.Retry("once more", delay=50)
        if i % 50 == 1:
            raise ValueError("dead")

    actor = actor_of(task, broker=broker, max_retries=3, throws=ValueError)
    count = scale.FULL_SERVER_MESSAGES
    broker.enqueue_many([actor.message(i) for i in range(count)])
    client = small_server.client()
    # Below what is in use already: nothing that could grow is allowed, not even as a first write of a script.
    client.config_set("maxmemory", "1mb")
    client.script_flush()

    with pytest.raises(BusFull):
        actor.send(-1)
    with running(broker, threads=4):
        wait_until(lambda: len(set(runs)) == count, 60)
        wait_until(lambda: broker.depth("default").live == 0, 20)

    assert -1 not in runs
    assert sorted(runs) == sorted([*range(count), *range(0, count, 50)])
    assert broker.depth("default").dead == count // 50
    client.config_set("maxmemory", "0")
    actor.send(-1)
    assert broker.depth("default").waiting == 1
    broker.close()


def test_a_full_server_renews_leases_and_takes_messages_back(small_server: Server) -> None:
    broker = CallboardBroker(small_server.url, policy=Policy(lease_s=0.6))
    actor = actor_of(lambda: None, actor_name="note", broker=broker)
    for _ in range(4):
        actor.send()
    small_server.client().config_set("maxmemory", "1mb")
    consumer = broker.consume("default", prefetch=4, timeout=1000)
    parcels = [next(consumer) for _ in range(3)]
    assert None not in parcels

    consumer.requeue([p for p in parcels[:2] if p is not None])
    broker.remove("default", "somebody's")
    broker.pause_queue("default")
    broker.resume_queue("default")

    depth = broker.depth("default")
    assert (depth.waiting, depth.leased) == (2, 2)
    broker.close()
