"""The ledger where a commit's answer is lost: what is repeated finds what was done, and nothing is lost or doubled."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from dramatiq import Message

from models import database, task_moves, task_query
from models.task import Task, TaskStatus, new_task_id
from models.task_moves import Claim, Failure, NotYet, Refusal
from workers.broker import Delivery, Parcel, Settlement, Verdict
from workers.ledger.ledger import ENVELOPE, Ledger, Running

pytestmark = pytest.mark.usefixtures("ledger_database")


@pytest.fixture
def ledger(ledger_database: str) -> Iterator[Ledger]:
    """The ledger of a worker process that is alive."""
    made = Ledger(heartbeat_s=5.0, threads=1, result_max_bytes=1_024)
    made.presence.start()
    yield made
    made.presence.stop()


@pytest.fixture
def message(ledger: Ledger) -> Parcel:
    """A message whose row is pending, as the bus hands it out."""
    task_id = new_task_id()
    ledger.accept(Task(task_id=task_id, task_name="probes.add", queue="jobs", created_at=datetime.now(UTC)))
    sent = Message(
        queue_name="jobs", actor_name="probes.add", args=(), kwargs={}, options={ENVELOPE: 1}, message_id=task_id
    )
    delivery = Delivery(task_id, b"", fence=1, losses=0, score="0", queue_name="jobs", owner="me")
    return Parcel(sent, delivery, priority=5, attempt=0, got_s=0.0, held_until_s=0.0)


def refuse_adoption() -> Task:
    raise AssertionError("the message has a row")


def settle(message: Parcel, verdict: Verdict) -> Settlement:
    return message.settlement(verdict, delay_ms=1_000 if verdict is Verdict.RETRY else None)


def claimed(ledger: Ledger, message: Parcel) -> Running:
    running = ledger.claim(message, refuse_adoption)
    assert isinstance(running, Running)
    return running


def row(message: Parcel) -> Task:
    with database.reading() as session:
        found = task_query.get(session, message.message_id)
    assert found is not None
    return found


def test_a_claim_whose_answer_was_lost_stands(ledger: Ledger, message: Parcel) -> None:
    first = ledger._claim_once(message, refuse_adoption, again=False)

    second = ledger._claim_once(message, refuse_adoption, again=True)

    assert isinstance(first, Claim)
    assert second == first
    assert (row(message).status, row(message).attempt) == (TaskStatus.RUNNING, 1)
    assert ledger._claim_once(message, refuse_adoption, again=False) is Refusal.RUNNING


@pytest.mark.parametrize("verdict", [Verdict.ACK, Verdict.DEAD, Verdict.RETRY])
def test_an_outcome_whose_answer_was_lost_is_still_settled_as_decided(
    ledger: Ledger, message: Parcel, verdict: Verdict
) -> None:
    running = claimed(ledger, message)
    now, failure = datetime.now(UTC), Failure("ValueError", "no")
    with database.writing() as session:
        match verdict:
            case Verdict.ACK:
                task_moves.complete(session, message.message_id, attempt=1, result=None, now=now)
            case Verdict.DEAD:
                task_moves.fail(session, message.message_id, attempt=1, reason="x", failure=failure, now=now)
            case _:
                eta = now + timedelta(seconds=1)
                task_moves.retry(session, message.message_id, attempt=1, eta=eta, failure=failure, now=now)
    before = row(message).model_dump()

    ledger.record(running, exception=None if verdict is Verdict.ACK else ValueError("no"))
    settled = ledger.outcome(settle(message, verdict))

    assert settled.verdict is verdict
    assert row(message).model_dump() == before


def test_an_outcome_that_lost_its_row_to_a_later_attempt_is_only_acknowledged(ledger: Ledger, message: Parcel) -> None:
    running = claimed(ledger, message)
    with database.writing() as session:
        later = datetime.now(UTC) + timedelta(hours=1)
        task_moves.claim(
            session, message.message_id, message_attempt=1, worker_id="other", now=later, alive_since=later
        )  # fmt: skip

    ledger.record(running, exception=ValueError("late"))
    settled = ledger.outcome(settle(message, Verdict.RETRY))

    assert settled.verdict is Verdict.ACK
    assert (row(message).status, row(message).attempt, row(message).worker_id) == (TaskStatus.RUNNING, 2, "other")


def test_two_deliveries_of_one_task_do_not_take_each_others_outcome(ledger: Ledger, message: Parcel) -> None:
    running = claimed(ledger, message)
    twin = Parcel(
        message._message,
        Delivery(message.message_id, b"", fence=2, losses=0, score="0", queue_name="jobs", owner="me"),
        priority=5,
        attempt=0,
        got_s=0.0,
        held_until_s=0.0,
    )

    assert ledger.claim(twin, refuse_adoption) is Refusal.RUNNING
    ledger.record(running, result="mine")
    put_off = ledger.outcome(settle(twin, Verdict.ACK))
    settled = ledger.outcome(settle(message, Verdict.ACK))

    assert (put_off.verdict, put_off.delay_ms) == (Verdict.DEFER, 2_000)
    assert settled.verdict is Verdict.ACK
    assert (row(message).status, row(message).result) == (TaskStatus.COMPLETED, "mine")


def test_a_retry_that_the_bus_was_never_told_of_runs_when_it_is_due(ledger: Ledger, message: Parcel) -> None:
    running = claimed(ledger, message)
    ledger.record(running, exception=ValueError("no"))
    ledger.outcome(settle(message, Verdict.RETRY))
    came_back = Parcel(
        message._message.copy(),
        Delivery(message.message_id, b"", fence=2, losses=1, score="0", queue_name="jobs", owner="me"),
        priority=5,
        attempt=0,
        got_s=0.0,
        held_until_s=0.0,
    )
    del came_back.options["attempt"]  # why: the bus still has the message as it was first sent

    refused = ledger.claim(came_back, refuse_adoption)
    put_off = ledger.outcome(settle(came_back, Verdict.ACK))
    with database.writing() as session:
        session.get_one(Task, message.message_id).eta = datetime.now(UTC)
    started = ledger.claim(came_back, refuse_adoption)

    assert isinstance(refused, NotYet)
    assert put_off.verdict is Verdict.DEFER
    assert put_off.delay_ms is not None
    assert 0 < put_off.delay_ms <= 1_000
    assert isinstance(started, Running)
    assert (row(message).attempt, row(message).retry_count) == (2, 1)


def test_an_attempt_that_ended_unrecorded_starts_again(ledger: Ledger, message: Parcel) -> None:
    claimed(ledger, message)

    settled = ledger.outcome(settle(message, Verdict.ACK))

    assert settled.verdict is Verdict.RELEASE
    assert (row(message).status, row(message).retry_count) == (TaskStatus.PENDING, 0)
    assert isinstance(ledger.claim(message, refuse_adoption), Running)


def test_a_row_taken_back_is_refused_for_ever(ledger: Ledger, message: Parcel) -> None:
    assert ledger.withdraw(message.message_id)

    assert ledger.claim(message, refuse_adoption) is Refusal.UNKNOWN
    assert ledger.outcome(settle(message, Verdict.ACK)).verdict is Verdict.ACK
    assert not ledger.withdraw(message.message_id)
