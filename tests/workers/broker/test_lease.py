"""Workers that die, freeze or are cut off; servers that stall or lose their data."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import pytest

from tests.scale import PATIENCE
from tests.workers.broker import scale
from tests.workers.broker.actors import actor_of
from tests.workers.broker.conftest import running, wait_until
from tests.workers.broker.evidence import Evidence
from tests.workers.broker.server import Server
from tests.workers.broker.worker_process import Actors, worker_process
from workers.broker import (
    CallboardBroker,
    Delivery,
    Generation,
    Outcome,
    Parcel,
    Policy,
    Settlement,
    Verdict,
)
from workers.broker.work_queue import WorkQueue


def test_everything_a_killed_worker_held_is_run_by_another(own_server: Server, tmp_path: Path) -> None:
    evidence = Evidence(tmp_path / "evidence")
    broker = CallboardBroker(own_server.url)
    actors = Actors(broker, evidence)
    lease_s = scale.KILL_LEASE_S
    with worker_process(own_server.url, "callboard", evidence, threads=16, lease_s=lease_s) as doomed:
        for i in range(16):
            actors.last.send(f"held{i}", 0.2 if i else 0.1)
        # All sixteen have begun and none is done: killed in the middle.
        wait_until(lambda: len(evidence.count("began")) == 16)
        doomed.send_signal(signal.SIGKILL)
        killed_s = time.monotonic()
        doomed.wait()
        done_before = set(evidence.count("ran"))
    with worker_process(own_server.url, "callboard", evidence, threads=16, lease_s=lease_s):
        wait_until(lambda: len(evidence.count("ran")) == 16, lease_s + 5)
        wait_until(lambda: broker.depth("default").live == 0)

    assert time.monotonic() - killed_s < (lease_s + 5) * PATIENCE
    assert max(evidence.count("ran").values()) <= 1 + len(done_before)
    broker.close()


def test_a_frozen_worker_cannot_acknowledge_what_another_has_taken(own_server: Server, tmp_path: Path) -> None:
    evidence = Evidence(tmp_path / "evidence")
    broker = CallboardBroker(own_server.url)
    actors = Actors(broker, evidence)
    lease_s = scale.FREEZE_LEASE_S
    with worker_process(own_server.url, "callboard", evidence, threads=2, lease_s=lease_s) as frozen:
        actors.last.send("first", 1.5)
        actors.last.send("second", 1.5)
        wait_until(lambda: len(evidence.count("began")) == 2)
        frozen.send_signal(signal.SIGSTOP)
        thaw_s = time.monotonic() + scale.FREEZE_S
        with worker_process(own_server.url, "callboard", evidence, threads=2, lease_s=lease_s) as other:
            wait_until(lambda: len(evidence.count("began")) == 2 and sum(evidence.count("began").values()) == 4, 40)
            # The other one has them, and takes long over it; now the frozen one goes on and acknowledges.
            other.send_signal(signal.SIGSTOP)
            wait_until(lambda: time.monotonic() >= thaw_s, scale.FREEZE_S + 5)
            frozen.send_signal(signal.SIGCONT)
            wait_until(lambda: len(evidence.count("ran")) == 2, 20)
            wait_until(lambda: broker.depth("default").leased == 2, 5)
            held = broker.depth("default")
            other.send_signal(signal.SIGCONT)
            wait_until(lambda: broker.depth("default").live == 0, 30)

    assert (held.leased, held.waiting, held.dead) == (2, 0, 0)
    assert set(evidence.count("ran")) == {"first", "second"}
    broker.close()


def test_workers_whose_clocks_are_two_minutes_off_take_nothing_from_each_other(
    own_server: Server, tmp_path: Path
) -> None:
    evidence = Evidence(tmp_path / "evidence")
    broker = CallboardBroker(own_server.url)
    actors = Actors(broker, evidence)
    lease_s = scale.FREEZE_LEASE_S
    ahead = worker_process(own_server.url, "callboard", evidence, threads=4, lease_s=lease_s, skew_s=120.0)
    behind = worker_process(own_server.url, "callboard", evidence, threads=4, lease_s=lease_s, skew_s=-120.0)
    with ahead, behind:
        sent_s = time.monotonic()
        actors.note.send_with_options(args=("delayed",), delay=1_000)
        for number in range(100):
            actors.note.send(f"short-{number}")
        for number in range(7):  # one thread of eight stays free for the delayed one
            actors.last.send(f"long-{number}", lease_s)  # renewed at least once while it runs
        wait_until(lambda: evidence.count("ran")["delayed"] == 1, 10)
        late_s = time.monotonic() - sent_s - 1.0
        wait_until(lambda: broker.depth("default").live == 0, 20 + 2 * lease_s)

    assert set(evidence.count("ran").values()) == {1}
    assert len(evidence.count("ran")) == 108
    assert -0.05 < late_s < 5 * PATIENCE
    broker.close()


def test_a_stale_settlement_is_refused_and_reported(broker: CallboardBroker, namespace: str) -> None:
    actor = actor_of(lambda: None, actor_name="note", broker=broker)
    actor.send()
    frozen = CallboardBroker(client=broker.client, namespace=namespace, policy=Policy(lease_s=0.05))
    refused: list[Settlement] = []
    frozen.on_settlement_refused = refused.append
    mine = next(frozen.consume("default", timeout=1000))
    assert isinstance(mine, Parcel)
    other = broker.consume("default", timeout=5000)
    theirs = next(other)
    assert isinstance(theirs, Parcel)

    outcomes = {v: frozen.settle_batch([mine.settlement(v)])[0] for v in Verdict if v is not Verdict.RETRY}

    assert theirs.delivery.fence == mine.delivery.fence + 1
    assert set(outcomes.values()) == {Outcome.STALE}
    assert len(refused) == len(outcomes)
    other.ack(theirs)
    assert broker.depth("default").live == 0


def test_a_late_acknowledgement_counts_while_nobody_else_took_the_message(
    broker: CallboardBroker, namespace: str
) -> None:
    actor = actor_of(lambda: None, actor_name="note", broker=broker)
    actor.send()
    slow = CallboardBroker(client=broker.client, namespace=namespace, policy=Policy(lease_s=0.05))
    mine = next(slow.consume("default", timeout=1000))
    assert isinstance(mine, Parcel)
    bus = broker.bus_of("default")
    line = bus.open_line(threading.Event())
    wait_until(lambda: bus.tidy(line) == 0 and broker.depth("default").waiting == 1)

    outcome = slow.settle_batch([mine.settlement(Verdict.ACK)])

    assert outcome == [Outcome.DONE]
    assert broker.depth("default").live == 0
    line.close()


def test_a_stalled_server_makes_nothing_run_twice(own_server: Server, tmp_path: Path) -> None:
    evidence = Evidence(tmp_path / "evidence")
    broker = CallboardBroker(own_server.url)
    actors = Actors(broker, evidence)
    lease_s = scale.STALL_LEASE_S
    with (
        worker_process(own_server.url, "callboard", evidence, threads=4, lease_s=lease_s),
        worker_process(own_server.url, "callboard", evidence, threads=4, lease_s=lease_s),
    ):
        broker.enqueue_many([actors.last.message(f"task{i}", 0.05) for i in range(200)])
        wait_until(lambda: len(evidence.count("began")) > 20)
        own_server.freeze()
        time.sleep(scale.STALL_S)  # why: the stall is the point
        own_server.thaw()
        wait_until(lambda: broker.depth("default").live == 0, 30)

    assert len(evidence.count("ran")) == 200
    assert max(evidence.count("ran").values()) == 1
    broker.close()


def test_running_messages_get_their_lease_back_after_the_server_was_emptied(
    own_server: Server,
) -> None:
    policy = Policy(lease_s=1.2)
    broker = CallboardBroker(own_server.url, policy=policy)
    runs, release = list[str](), threading.Event()
    generations: list[tuple[Generation, Generation]] = []
    broker.on_generation(lambda before, now: generations.append((before, now)))

    def task(name: str) -> None:
        runs.append(name)
        release.wait(20)

    actor = actor_of(task, broker=broker)
    with running(broker, threads=2):
        actor.send("held")
        wait_until(lambda: runs)
        first = broker.generation
        broker.client.flushall()
        wait_until(lambda: broker.depth("default").leased == 1, 5)
        # Somebody who rebuilds the bus from his books sends it again: it is leased, and not taken twice.
        receipts = broker.publish([m._message for m in broker.held()])
        release.set()
        wait_until(lambda: broker.depth("default").live == 0, 5)

    assert runs == ["held"]
    assert [r.name for r in receipts] == ["PRESENT"]
    assert broker.generation.number > first.number > 0
    assert generations[-1] == (first, broker.generation)
    broker.close()


def test_a_message_whose_lease_was_lost_before_it_started_is_not_started(broker: CallboardBroker) -> None:
    started, release = list[str](), threading.Event()
    lost: list[Parcel] = []
    broker.on_lease_lost = lost.append

    def task(name: str) -> None:
        started.append(name)
        if name == "long":
            release.wait(10)

    actor = actor_of(task, broker=broker)
    with running(broker, threads=1) as worker:
        queue = worker.work_queue
        assert isinstance(queue, WorkQueue)
        actor.send("long")
        wait_until(lambda: started)
        behind = actor.send("behind")
        delivery = Delivery(behind.message_id, b"", 1, 0, "0", "default", "me")
        parcel = Parcel(behind, delivery, priority=5, attempt=0, got_s=time.monotonic() + 60, held_until_s=1e12)
        parcel.lost = True
        queue.deliver([parcel])
        release.set()
        wait_until(lambda: broker.depth("default").live == 0)

    # Once, from the bus; not from the parcel that was another's by then.
    assert started == ["long", "behind"]


def test_a_restart_of_the_server_begins_a_new_generation(own_server: Server) -> None:
    broker = CallboardBroker(own_server.url)
    runs: list[int] = []
    actor = actor_of(runs.append, actor_name="note", broker=broker)
    with running(broker, threads=2) as worker:
        actor.send(1)
        wait_until(lambda: runs == [1])
        first = broker.generation
        own_server.kill()
        own_server.start()
        actor.send(2)
        wait_until(lambda: runs == [1, 2])
        assert all(thread.is_alive() for thread in [*worker.workers, *worker.consumers.values()])

    assert broker.generation.number == first.number + 1
    broker.close()


def test_after_an_outage_longer_than_a_lease_the_living_renew_and_the_dead_are_replaced(own_server: Server) -> None:
    broker = CallboardBroker(own_server.url, policy=Policy(lease_s=2.5))
    actor = actor_of(lambda _: None, actor_name="note", broker=broker)
    sent = [actor.send(name).message_id for name in ("of the living", "of the dead")]
    living = next(broker.consume("default", timeout=1000))
    dead = next(broker.consume("default", timeout=1000))
    assert isinstance(living, Parcel)
    assert isinstance(dead, Parcel)

    own_server.kill()
    time.sleep(2.6)  # why: both leases end by the clock while nobody could renew them
    own_server.start()
    # Whoever comes first after the outage gets nothing: it is the turn of those who hold leases.
    other = broker.consume("default", prefetch=2, timeout=200)
    too_early = next(other)
    bus = broker.bus_of("default")
    line = bus.open_line(threading.Event())
    renewed = bus.renew(line, living.delivery.owner, [living.delivery])
    settled = broker.settle_batch([living.settlement(Verdict.ACK)])
    taken = next(broker.consume("default", timeout=20_000))

    assert too_early is None
    assert renewed == [Outcome.DONE]
    assert taken is not None
    assert taken.message_id == sent[1]
    assert settled == [Outcome.DONE]
    line.close()
    broker.close()


def test_a_message_that_loses_its_worker_too_often_is_dead(broker: CallboardBroker, namespace: str) -> None:
    policy = Policy(lease_s=0.03, max_losses=3)
    poisoned = CallboardBroker(client=broker.client, namespace=namespace, policy=policy)
    actor = actor_of(lambda: None, actor_name="poison", broker=poisoned)
    message = actor.send()

    fences: list[int] = []
    for _ in range(3):
        parcel = next(poisoned.consume("default", timeout=2000))
        assert isinstance(parcel, Parcel)
        fences.append(parcel.delivery.fence)
    nothing = next(poisoned.consume("default", timeout=200))

    assert fences == [1, 2, 3]
    assert nothing is None
    letters = poisoned.dead_letters("default")
    assert [(letter.message_id, letter.reason) for letter in letters] == [
        (message.message_id, "lost its worker 3 times")
    ]


@pytest.mark.parametrize("paused_by", ["worker", "ledger"])
def test_a_paused_worker_holds_nothing(broker: CallboardBroker, paused_by: str) -> None:
    runs: list[int] = []
    actor = actor_of(runs.append, actor_name="note", broker=broker)
    with running(broker, threads=2) as worker:
        if paused_by == "worker":
            worker.pause()
        else:
            broker.hold_fetching("database")
        broker.enqueue_many([actor.message(i) for i in range(20)])
        # One fetch may have been under way; it gives back what it got.
        wait_until(lambda: broker.depth("default").waiting == 20, 5)
        time.sleep(0.15)  # why: nothing may happen in this time
        before = list(runs)
        depth = broker.depth("default")
        if paused_by == "worker":
            worker.resume()
        else:
            broker.allow_fetching("database")
        wait_until(lambda: len(runs) == 20, 10)

    assert before == []
    assert depth.waiting == 20
