"""A blocked worker is woken by whatever makes a message available; it never has to look by itself."""

from __future__ import annotations

from collections.abc import Callable, Generator

import dramatiq
import pytest
import redis

from tests.workers.broker.actors import actor_of
from tests.workers.broker.conftest import running, wait_until
from tests.workers.broker.server import Server
from workers.broker import CallboardBroker, Policy

Task = dramatiq.Actor[[], None]
Way = Callable[[CallboardBroker, Task], Generator[None]]
"""Until its `yield` before the worker is there, then when it is blocked."""


def send(_: CallboardBroker, task: Task) -> Generator[None]:
    yield
    task.send()


def send_many(broker: CallboardBroker, task: Task) -> Generator[None]:
    yield
    broker.enqueue_many([task.message(), task.message()])


def send_for_later(_: CallboardBroker, task: Task) -> Generator[None]:
    yield
    task.send_with_options(delay=300)


def resume(broker: CallboardBroker, task: Task) -> Generator[None]:
    broker.pause_queue("default")
    task.send()
    yield
    broker.resume_queue("default")


def give_back(broker: CallboardBroker, task: Task) -> Generator[None]:
    task.send()
    consumer = broker.consume("default", timeout=1_000)
    taken = next(consumer)
    assert taken is not None
    yield
    consumer.requeue([taken])


def let_the_lease_end(broker: CallboardBroker, task: Task) -> Generator[None]:
    task.send()
    assert next(broker.consume("default", timeout=1_000)) is not None
    yield


def send_a_dead_one_again(broker: CallboardBroker, task: Task) -> Generator[None]:
    task.send()
    consumer = broker.consume("default", timeout=1_000)
    taken = next(consumer)
    assert taken is not None
    consumer.nack(taken)
    yield
    assert broker.requeue_dead("default", [taken.message_id]) == [True]


WAYS: list[Way] = [send, send_many, send_for_later, resume, give_back, let_the_lease_end, send_a_dead_one_again]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_message_that_becomes_available_wakes_a_blocked_worker(
    shared_server: Server, namespace: str, client: redis.Redis, way: Way
) -> None:
    broker = CallboardBroker(shared_server.url, namespace=namespace, idle_block_s=600.0, policy=Policy(lease_s=1.0))
    runs: list[int] = []
    task = actor_of(lambda: runs.append(1), actor_name="task", broker=broker)
    step = way(broker, task)
    next(step)

    with running(broker, threads=2):
        wait_until(lambda: client.info("clients")["blocked_clients"] == 1)
        next(step, None)
        wait_until(lambda: runs)
        wait_until(lambda: broker.depth("default").live == 0)

    broker.close()
