"""A spoiled wire between the bus and its server (faults row 6): nothing lost, nothing stuck, nothing twice but for a
fault in the middle of a run. Seeds are printed; CALLBOARD_TEST_SEED gives one."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Generator

import dramatiq
import pytest

from tests.scale import SLACK
from tests.workers.broker import scale
from tests.workers.broker.actors import actor_of
from tests.workers.broker.conftest import running, wait_until
from tests.workers.broker.proxy import Fault, Proxy
from tests.workers.broker.server import Server
from workers.broker import BusUnavailable, CallboardBroker, Outcome, Parcel, Policy, Verdict
from workers.broker.script import script

SEED = int(os.environ.get("CALLBOARD_TEST_SEED", random.SystemRandom().randrange(10**6)))


@pytest.fixture
def proxy(shared_server: Server) -> Generator[Proxy]:
    proxy = Proxy(shared_server.socket_path, delay_s=0.8)
    yield proxy
    proxy.close()


def calls(request: bytes, name: str) -> bool:
    return script(name).sha.encode() in request


class Once:
    """Spoils the first request that calls a certain script, or has these bytes in it."""

    def __init__(self, name: str, fault: Fault, *, skip: int = 0, besides: bytes = b"") -> None:
        self._name = name
        self._besides = besides
        self._fault = fault
        self._skip = skip
        self._lock = threading.Lock()
        self.done = False

    def __call__(self, request: bytes) -> Fault:
        with self._lock:
            called = calls(request, self._name) or (self._besides and self._besides in request)
            if self.done or not called:
                return Fault.NONE
            if self._skip:
                self._skip -= 1
                return Fault.NONE
            self.done = True
            return self._fault


def held(consumer: dramatiq.Consumer) -> Parcel:
    parcel = next(consumer)
    assert isinstance(parcel, Parcel)
    return parcel


FAULTS = [Fault.DROP, Fault.CUT, Fault.DELAY, Fault.RESET]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", ["enqueue", "fetch", "settle", "renew"])
def test_one_spoiled_call_loses_and_doubles_nothing(proxy: Proxy, namespace: str, name: str, fault: Fault) -> None:
    runs: Counter[int] = Counter()
    lock = threading.Lock()
    broker = CallboardBroker(
        proxy.url, namespace=namespace, socket_timeout_s=0.4, policy=Policy(lease_s=1.5), idle_block_s=0.3
    )

    def task(i: int) -> None:
        with lock:
            runs[i] += 1
        if name == "renew":
            release.wait(5)

    release = threading.Event()
    actor = actor_of(task, broker=broker)
    actor.send(-1)  # scripts are on the server before the fault: EVALSHA is what it looks for
    spoil = Once(name, fault)
    with running(broker, threads=4):
        proxy.choose = spoil
        for i in range(6):
            actor.send(i)
        wait_until(lambda: spoil.done, 10)
        release.set()
        wait_until(lambda: len(runs) == 7 and broker.depth("default").live == 0, 10)
    proxy.choose = lambda _request: Fault.NONE

    assert runs == Counter(range(-1, 6))
    broker.close()


def test_a_lost_fetch_answer_strands_nothing_even_if_the_lease_is_long(proxy: Proxy, namespace: str) -> None:
    runs: list[int] = []
    broker = CallboardBroker(proxy.url, namespace=namespace, policy=Policy(lease_s=600.0))
    actor = actor_of(runs.append, actor_name="note", broker=broker)
    broker.enqueue_many([actor.message(i) for i in range(8)])
    spoil = proxy.choose = Once("fetch", Fault.CUT, skip=1)

    with running(broker, threads=4):
        wait_until(lambda: spoil.done and len(runs) == 8, 5)
        wait_until(lambda: broker.depth("default").live == 0, 5)

    assert sorted(runs) == list(range(8))
    broker.close()


@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_thread_asked_for_is_brought_by_the_hub_if_the_wire_is_spoiled(
    proxy: Proxy, namespace: str, fault: Fault
) -> None:
    runs: Counter[int] = Counter()
    broker = CallboardBroker(proxy.url, namespace=namespace, socket_timeout_s=0.4, policy=Policy(lease_s=600.0))
    actor = actor_of(lambda i: runs.update([i]), actor_name="note", broker=broker)
    broker.enqueue_many([actor.message(i) for i in range(1_000)])
    spoil = Once("fetch", fault)

    def choose(request: bytes) -> Fault:
        # A fetch that is not waited for is a thread's.
        asked = [hub._fetcher.asked for crew in broker._crews for hub in crew._hubs.values()]
        return spoil(request) if any(asked) else Fault.NONE

    proxy.choose = choose
    with running(broker, threads=2):
        wait_until(lambda: spoil.done and broker.depth("default").live == 0)

    assert runs == Counter(range(1_000))
    broker.close()


def test_a_release_whose_answer_was_lost_does_not_give_back_the_message_that_came_again(
    proxy: Proxy, namespace: str
) -> None:
    broker = CallboardBroker(proxy.url, namespace=namespace)
    actor = actor_of(lambda: None, actor_name="note", broker=broker)
    consumer = broker.consume("default", timeout=2_000)
    actor.send()
    consumer.ack(held(consumer))  # scripts are on the server before the fault
    actor.send()
    first = held(consumer)
    again: list[Parcel] = []
    spoil = Once("settle", Fault.CUT)

    def choose(request: bytes) -> Fault:
        if spoil.done and calls(request, "settle") and not again:
            again.append(held(consumer))  # fetched after the release was executed, before its copy arrives
        return spoil(request)

    proxy.choose = choose
    consumer.requeue([first])

    assert (again[0].delivery.fence, again[0].delivery.owner) == (first.delivery.fence, first.delivery.owner)
    assert (broker.depth("default").leased, broker.depth("default").waiting) == (1, 0)
    assert broker.settle_batch([again[0].settlement(Verdict.ACK)]) == [Outcome.DONE]
    consumer.close()
    broker.close()


def test_a_send_whose_answers_are_all_lost_says_so_and_may_be_repeated(proxy: Proxy, namespace: str) -> None:
    broker = CallboardBroker(proxy.url, namespace=namespace, send_timeout_s=0.5, socket_timeout_s=0.2)
    actor = actor_of(lambda: None, actor_name="note", broker=broker)
    actor.send()
    message = actor.message()
    proxy.choose = lambda request: Fault.CUT if calls(request, "enqueue") else Fault.NONE

    with pytest.raises(BusUnavailable):
        broker.enqueue(message)

    proxy.choose = lambda _request: Fault.NONE
    broker.enqueue(message)
    assert broker.depth("default").waiting == 2
    broker.close()


def test_a_frozen_server_holds_a_sender_no_longer_than_it_said(own_server: Server) -> None:
    broker = CallboardBroker(own_server.url, send_timeout_s=0.3)
    actor = actor_of(lambda: None, actor_name="note", broker=broker)
    actor.send()
    own_server.freeze()
    began_s = time.monotonic()

    with pytest.raises(BusUnavailable):
        actor.send()

    assert time.monotonic() - began_s < 1.0 * SLACK
    own_server.thaw()
    broker.close()


def test_seeded_random_faults_lose_nothing(proxy: Proxy, namespace: str) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    lock = threading.Lock()
    runs: Counter[int] = Counter()
    broker = CallboardBroker(
        proxy.url, namespace=namespace, socket_timeout_s=0.3, policy=Policy(lease_s=2.0), idle_block_s=0.3
    )

    def task(i: int) -> None:
        with lock:
            runs[i] += 1
            first = runs[i] == 1
        if i % 10 == 0 and first:
            raise dramatiq.errors.Retry("once more", delay=30)

    def choose(request: bytes) -> Fault:
        with lock:
            if b"EVALSHA" not in request or chance.random() > 0.06:
                return Fault.NONE
            return chance.choice(FAULTS)

    actor = actor_of(task, broker=broker)
    with running(broker, threads=4) as worker:
        for run in range(scale.FAULT_RUNS):
            proxy.choose = choose
            for i in range(10):
                actor.send(run * 10 + i)
        total = scale.FAULT_RUNS * 10
        wait_until(lambda: len(runs) == total, 60)
        proxy.choose = lambda _request: Fault.NONE
        wait_until(lambda: broker.depth("default").live == 0, 10)
        assert all(thread.is_alive() for thread in [*worker.workers, *worker.consumers.values()])

    retried = sum(i % 10 == 0 for i in range(total))
    assert set(runs) == set(range(total))
    assert sum(runs.values()) - total - retried <= proxy.faults
    broker.close()
