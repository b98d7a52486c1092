"""Limited actors: never more at a time or in a time than they may, in all workers, and nobody waits for them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from threading import Event, Lock

import pytest
import redis

from tests.workers.broker.actors import actor_of
from tests.workers.broker.conftest import running, wait_until
from tests.workers.broker.evidence import Evidence
from tests.workers.broker.server import Server
from tests.workers.broker.worker_process import LIMITS, Actors, worker_process
from workers.broker import BusRefused, CallboardBroker, Limit, Removal

ONE = {"one": Limit(concurrency=1)}


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    return Evidence(tmp_path / "evidence")


@pytest.fixture
def limited(shared_server: Server, namespace: str) -> Generator[CallboardBroker]:
    """A broker that knows the limits of the worker processes."""
    broker = CallboardBroker(shared_server.url, namespace=namespace, limit_of=LIMITS.get)
    yield broker
    broker.close()


@pytest.fixture
def single(shared_server: Server, namespace: str) -> Generator[CallboardBroker]:
    """A broker with one actor that runs one at a time; nothing in it looks by itself."""
    broker = CallboardBroker(shared_server.url, namespace=namespace, limit_of=ONE.get, idle_block_s=60)
    yield broker
    broker.close()


def most_at_a_time(evidence: Evidence) -> int:
    """By the order of the lines; a task that was killed and began again counts from its last beginning."""
    at_once: set[str] = set()
    most = 0
    for line in evidence.path.read_text().splitlines():
        event, name, _ = line.split()
        (at_once.add if event == "began" else at_once.discard)(name)
        most = max(most, len(at_once))
    return most


def test_no_more_than_three_at_a_time_in_two_processes_while_others_run_at_once(
    shared_server: Server, namespace: str, limited: CallboardBroker, evidence: Evidence
) -> None:
    actors = Actors(limited, evidence)
    limited.enqueue_many([actors.few.message_with_options(args=(f"few{i}", 0.004), priority=10) for i in range(500)])
    limited.enqueue_many([actors.note.message(f"note{i}") for i in range(200)])

    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(worker_process(shared_server.url, namespace, evidence))
        wait_until(lambda: len(evidence.count("ran")) == 700, 60)

    assert set(evidence.count("ran").values()) == {1}
    assert most_at_a_time(evidence) == 3
    lines = evidence.path.read_text().splitlines()
    last_note = max(at for at, line in enumerate(lines) if line.startswith("ran note"))
    assert sum(line.startswith("ran few") for line in lines[:last_note]) < 400


def test_no_more_than_fifty_start_a_second(
    shared_server: Server, namespace: str, limited: CallboardBroker, evidence: Evidence
) -> None:
    actors = Actors(limited, evidence)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(worker_process(shared_server.url, namespace, evidence))
        sent_ns = time.monotonic_ns()
        limited.enqueue_many([actors.rated.message(str(i)) for i in range(175)])
        wait_until(lambda: len(evidence.count("ran")) == 175, 30)

    starts = sorted(int(at_ns) - sent_ns for at_ns in evidence.count("ran"))
    # Of the n-th fifty none is handed out before n seconds; a slow machine makes that later, never earlier.
    assert [at for at, start_ns in enumerate(starts) if start_ns < at // 50 * 1e9] == []


def test_permits_of_a_killed_worker_come_back_with_its_leases(
    shared_server: Server, namespace: str, limited: CallboardBroker, evidence: Evidence, client: redis.Redis
) -> None:
    actors = Actors(limited, evidence)
    limited.enqueue_many([actors.few.message(f"few{i}", 0.5) for i in range(9)])

    with worker_process(shared_server.url, namespace, evidence, lease_s=2) as victim:
        wait_until(lambda: evidence.count("began").total() == 3)
        with worker_process(shared_server.url, namespace, evidence, lease_s=2):
            os.kill(victim.pid, signal.SIGKILL)
            wait_until(lambda: len(evidence.count("ran")) == 9, 30)
            limited.join("default", timeout=10_000)

    assert most_at_a_time(evidence) == 3
    assert client.exists(f"{{{namespace}}}:queue:default|few:held") == 0


def test_after_flushall_what_runs_counts_before_anything_is_handed_out(
    own_server: Server, namespace: str, evidence: Evidence
) -> None:
    broker = CallboardBroker(own_server.url, namespace=namespace, limit_of=LIMITS.get)
    actors = Actors(broker, evidence)
    broker.enqueue_many([actors.few.message(f"before{i}", 4.0) for i in range(3)])

    with ExitStack() as stack:
        for _ in range(2):  # why: in two renewals, 3.3 s, a busy machine registers again; the tasks last longer
            stack.enter_context(worker_process(own_server.url, namespace, evidence, lease_s=5))
        wait_until(lambda: evidence.count("began").total() == 3)
        with own_server.client() as client:
            client.flushall()
        broker.enqueue_many([actors.few.message(f"after{i}", 0.01) for i in range(20)])
        broker.enqueue_many([actors.note.message(f"note{i}") for i in range(20)])
        wait_until(lambda: len(evidence.count("ran")) == 43, 60)

    broker.close()
    assert most_at_a_time(evidence) == 3
    assert set(evidence.count("ran").values()) == {1}


def test_a_released_permit_wakes_a_blocked_worker_at_once(single: CallboardBroker) -> None:
    done: list[int] = []
    actor = actor_of(done.append, broker=single, actor_name="one")

    with running(single), running(single):
        for i in range(20):
            actor.send(i)
        wait_until(lambda: len(done) == 20, 20)  # a worker that looked by itself would take minutes

    assert done == list(range(20))


def test_the_next_permit_of_a_rate_wakes_a_blocked_worker_in_time(shared_server: Server, namespace: str) -> None:
    limits = {"rare": Limit(rate=1, per_s=0.3)}
    broker = CallboardBroker(shared_server.url, namespace=namespace, limit_of=limits.get, idle_block_s=60)
    done: list[int] = []
    actor = actor_of(done.append, broker=broker, actor_name="rare")

    with running(broker):
        started_s = time.monotonic()
        for i in range(5):
            actor.send(i)
        wait_until(lambda: len(done) == 5, 20)

    assert time.monotonic() - started_s >= 1.2
    broker.close()


def test_retries_wait_for_permits_and_waiting_uses_none_up(single: CallboardBroker) -> None:
    lock, tries = Lock(), list[int]()

    def one(i: int) -> None:
        assert lock.acquire(blocking=False)
        try:
            tries.append(i)
            if tries.count(i) < 3:
                raise RuntimeError("again")
        finally:
            lock.release()

    actor = actor_of(one, broker=single, max_retries=2, min_backoff=1, max_backoff=2)
    with running(single), running(single):
        for i in range(10):
            actor.send(i)
        wait_until(lambda: len(tries) == 30, 20)
        single.join("default", timeout=10_000)

    assert single.dead_letters("default") == []


def test_a_message_from_one_who_knows_no_limit_is_put_into_the_lane(
    broker: CallboardBroker, single: CallboardBroker
) -> None:
    both_run, running_now, most = Event(), set[int](), list[int]()

    def one(i: int) -> None:
        running_now.add(i)
        most.append(len(running_now))
        both_run.wait(0.05)
        running_now.discard(i)

    unaware = actor_of(one, broker=broker)
    actor_of(one, broker=single)
    for i in range(6):
        unaware.send(i)

    with running(single):
        wait_until(lambda: len(most) == 6)
        single.join("default", timeout=10_000)

    assert max(most) == 1


def test_a_worker_that_knows_no_limit_runs_what_waits_in_a_lane(
    broker: CallboardBroker, single: CallboardBroker
) -> None:
    done: list[int] = []
    actor_of(done.append, broker=broker, actor_name="one")
    aware = actor_of(done.append, broker=single, actor_name="one")
    for i in range(6):
        aware.send(i)

    with running(broker):
        wait_until(lambda: len(done) == 6)
        broker.join("default", timeout=10_000)


def test_a_queue_counts_pauses_and_drops_its_lanes(single: CallboardBroker) -> None:
    done: list[int] = []
    actor = actor_of(done.append, broker=single, actor_name="one")
    single.pause_queue("default")
    messages = [actor.send_with_options(args=(i,), priority=i + 1) for i in range(4)]
    actor.send_with_options(args=(9,), delay=3_600_000)

    depth = single.depth("default")
    assert (depth.waiting, depth.delayed, depth.paused) == (4, 1, True)
    assert [(p.priority, p.waiting) for p in depth.priorities] == [(4, 1), (3, 1), (2, 1), (1, 1)]
    single.reprioritise("default", messages[0].message_id, 10)
    assert single.remove("default", messages[2].message_id) is Removal.REMOVED
    with running(single):
        assert done == []
        single.resume_queue("default")
        wait_until(lambda: len(done) == 3)
    single.flush("default")

    assert done == [0, 3, 1]
    assert single.depth("default").live == 0


def test_dead_letters_of_a_limited_actor_are_those_of_its_queue(single: CallboardBroker) -> None:
    broken = True
    done: list[int] = []

    def one(i: int) -> None:
        if broken:
            raise RuntimeError("broken")
        done.append(i)

    actor = actor_of(one, broker=single, max_retries=0)
    with running(single):
        ids = [actor.send(i).message_id for i in range(3)]
        wait_until(lambda: len(single.dead_letters("default")) == 3)
        broken = False
        assert single.requeue_dead("default", ids) == [True] * 3
        wait_until(lambda: sorted(done) == [0, 1, 2])


def test_a_lone_consumer_takes_permits_too(single: CallboardBroker) -> None:
    actor = actor_of(print, broker=single, actor_name="one")
    actor.send("first")
    second = actor.send("second")
    consumer = single.consume("default", prefetch=5, timeout=200)

    first = next(consumer)
    assert first is not None
    assert next(consumer) is None
    consumer.ack(first)
    later = next(consumer)
    assert later is not None
    assert later.message_id == second.message_id

    consumer.ack(later)
    consumer.close()


def test_unstarted_messages_give_their_permits_back(shared_server: Server, namespace: str) -> None:
    limits = {"pair": Limit(concurrency=2, rate=3, per_s=3_600)}
    broker = CallboardBroker(shared_server.url, namespace=namespace, limit_of=limits.get)
    actor = actor_of(print, broker=broker, actor_name="pair")
    for i in range(2):
        actor.send_with_options(args=(i,), priority=1)
    first = broker.consume("default", prefetch=5, timeout=50)
    unstarted = [next(first), next(first)]
    first.requeue([message for message in unstarted if message is not None])
    first.close()
    urgent = [actor.send_with_options(args=(i,), priority=9).message_id for i in range(4)]

    then = broker.consume("default", prefetch=5, timeout=50)
    ran: list[str] = []
    while (message := next(then)) is not None:
        ran.append(message.message_id)
        then.ack(message)

    assert ran == urgent[:3]
    then.close()
    broker.close()


def test_a_queue_may_not_be_called_like_a_lane(single: CallboardBroker) -> None:
    actor = actor_of(print, broker=single, actor_name="one")

    with pytest.raises(BusRefused, match="rename the queue"):
        single.enqueue(actor.message("x").copy(queue_name="default|one"))


@pytest.mark.parametrize(
    ("options", "mend"),
    [
        ({}, "concurrency or a rate"),
        ({"concurrency": 0}, "1 to 100000"),
        ({"rate": 5}, "together"),
        ({"rate": 0, "per_s": 1.0}, "1 to 10000"),
        ({"rate": 1, "per_s": 0.0}, "above 0"),
    ],
)
def test_a_limit_that_is_none_is_refused(options: dict[str, int], mend: str) -> None:
    with pytest.raises(ValueError, match=mend):
        Limit(**options)
