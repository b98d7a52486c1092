"""How deliveries end: acknowledged, retried, dead; always once, always atomically."""

from __future__ import annotations

import threading
import time

import dramatiq
import pytest
from dramatiq.middleware import Middleware, Retries, SkipMessage

from tests.workers.broker.actors import actor_of
from tests.workers.broker.conftest import running, wait_until
from workers.broker import CallboardBroker, Outcome, Parcel, Policy, Receipt, Settlement, Verdict
from workers.broker.envelope import pack
from workers.broker.script import script


def test_a_late_copy_of_a_send_that_was_answered_puts_nothing_on_the_bus(broker: CallboardBroker) -> None:
    message = actor_of(lambda: None, actor_name="note", broker=broker).message()
    record = pack(message.encode(), priority=5, attempt=0)
    arguments = ("a-producer", 1, 60_000, 1, "default", message.message_id, record, 1, "")
    line = broker.bus_of("default").open_line(threading.Event())
    first = line.call(script("enqueue"), *arguments)
    with running(broker, threads=1):
        wait_until(lambda: broker.depth("default").live == 0)

    again = line.call(script("enqueue"), *arguments)

    assert (first, again) == (b"1", b"1")
    assert broker.depth("default").live == 0
    line.close()


def test_a_retry_is_one_message_delayed_on_the_server(broker: CallboardBroker) -> None:
    attempts: list[float] = []

    def task() -> None:
        attempts.append(time.monotonic())
        if len(attempts) < 3:
            raise RuntimeError("not yet")

    actor = actor_of(task, broker=broker, min_backoff=200, max_backoff=400)
    with running(broker, threads=2):
        actor.send()
        wait_until(lambda: broker.depth("default").delayed == 1)
        depth = broker.depth("default")
        wait_until(lambda: len(attempts) == 3)
        wait_until(lambda: broker.depth("default").live == 0)

    assert (depth.waiting, depth.leased, depth.live) == (0, 0, 1)
    assert attempts[1] - attempts[0] >= 0.2
    assert broker.depth("default").dead == 0


def test_a_retry_that_waits_survives_its_worker(broker: CallboardBroker) -> None:
    attempts: list[int] = []

    def task() -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise dramatiq.errors.Retry("later", delay=300)

    actor = actor_of(task, broker=broker)
    with running(broker, threads=1):
        actor.send()
        wait_until(lambda: broker.depth("default").delayed == 1)
    with running(broker, threads=1):
        wait_until(lambda: len(attempts) == 2)


@pytest.mark.parametrize("addition", [object(), "more"])
def test_a_retry_runs_with_what_was_sent_whatever_the_function_did_to_it(
    broker: CallboardBroker, addition: object
) -> None:
    seen: list[list[object]] = []

    def task(items: list[object]) -> None:
        seen.append(list(items))
        items.append(addition)
        raise RuntimeError("mutated")

    actor = actor_of(task, broker=broker, min_backoff=10, max_backoff=20, max_retries=2)
    with running(broker, threads=1):
        actor.send([1])
        wait_until(lambda: broker.depth("default").dead == 1)

    assert seen == [[1], [1], [1]]


def test_an_option_that_cannot_be_sent_does_not_cost_the_count_of_retries(broker: CallboardBroker) -> None:
    runs: list[int] = []

    class Meddler(Middleware):
        def before_process_message(self, _broker: object, message: dramatiq.MessageProxy) -> None:
            message.options["connection"] = object()

    def task() -> None:
        runs.append(1)
        raise RuntimeError("failed")

    broker.add_middleware(Meddler())
    actor = actor_of(task, broker=broker, min_backoff=10, max_backoff=20, max_retries=2)
    with running(broker, threads=1):
        actor.send()
        wait_until(lambda: broker.depth("default").dead == 1)

    assert len(runs) == 3


def test_a_task_whose_retry_policy_raises_is_kept_among_the_dead(broker: CallboardBroker) -> None:
    def broken(_retries: int, _error: BaseException) -> bool:
        raise KeyError("policy")

    def task() -> None:
        raise RuntimeError("failed")

    actor = actor_of(task, broker=broker, retry_when=broken)
    with running(broker, threads=1):
        actor.send()
        wait_until(lambda: broker.depth("default").dead == 1)

    assert broker.dead_letters("default")[0].reason == "retry failed: RuntimeError: failed"


def test_a_dead_message_keeps_its_last_words_and_can_be_sent_again(broker: CallboardBroker) -> None:
    runs: list[int] = []

    def task() -> None:
        runs.append(1)
        if len(runs) == 1:
            raise RuntimeError("failed\nbadly")

    actor = actor_of(task, broker=broker, max_retries=0)
    message = actor.send()
    with running(broker, threads=1):
        wait_until(lambda: broker.depth("default").dead == 1)
        letter = broker.dead_letters("default")[0]
        assert broker.requeue_dead("default", [message.message_id, "nobody's"]) == [True, False]
        wait_until(lambda: len(runs) == 2)
        wait_until(lambda: broker.depth("default").live == 0)

    assert letter.message_id == message.message_id
    assert letter.reason == "RuntimeError: failed badly"
    assert b"Traceback" in letter.payload
    assert broker.depth("default").dead == 0


def test_a_ledger_that_takes_the_decisions_settles_when_it_is_ready(broker: CallboardBroker) -> None:
    held: list[Settlement] = []
    broker.settlement_sink = held.append
    actor = actor_of(lambda: None, actor_name="note", broker=broker)
    with running(broker, threads=4):
        for _ in range(20):
            actor.send()
        wait_until(lambda: len(held) == 20)
        before = broker.depth("default")
        outcomes = broker.settle_batch(held[:10])
        broker.submit_settlements(held[10:])
        wait_until(lambda: broker.depth("default").live == 0)
        again = broker.settle_batch(held)

    assert before.leased == 20
    assert outcomes == [Outcome.DONE] * 10
    assert again == [Outcome.ABSENT] * 20
    assert broker.held() == []


def test_decisions_that_a_ledger_holds_keep_their_leases(broker: CallboardBroker, namespace: str) -> None:
    slow = CallboardBroker(client=broker.client, namespace=namespace, policy=Policy(lease_s=1.5))
    held: list[Settlement] = []
    runs: list[int] = []
    slow.settlement_sink = held.append
    actor = actor_of(lambda: runs.append(1), actor_name="note", broker=slow)
    with running(slow, threads=2):
        actor.send()
        wait_until(lambda: held)
        time.sleep(4.0)  # why: nearly three leases pass; a renewal is what keeps it from running again
        assert slow.settle_batch(held) == [Outcome.DONE]

    assert runs == [1]


def test_fences_count_deliveries_and_are_never_below_the_attempt(broker: CallboardBroker) -> None:
    actor = actor_of(lambda: None, actor_name="note", broker=broker)
    first = actor.send()
    rebuilt = actor.send_with_options(attempt=7)
    consumer = broker.consume("default", prefetch=2, timeout=500)

    fences: dict[str, int] = {}
    for _ in range(2):
        parcel = next(consumer)
        assert isinstance(parcel, Parcel)
        fences[parcel.message_id] = parcel.delivery.fence
        consumer.ack(parcel)

    assert fences == {first.message_id: 1, rebuilt.message_id: 8}


def test_sending_is_idempotent_by_id_and_attempt(broker: CallboardBroker) -> None:
    actor = actor_of(lambda: None, actor_name="note", broker=broker)
    message = actor.message()
    later = message.copy(options={"attempt": 1})

    receipts = broker.publish([message, message, later, later, message])

    taken, present = Receipt.TAKEN, Receipt.PRESENT
    assert receipts == [taken, present, taken, present, present]
    assert broker.depth("default").waiting == 1


def test_a_skipped_message_is_acknowledged_and_a_failed_one_dead(broker: CallboardBroker) -> None:
    class Skip(Middleware):
        def before_process_message(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy) -> None:
            if message.options.get("fail"):
                message.fail()
            raise SkipMessage("skipped")

    broker.add_middleware(Skip())
    runs: list[int] = []
    actor = actor_of(lambda: runs.append(1), actor_name="note", broker=broker)
    actor.send()
    actor.send_with_options(fail=True)
    with running(broker, threads=1):
        wait_until(lambda: broker.depth("default").live == 0)

    assert runs == []
    assert broker.depth("default").dead == 1


def test_without_retries_an_exception_is_done_as_with_stock_brokers(broker: CallboardBroker, namespace: str) -> None:
    plain = CallboardBroker(client=broker.client, namespace=namespace, middleware=[])
    assert not any(isinstance(m, Retries) for m in plain.middleware)

    def task() -> None:
        raise RuntimeError("failed")

    actor = actor_of(task, broker=plain)
    actor.send()
    with running(plain, threads=1):
        wait_until(lambda: plain.depth("default").live == 0)

    assert plain.depth("default").dead == 0


@pytest.mark.parametrize("verdict", [Verdict.RELEASE, Verdict.DEFER])
def test_a_message_that_was_given_back_and_came_again_is_not_given_back_by_a_copy_of_that(
    broker: CallboardBroker, verdict: Verdict
) -> None:
    actor_of(lambda: None, actor_name="note", broker=broker).send()
    consumer = broker.consume("default", timeout=2_000)
    first = next(consumer)
    assert isinstance(first, Parcel)
    given_back = first.settlement(verdict)
    assert broker.settle_batch([given_back]) == [Outcome.DONE]
    consumer._outstanding.clear()  # type: ignore[attr-defined]  # it was settled past the consumer
    again = next(consumer)
    assert isinstance(again, Parcel)
    assert (again.delivery.owner, again.delivery.fence) == (first.delivery.owner, first.delivery.fence)

    assert broker.settle_batch([given_back]) == [Outcome.STALE]

    assert broker.depth("default").leased == 1
    assert broker.settle_batch([again.settlement(Verdict.ACK)]) == [Outcome.DONE]
    consumer.close()


@pytest.mark.parametrize("verdict", [Verdict.ACK, Verdict.DEAD, Verdict.RELEASE])
def test_a_settlement_executed_twice_is_done_once(broker: CallboardBroker, verdict: Verdict) -> None:
    actor = actor_of(lambda: None, actor_name="note", broker=broker)
    actor.send()
    parcel = next(broker.consume("default", timeout=500))
    assert isinstance(parcel, Parcel)
    settlement = parcel.settlement(verdict)

    outcomes = [broker.settle_batch([settlement])[0] for _ in range(2)]

    assert outcomes[0] is Outcome.DONE
    assert outcomes[1] in (Outcome.ABSENT, Outcome.STALE)


def test_a_decision_that_cannot_be_sent_holds_up_no_other(
    broker: CallboardBroker, caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[str] = []
    gate = threading.Event()

    def task(name: str) -> None:
        gate.wait(10)
        ran.append(name)

    actor = actor_of(task, broker=broker)
    with running(broker, threads=4):
        for name in "abc":
            actor.send(name)
        wait_until(lambda: broker.depth("default").leased == 3)
        unsendable = Settlement("\ud800", "default", "nobody", 1, Verdict.ACK)
        for crew in broker._crews:
            crew.submit(unsendable)
        gate.set()
        wait_until(lambda: broker.depth("default").live == 0)

    assert sorted(ran) == ["a", "b", "c"]
    assert "is given up: its lease will end" in caplog.text
