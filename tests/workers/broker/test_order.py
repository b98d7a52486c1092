"""What starts first, and what never waits."""

from __future__ import annotations

import random
import threading
import time

import dramatiq
import redis
from dramatiq.middleware import Middleware

from tests.scale import SLACK
from tests.workers.broker import scale
from tests.workers.broker.actors import actor_of
from tests.workers.broker.conftest import running, wait_until
from workers.broker import CallboardBroker, Parcel, Policy
from workers.broker.calls import Fetch
from workers.broker.work_queue import WorkQueue


def fill(broker: CallboardBroker, actor: dramatiq.Actor[[int], None], count: int, seed: int) -> list[int]:
    """Sends `count` messages of random priority to one actor; returns their numbers in the order they must start."""
    chance = random.Random(seed)
    priorities = [chance.randint(1, 10) for _ in range(count)]
    broker.enqueue_many([actor.message_with_options(args=(i,), priority=p) for i, p in enumerate(priorities)])
    return sorted(range(count), key=lambda i: (-priorities[i], i))


def test_one_thread_starts_mixed_priorities_in_strict_order(broker: CallboardBroker) -> None:
    started: list[int] = []
    actor = actor_of(started.append, actor_name="note", broker=broker)
    expected = fill(broker, actor, scale.MIXED_PRIORITY_MESSAGES, seed=1)

    with running(broker, threads=1):
        broker.join("default", timeout=60_000, interval=10)

    assert started == expected


def test_many_threads_are_out_of_order_by_no_more_than_threads_and_look_ahead(broker: CallboardBroker) -> None:
    taken: list[tuple[float, int]] = []

    class Watch(Middleware):
        def before_process_message(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy) -> None:
            # When a thread took it. A line in the actor would tell when the interpreter came round to that thread.
            assert isinstance(message, Parcel)
            taken.append((message.started_s, message.args[0]))

    broker.add_middleware(Watch())
    actor = actor_of(lambda _: None, actor_name="note", broker=broker)
    expected = fill(broker, actor, scale.MIXED_PRIORITY_MESSAGES, seed=2)

    with running(broker, threads=16):
        broker.join("default", timeout=60_000, interval=10)

    started = [number for _, number in sorted(taken)]
    place = {number: at for at, number in enumerate(expected)}
    assert sorted(started) == sorted(expected)
    assert max(abs(place[number] - at) for at, number in enumerate(started)) <= 16 + 4 * 16


def test_queues_of_one_worker_are_merged_in_strict_order(broker: CallboardBroker) -> None:
    started: list[int] = []
    # More than are read of the index of heads at a time.
    actors = [actor_of(started.append, actor_name=f"note{q}", queue_name=f"q{q}", broker=broker) for q in range(40)]
    chance = random.Random(3)
    priorities = [chance.randint(1, 10) for _ in range(600)]
    broker.enqueue_many(
        [chance.choice(actors).message_with_options(args=(i,), priority=p) for i, p in enumerate(priorities)]
    )

    with running(broker, threads=1):
        wait_until(lambda: len(started) == 600, 30)

    assert started == sorted(range(600), key=lambda i: (-priorities[i], i))


def test_with_ageing_a_message_that_waited_long_enough_goes_first(broker: CallboardBroker, namespace: str) -> None:
    ageing = CallboardBroker(client=broker.client, namespace=namespace, policy=Policy(ageing_s_per_priority=60.0))
    started: list[str] = []
    actor = actor_of(started.append, actor_name="note", broker=ageing)
    now_us = time.time_ns() // 1000
    sent = [("young and urgent", 7, 0), ("old", 5, 150), ("less old", 5, 90)]
    ageing.publish(
        [actor.message_with_options(args=(name,), priority=p) for name, p, _ in sent],
        arrived_us=[now_us - age_s * 1_000_000 for _, _, age_s in sent],
    )

    with running(ageing, threads=1):
        wait_until(lambda: len(started) == 3)

    assert started == ["old", "young and urgent", "less old"]


def test_a_new_task_does_not_wait_behind_busy_threads_while_one_is_free(broker: CallboardBroker) -> None:
    release, delays_s = threading.Event(), list[float]()

    def block() -> None:
        release.wait(120)

    def note(sent_s: float) -> None:
        delays_s.append(time.monotonic() - sent_s)

    blocker = actor_of(block, broker=broker)
    noter = actor_of(note, broker=broker)
    with running(broker, threads=8):
        try:
            for busy in range(7):
                blocker.send()
                for _ in range(5):
                    expected = len(delays_s) + 1
                    noter.send(time.monotonic())
                    wait_until(lambda expected=expected: len(delays_s) == expected)
                assert busy < 7
        finally:
            release.set()

    assert max(delays_s) < 0.25 * SLACK


def knows_quick_tasks(worker: dramatiq.Worker, client: redis.Redis) -> None:
    """Waits until the worker is idle; then it has the measure of tasks of a microsecond."""
    queue = worker.work_queue
    assert isinstance(queue, WorkQueue)
    wait_until(lambda: len(queue._parked) == queue.threads and client.info("clients")["blocked_clients"] == 1)
    for _ in range(64):
        queue.look_ahead.record(1e-6)


def test_a_task_that_blocks_among_quick_ones_holds_up_no_other(
    broker: CallboardBroker, namespace: str, client: redis.Redis
) -> None:
    # What waits in the worker does not go back: it is run beside the long one, or after it.
    patient = CallboardBroker(client=broker.client, namespace=namespace, revoke_after_s=60.0)
    release, started, ended = threading.Event(), list[str](), list[str]()

    def task(name: str, wait: bool) -> None:
        started.append(name)
        if wait:
            release.wait(30)
        ended.append(name)

    actor = actor_of(task, broker=patient)
    with running(patient, threads=4, timeout_ms=60_000) as worker:
        knows_quick_tasks(worker, client)  # so one thread is woken for many messages
        patient.enqueue_many([actor.message("long", True)] + [actor.message(f"after{i}", False) for i in range(10)])
        try:
            wait_until(lambda: len(ended) == 10)
            assert "long" not in ended
        finally:
            release.set()
        patient.join("default", timeout=20_000)

    assert "long" in started


def test_what_a_thread_asked_for_before_a_long_task_goes_back_too(broker: CallboardBroker, client: redis.Redis) -> None:
    release, started = threading.Event(), list[str]()

    def task(name: str) -> None:
        started.append(name)
        if name == "long":
            release.wait(30)

    actor = actor_of(task, broker=broker)
    with running(broker, threads=1) as worker:
        knows_quick_tasks(worker, client)
        # A thread and its look-ahead: the fetch brings five, and the next is asked for before the fifth is started.
        broker.enqueue_many([actor.message(name) for name in ("a", "b", "c", "d", "long")])
        broker.enqueue_many([actor.message(f"after{i}") for i in range(20)])
        wait_until(lambda: "long" in started)
        ((hub,),) = [crew._hubs.values() for crew in broker._crews]
        try:
            wait_until(lambda: hub._fetcher.asked is None, 5)
            wait_until(lambda: (broker.depth("default").waiting, broker.depth("default").leased) == (20, 1), 5)
        finally:
            release.set()
        broker.join("default", timeout=20_000)


def test_a_message_in_a_busy_worker_goes_back_to_its_place(broker: CallboardBroker, namespace: str) -> None:
    release, started = threading.Event(), list[str]()

    def task(name: str, wait: bool) -> None:
        started.append(name)
        if wait:
            release.wait(120)

    actor = actor_of(task, broker=broker)
    with running(broker, threads=1) as worker:
        # Quick ones first, so that the worker looks ahead; then a long one with others behind it in the same batch.
        broker.enqueue_many([actor.message(f"quick{i}", False) for i in range(200)])
        broker.enqueue_many([actor.message("long", True)] + [actor.message(f"after{i}", False) for i in range(20)])
        wait_until(lambda: "long" in started)
        began_s = time.monotonic()
        try:
            wait_until(lambda: worker.work_queue.qsize() == 0, 2)
            wait_until(lambda: broker.depth("default").waiting == 20, 2)
            took_s = time.monotonic() - began_s
        finally:
            release.set()
        broker.join("default", timeout=20_000)

    assert started[-20:] == [f"after{i}" for i in range(20)]
    assert took_s < 0.5 * SLACK  # 45 ms on a quiet machine


def test_what_goes_back_waits_for_no_other_decision_and_so_is_there_before_the_next_fetch(
    broker: CallboardBroker, namespace: str, client: redis.Redis
) -> None:
    slow_to_settle = CallboardBroker(client=broker.client, namespace=namespace, settle_linger_s=60.0)
    release, started = threading.Event(), list[str]()

    def task(name: str) -> None:
        started.append(name)
        release.wait(30)

    actor = actor_of(task, broker=slow_to_settle)
    with running(slow_to_settle, threads=1) as worker:
        knows_quick_tasks(worker, client)
        slow_to_settle.enqueue_many([actor.message(f"{i}") for i in range(5)])
        try:
            wait_until(lambda: started and worker.work_queue.qsize() == 0)
            assert slow_to_settle.depth("default").waiting == 4
        finally:
            release.set()

    assert started == ["0"]


def test_who_takes_what_it_can_passes_the_wake_up_on(broker: CallboardBroker, client: redis.Redis) -> None:
    names = [f"q{i}" for i in range(20)]
    actors = [actor_of(lambda: None, actor_name=f"a_{name}", queue_name=name, broker=broker) for name in names]
    broker.enqueue_many([actor.message() for actor in actors for _ in range(2)])
    bus = broker.bus_of("q0")
    wakes = [bus.keys.wake(name) for name in names]
    client.delete(*wakes)  # as after each had woken somebody

    line = bus.open_line(threading.Event())
    catch = bus.fetch(line, Fetch("me", claim=1, room=5, queue_names=names, remember=False, woken_by="q19"))
    line.close()

    # Two of q0, two of q1, one of q2: what is left in q2, the best of the others, and where the token came from.
    assert len(catch.deliveries) == 5
    assert [name for name, key in zip(names, wakes, strict=True) if client.llen(key)] == ["q2", "q3", "q19"]


def test_a_worker_holds_no_more_than_its_threads_and_four_times_as_many_ahead(broker: CallboardBroker) -> None:
    threads, count = 4, 3_000
    unstarted: list[int] = []

    def task() -> None:
        unstarted.append(sum(1 for parcel in broker.held() if not parcel.started_s))

    actor = actor_of(task, broker=broker)
    broker.enqueue_many([actor.message() for _ in range(count)])
    with running(broker, threads=threads):
        wait_until(lambda: len(unstarted) == count, 30)

    assert max(unstarted) <= threads + 4 * threads
    assert max(unstarted) > threads  # it does look ahead where tasks are this short


def test_the_actors_own_dramatiq_priority_changes_nothing(broker: CallboardBroker) -> None:
    started: list[str] = []
    low = actor_of(lambda: started.append("low"), actor_name="low", priority=100, broker=broker)
    high = actor_of(lambda: started.append("high"), actor_name="high", priority=-100, broker=broker)
    low.send_with_options(priority=9)
    high.send_with_options(priority=2)
    low.send()
    high.send()

    with running(broker, threads=1):
        wait_until(lambda: len(started) == 4)

    assert started == ["low", "low", "high", "high"]


def test_messages_given_back_at_shutdown_are_first_again(broker: CallboardBroker) -> None:
    started: list[int] = []

    def slow(i: int) -> None:
        started.append(i)
        time.sleep(0.001 if i < 100 else 0.05)  # why: a task that lasts, so that others wait behind it in the worker

    actor = actor_of(slow, broker=broker)
    broker.enqueue_many([actor.message(i) for i in range(130)])
    with running(broker, threads=2):
        wait_until(lambda: len(started) > 100)
    first_part = list(started)
    depth = broker.depth("default")
    assert depth.leased == 0
    assert depth.waiting == 130 - len(first_part)
    late = actor.send(999)

    with running(broker, threads=1):
        wait_until(lambda: len(started) > len(first_part))
        assert started[len(first_part)] == len(first_part)
        broker.remove("default", late.message_id)
        broker.join("default", timeout=30_000)

    assert sorted(started) == list(range(130))
