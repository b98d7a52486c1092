"""What a call to the server carries, what it costs, and what is repeated."""

from __future__ import annotations

import threading
from typing import cast

import pytest
import redis

from tests.workers.broker.actors import actor_of
from tests.workers.broker.conftest import running, wait_until
from tests.workers.broker.server import Server
from workers.broker import CallboardBroker, Outcome, Verdict
from workers.broker.backoff import Backoff
from workers.broker.calls import Fetch


def calls(client: redis.Redis) -> int:
    """Script calls so far."""
    stats = cast("dict[str, dict[str, int]]", client.info("commandstats"))
    return sum(stats[f"cmdstat_{name}"]["calls"] for name in ("evalsha", "eval") if f"cmdstat_{name}" in stats)


def test_a_thousand_messages_of_three_queues_are_one_call(broker: CallboardBroker, client: redis.Redis) -> None:
    actors = [actor_of(lambda: None, actor_name=name, queue_name=name, broker=broker) for name in ("a", "b", "c")]
    actors[0].send()  # the script is on the server
    before = calls(client)

    broker.enqueue_many([actors[i % 3].message() for i in range(1_000)])

    assert calls(client) - before == 1
    assert sum(broker.depth(name).waiting for name in "abc") == 1_001


def test_a_drain_fetches_and_acknowledges_many_at_a_time(broker: CallboardBroker, client: redis.Redis) -> None:
    count = 2_000
    actor = actor_of(lambda: None, actor_name="note", broker=broker)
    broker.enqueue_many([actor.message() for _ in range(count)])
    before = calls(client)

    with running(broker, threads=8):
        wait_until(lambda: client.hlen(broker.bus_of("default").keys.prefix + "messages") == 0, 30)

    # Stock RedisBroker makes more than one for each.
    assert calls(client) - before < count / 4


def test_decisions_about_messages_of_several_fetches_are_told_apart_in_one_call(broker: CallboardBroker) -> None:
    actor = actor_of(lambda: None, actor_name="note", broker=broker)
    broker.enqueue_many([actor.message() for _ in range(6)])
    bus, line = broker.bus_of("default"), broker.bus_of("default").open_line(threading.Event())
    fetches = [Fetch("me", claim, 2, ["default"], remember=False) for claim in (1, 2, 3)]
    first, second, third = (bus.fetch(line, fetch).deliveries for fetch in fetches)
    settled_before = first[1].settlement(Verdict.ACK)
    bus.settle([settled_before], line=line)

    outcomes = bus.settle(
        [
            first[0].settlement(Verdict.ACK),
            settled_before,
            second[0].settlement(Verdict.ACK),
            second[1].settlement(Verdict.RELEASE),
            third[1].settlement(Verdict.ACK),
            third[0].settlement(Verdict.DEAD, reason="by test"),
        ],
        line=line,
    )

    done = Outcome.DONE
    assert outcomes == [done, Outcome.ABSENT, done, done, done, done]
    depth = broker.depth("default")
    assert (depth.waiting, depth.leased, depth.dead) == (1, 0, 1)
    line.close()


def test_what_a_fetch_costs_the_server_does_not_grow_with_the_queues_declared(
    broker: CallboardBroker, client: redis.Redis
) -> None:
    actors = [actor_of(lambda: None, actor_name=name, queue_name=name, broker=broker) for name in ("a", "b")]
    bus, line = broker.bus_of("a"), broker.bus_of("a").open_line(threading.Event())

    def commands_of_a_fetch(claim: int, queue_names: list[str]) -> int:
        broker.enqueue_many([actor.message() for actor in actors for _ in range(3)])
        before = cast("int", client.info("stats")["total_commands_processed"])
        assert len(bus.fetch(line, Fetch("me", claim, 6, queue_names, remember=False)).deliveries) == 6
        return cast("int", client.info("stats")["total_commands_processed"]) - before

    commands_of_a_fetch(1, ["a", "b"])  # the script is on the server
    few = commands_of_a_fetch(2, ["a", "b"])
    many = commands_of_a_fetch(3, ["a", "b", *(f"empty{i}" for i in range(300))])

    assert many == few
    line.close()


def test_scripts_that_a_server_forgot_are_sent_again(own_server: Server) -> None:
    broker = CallboardBroker(own_server.url)
    runs: list[int] = []
    actor = actor_of(runs.append, actor_name="note", broker=broker)
    client = own_server.client()
    with running(broker, threads=4):
        for burst in range(5):
            client.script_flush()
            broker.enqueue_many([actor.message(burst * 100 + i) for i in range(100)])
            wait_until(lambda burst=burst: len(runs) >= burst * 100 + 50)
            client.script_flush()  # in the middle of it
        wait_until(lambda: broker.depth("default").live == 0)

    assert sorted(runs) == list(range(500))
    broker.close()


def test_pauses_between_tries_begin_at_once_grow_to_a_cap_and_are_jittered() -> None:
    several = [Backoff(cap_s=0.8) for _ in range(50)]
    rounds = [[backoff.next_s() for backoff in several] for _ in range(8)]

    assert set(rounds[0]) == {0.0}
    for pauses_s, ceiling_s in zip(rounds[1:], [0.05, 0.1, 0.2, 0.4, 0.8, 0.8, 0.8], strict=True):
        assert all(ceiling_s / 2 <= pause_s <= ceiling_s for pause_s in pauses_s)
        assert len(set(pauses_s)) > 25
    several[0].reset()
    assert several[0].next_s() == 0.0


@pytest.mark.parametrize("queues", [1, 12])
def test_a_worker_process_has_few_connections_however_many_queues_it_serves(own_server: Server, queues: int) -> None:
    broker = CallboardBroker(own_server.url)
    actors = [actor_of(lambda: None, actor_name=f"a{i}", queue_name=f"q{i}", broker=broker) for i in range(queues)]
    client = own_server.client()
    with running(broker, threads=8):
        broker.enqueue_many([actors[i % queues].message() for i in range(100)])
        wait_until(lambda: client.hlen(broker.bus_of("q0").keys.prefix + "messages") == 0)
        connections = len(client.client_list()) - 1

    # The hub's, the settler's, and one for who sends and looks.
    assert connections <= 3
    broker.close()
