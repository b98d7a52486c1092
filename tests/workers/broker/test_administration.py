"""What operators and interfaces do: pause, re-prioritise, remove, look, clean."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import dramatiq
import pytest
import redis

from tests.workers.broker.actors import actor_of
from tests.workers.broker.conftest import running, wait_until
from workers.broker import CallboardBroker, Change, Policy, Removal
from workers.broker.keys import Keys


def test_a_paused_queue_is_not_handed_out_and_its_neighbour_is(broker: CallboardBroker) -> None:
    runs: list[str] = []
    actors = [actor_of(lambda q=q: runs.append(q), actor_name=q, queue_name=q, broker=broker) for q in ("red", "blue")]
    broker.pause_queue("red")
    with running(broker, threads=2):
        for actor in actors:
            actor.send()
            actor.send_with_options(delay=20)
        wait_until(lambda: runs == ["blue", "blue"])
        wait_until(lambda: broker.depth("red").waiting == 2)
        paused = broker.depth("red")
        broker.resume_queue("red")
        wait_until(lambda: len(runs) == 4)

    assert paused.paused
    assert runs == ["blue", "blue", "red", "red"]


def test_a_waiting_message_is_given_another_place(broker: CallboardBroker) -> None:
    runs: list[str] = []
    seen: list[object] = []

    def note(name: str) -> None:
        runs.append(name)
        message = dramatiq.middleware.CurrentMessage.get_current_message()
        seen.append(message and message.options.get("priority"))

    broker.add_middleware(dramatiq.middleware.CurrentMessage())
    actor = actor_of(note, broker=broker)
    sent = {name: actor.send(name) for name in ("a", "b", "c")}
    delayed = actor.send_with_options(args=("d",), delay=60)

    assert broker.reprioritise("default", sent["c"].message_id, 9) is Change.CHANGED
    assert broker.reprioritise("default", delayed.message_id, 10) is Change.CHANGED
    assert broker.reprioritise("default", "nobody's", 9) is Change.ABSENT
    with pytest.raises(ValueError, match="from 1"):
        broker.reprioritise("default", sent["a"].message_id, 11)

    time.sleep(0.08)  # why: the delayed one falls due before the worker starts
    with running(broker, threads=1):
        wait_until(lambda: len(runs) == 4)
    assert runs == ["d", "c", "a", "b"]
    assert seen == [10, 9, None, None]


def test_a_removed_message_does_not_run_wherever_it_was(broker: CallboardBroker) -> None:
    runs: list[str] = []
    release = threading.Event()

    def task(name: str) -> None:
        runs.append(name)
        if name == "running":
            release.wait(10)

    actor = actor_of(task, broker=broker)
    with running(broker, threads=1):
        busy = actor.send("running")
        wait_until(lambda: runs == ["running"])
        waiting, delayed = actor.send("waiting"), actor.send_with_options(args=("delayed",), delay=50)
        unsent = actor.message("absent")
        found = [broker.remove("default", m.message_id) for m in (waiting, delayed, unsent, busy)]
        broker.enqueue(unsent)
        release.set()
        actor.send("last")
        wait_until(lambda: "last" in runs)
        wait_until(lambda: broker.depth("default").live == 0)

    assert found == [Removal.REMOVED, Removal.REMOVED, Removal.ABSENT, Removal.LEASED]
    assert runs == ["running", "last"]
    assert broker.forget_removal("default", unsent.message_id)
    broker.enqueue(unsent)
    assert broker.depth("default").waiting == 1


def test_cancel_against_start_either_cancels_or_runs(broker: CallboardBroker) -> None:
    runs: set[str] = set()
    actor = actor_of(runs.add, actor_name="note", broker=broker)
    removed: set[str] = set()
    with running(broker, threads=4):
        for i in range(300):
            message = actor.send(f"{i}")
            if broker.remove("default", message.message_id) is Removal.REMOVED:
                removed.add(f"{i}")
        wait_until(lambda: broker.depth("default").live == 0)

    assert removed | runs == {f"{i}" for i in range(300)}
    assert not removed & runs


@pytest.mark.parametrize("ageing_s", [None, 60.0])
def test_depth_tells_how_old_and_how_many_by_priority(
    broker: CallboardBroker, namespace: str, ageing_s: float | None
) -> None:
    policy = Policy(ageing_s_per_priority=ageing_s)
    some = CallboardBroker(client=broker.client, namespace=namespace, policy=policy)
    actor = actor_of(lambda: None, actor_name="note", broker=some)
    now_us = time.time_ns() // 1000
    some.publish(
        [actor.message_with_options(priority=p) for p in (9, 9, 2)],
        arrived_us=[now_us - 30_000_000, now_us, now_us - 500_000_000],
    )
    some.enqueue(actor.message(), delay=60_000)

    depth = some.depth("default")

    assert [(p.priority, p.waiting, round(p.oldest_age_s)) for p in depth.priorities] == [(9, 2, 30), (2, 1, 500)]
    assert round(depth.oldest_age_s) == 500
    assert depth.next_due_s is not None
    assert 30 < depth.next_due_s <= 60
    assert (depth.waiting, depth.delayed, depth.leased, depth.live) == (3, 1, 0, 4)


def test_dead_letters_are_bounded_by_number_and_age(broker: CallboardBroker, namespace: str) -> None:
    policy = Policy(dead_letters_kept=5, dead_letter_age_s=0.2)
    few = CallboardBroker(client=broker.client, namespace=namespace, policy=policy)

    def fail() -> None:
        raise RuntimeError("failed")

    actor = actor_of(fail, broker=few, max_retries=0)
    sent = [actor.send().message_id for _ in range(12)]
    with running(few, threads=1):
        wait_until(lambda: few.depth("default").live == 0)
    kept = [letter.message_id for letter in few.dead_letters("default")]
    bus = few.bus_of("default")
    line = bus.open_line(threading.Event())

    wait_until(lambda: bus.tidy(line) == 0 and few.depth("default").dead == 0, 3)

    assert kept == sent[:-6:-1]
    line.close()


def test_upkeep_shortens_leases_of_a_server_whose_clock_was_set_back(
    broker: CallboardBroker, namespace: str, client: redis.Redis
) -> None:
    ahead = replace(Policy(lease_s=10.0), clock_offset_us=3_600_000_000)
    late = CallboardBroker(client=broker.client, namespace=namespace, policy=ahead)
    actor = actor_of(lambda: None, actor_name="note", broker=late)
    actor.send()
    assert next(late.consume("default", timeout=500)) is not None
    now = CallboardBroker(client=broker.client, namespace=namespace, policy=Policy(lease_s=10.0))
    bus = now.bus_of("default")
    line = bus.open_line(threading.Event())

    bus.tidy(line)

    deadline_us = client.zrange(Keys(namespace).prefix + "leases", 0, 0, withscores=True)[0][1]
    assert 0 < float(deadline_us) / 1e6 - time.time() < 12
    line.close()


def test_a_drained_bus_leaves_no_keys_but_the_bounded_ones(
    broker: CallboardBroker, namespace: str, client: redis.Redis
) -> None:
    actor = actor_of(lambda: None, actor_name="note", broker=broker)
    with running(broker, threads=4):
        broker.enqueue_many([actor.message() for _ in range(200)])
        broker.enqueue_many([actor.message() for _ in range(20)], delay=30)
        wait_until(lambda: broker.depth("default").live == 0)
    prefix = Keys(namespace).prefix
    left = {key.decode().removeprefix(prefix): client.pttl(key) for key in client.scan_iter(prefix + "*")}

    forever = {name for name, ttl_ms in left.items() if ttl_ms == -1}
    assert forever <= {"clock", "generation", "queues", "queue:default:wake"}
    assert {name.split(":")[0] for name in left} - forever <= {"producer", "claim", "poke", "queue"}


def test_flushing_drops_everything_of_a_queue_and_nothing_of_another(broker: CallboardBroker) -> None:
    actors = [actor_of(lambda: None, actor_name=q, queue_name=q, broker=broker) for q in ("red", "blue")]
    for actor in actors:
        broker.enqueue_many([actor.message() for _ in range(3_000)])
        actor.send_with_options(delay=60_000)

    broker.flush("red")

    assert broker.depth("red").live == 0
    assert broker.depth("blue").live == 3_001
