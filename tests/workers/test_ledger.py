"""The ledger of one process between hooks and bus: what a message may do, and what its end means for row and bus."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from dramatiq import Message
from dramatiq.middleware import SkipMessage

from models import direct, task_moves
from models.task import AttemptOutcome, TaskStatus, new_task_id
from tests.models.rows import LATER, accepted, at_once, attempts, end, in_status, lose, new_row, row, running, start
from tests.servers import wait_until
from tests.workers.test_scribe import Wire
from workers.broker import Delivery, Generation, Parcel, Settlement, Verdict
from workers.errors import PermanentError
from workers.ledger.attempt import ATTEMPT, CHECK, ENVELOPE, Refused, Running
from workers.ledger.ledger import Ledger

pytestmark = pytest.mark.usefixtures("ledger_database")
PENDING, RUNNING, COMPLETED, FAILED, CANCELLED = TaskStatus
GENERATION = Generation(number=1, since_us=1_000)
OLD_US, NEW_US = 500, 2_000
IN_AN_HOUR = datetime.now(UTC).replace(year=LATER.year + 1)


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def ledger(ledger_database: str, wire: Wire) -> Iterator[Ledger]:
    """The ledger of a worker process that is alive."""
    made = Ledger(heartbeat_s=5.0, threads=1, result_max_bytes=1_024)
    made.adopt = lambda message: new_row(task_id=message.message_id)
    made.presence.start()
    made.scribe.start(wire)
    yield made
    made.scribe.stop(5)
    made.presence.stop()


def parcel(
    task_id: str,
    fence: int = 1,
    *,
    arrived_us: int = NEW_US,
    previous_owner: str | None = None,
    claim: int = 1,
    **options: Any,
) -> Parcel:
    """A message as the bus hands it out."""
    sent: Message[Any] = Message(
        queue_name="jobs", actor_name="probes.add", args=(), kwargs={}, options={ENVELOPE: 1, **options},
        message_id=task_id,
    )  # fmt: skip
    delivery = Delivery(
        *(task_id, b"", fence),
        losses=0,
        score="0",
        queue_name="jobs",
        owner="me",
        previous_owner=previous_owner,
        claim=claim,
    )
    return Parcel(sent, delivery, priority=5, attempt=0, got_s=0.0, held_until_s=0.0, arrived_us=arrived_us)


def begun(ledger: Ledger, message: Parcel) -> Running:
    running_now = ledger.begin(message, GENERATION)
    assert isinstance(running_now, Running)
    return running_now


def settled(ledger: Ledger, wire: Wire, message: Parcel, verdict: Verdict = Verdict.ACK) -> Settlement:
    """What the bus is told in the end."""
    details = {"delay_ms": 60_000} if verdict is Verdict.RETRY else {}
    before = len(wire.settled)
    at_once = ledger.settle(message.settlement(verdict, **details))
    if at_once is not None:
        return at_once
    wait_until(lambda: len(wire.settled) > before, within_s=10, what="the settlement")
    return wire.settled[-1][0]


MUST_ASK = {
    "delivered before": {"fence": 2},
    "sent by the relay": {CHECK: True},
    "older than the bus's data": {"arrived_us": OLD_US},
}


@pytest.mark.parametrize("how", MUST_ASK)
@pytest.mark.parametrize("status", [COMPLETED, FAILED, CANCELLED])
def test_a_message_that_may_have_run_asks_and_does_not_run_again(
    ledger: Ledger, wire: Wire, how: str, status: TaskStatus
) -> None:
    task_id = in_status(status)
    message = parcel(task_id, **MUST_ASK[how])  # type: ignore[arg-type]  # one dict of several types

    assert ledger.begin(message, GENERATION) == Refused("its task has ended")
    assert settled(ledger, wire, message).verdict is Verdict.ACK
    assert row(task_id).status == status


def test_messages_that_may_be_copies_are_vouched_for_if_their_rows_are_untouched(ledger: Ledger) -> None:
    untouched, touched = parcel(accepted(), **{CHECK: True}), parcel(running(), **{CHECK: True})

    ledger.vouch([untouched, touched], GENERATION)

    assert (untouched.vouched, touched.vouched) == (True, False)


ENDINGS: dict[str, tuple[BaseException | None, Verdict, TaskStatus, AttemptOutcome, str | None, Verdict]] = {
    "returned": (None, Verdict.ACK, COMPLETED, AttemptOutcome.COMPLETED, None, Verdict.ACK),
    "to be retried": (ValueError("no"), Verdict.RETRY, PENDING, AttemptOutcome.RETRIED, None, Verdict.RETRY),
    "out of retries": (ValueError("no"), Verdict.DEAD, FAILED, AttemptOutcome.FAILED, "retries exhausted",
                       Verdict.DEAD),
    "permanent": (PermanentError("no"), Verdict.DEAD, FAILED, AttemptOutcome.FAILED, "not retryable", Verdict.DEAD),
    "skipped": (SkipMessage("off"), Verdict.ACK, CANCELLED, AttemptOutcome.SKIPPED, "skipped: off", Verdict.ACK),
    # Dramatiq swallowed an error of the retry's sending and acknowledges (spec/traps.md 3): the row says failed.
    "acknowledged though it raised": (ValueError("no"), Verdict.ACK, FAILED, AttemptOutcome.FAILED,
                                      "retries exhausted", Verdict.DEAD),
}  # fmt: skip


@pytest.mark.parametrize("how", ENDINGS)
def test_what_an_attempt_comes_to_is_on_the_row_before_the_bus_hears_of_it(
    ledger: Ledger, wire: Wire, how: str
) -> None:
    exception, decided, status, outcome, reason, told = ENDINGS[how]
    message = parcel(accepted())

    begun(ledger, message).ended(value=42, exception=exception)
    settlement = settled(ledger, wire, message, decided)

    assert settlement.verdict is told
    found = row(message.message_id)
    assert (found.status, found.reason, found.attempt) == (status, reason, 1)
    assert (found.result == 42) == (status is COMPLETED)
    assert found.retry_count == (status is PENDING)
    assert [one.outcome for one in attempts(message.message_id)] == [outcome]
    assert wire.settled[-1][1] is not None
    assert wire.settled[-1][1].status is status


@pytest.mark.parametrize("value", [object(), "x" * 2_000, float("nan")], ids=["no JSON", "too large", "NaN"])
def test_a_result_that_cannot_be_kept_fails_the_task_and_says_why(ledger: Ledger, wire: Wire, value: object) -> None:
    message = parcel(accepted())

    begun(ledger, message).ended(value=value)

    assert settled(ledger, wire, message).verdict is Verdict.DEAD
    assert (row(message.message_id).status, row(message.message_id).reason) == (FAILED, "result not storable")
    assert row(message.message_id).error_type == "ResultNotStorable"


def test_an_attempt_that_ended_unrecorded_goes_back_and_uses_up_no_retry(ledger: Ledger, wire: Wire) -> None:
    message = parcel(accepted())
    begun(ledger, message)

    assert settled(ledger, wire, message).verdict is Verdict.RETRY  # so that the next delivery has the next number
    assert (row(message.message_id).status, row(message.message_id).retry_count) == (PENDING, 0)


def test_an_attempt_that_ended_unrecorded_and_must_not_run_twice_fails(ledger: Ledger, wire: Wire) -> None:
    ledger.fails_when_lost = lambda _name: True
    message = parcel(accepted())
    begun(ledger, message)

    assert settled(ledger, wire, message).verdict is Verdict.DEAD
    assert (row(message.message_id).status, row(message.message_id).reason) == ("failed", "worker lost")


def test_two_deliveries_of_one_task_do_not_take_each_others_outcome(ledger: Ledger, wire: Wire) -> None:
    message, twin = (parcel(task_id, fence) for task_id in [accepted()] for fence in (1, 2))
    first = begun(ledger, message)
    wait_until(lambda: row(message.message_id).status == RUNNING, within_s=10, what="the first to be shown")

    refused = ledger.begin(twin, GENERATION)
    assert isinstance(refused, Refused)
    put_off = settled(ledger, wire, twin)
    first.ended(value="mine")

    assert (put_off.verdict, put_off.delay_ms) == (Verdict.DEFER, 2_000)
    assert settled(ledger, wire, message).verdict is Verdict.ACK
    assert (row(message.message_id).status, row(message.message_id).result) == (COMPLETED, "mine")


def test_a_task_is_taken_over_from_a_dead_worker_and_its_attempt_is_lost(ledger: Ledger, wire: Wire) -> None:
    task_id = running("dead")
    message = parcel(task_id, 2)

    begun(ledger, message).ended(value=1)
    settled(ledger, wire, message)

    assert [one.outcome for one in attempts(task_id)] == [AttemptOutcome.LOST, AttemptOutcome.COMPLETED]
    assert (row(task_id).status, row(task_id).retry_count) == (COMPLETED, 0)


def test_a_task_that_must_not_run_twice_fails_when_its_worker_is_lost(ledger: Ledger, wire: Wire) -> None:
    ledger.fails_when_lost = lambda _name: True
    task_id = running("dead")
    message = parcel(task_id, 2)

    assert isinstance(ledger.begin(message, GENERATION), Refused)

    assert settled(ledger, wire, message).verdict is Verdict.DEAD
    assert (row(task_id).status, row(task_id).reason) == (FAILED, "worker lost")


def test_a_retry_that_the_bus_was_never_told_of_waits_until_it_is_due(ledger: Ledger, wire: Wire) -> None:
    task_id = running()
    assert end(task_id, status=PENDING, outcome=AttemptOutcome.RETRIED, eta=IN_AN_HOUR, retried=True)
    message = parcel(task_id, 2)

    assert isinstance(ledger.begin(message, GENERATION), Refused)
    put_off = settled(ledger, wire, message)

    assert put_off.verdict is Verdict.DEFER
    assert (put_off.delay_ms or 0) > 60_000
    assert begun(ledger, parcel(task_id, 3, **{ATTEMPT: 1})).retry_count == 1


def test_a_delivery_count_that_began_anew_goes_back_with_the_rows(ledger: Ledger, wire: Wire) -> None:
    task_id = running()
    assert end(task_id, status=PENDING, outcome=AttemptOutcome.SHUT_DOWN)
    message = parcel(task_id, 1, **{CHECK: True})

    refused = ledger.begin(message, GENERATION)

    assert isinstance(refused, Refused)
    assert refused.verdict is Verdict.RETRY
    assert message.options[ATTEMPT] == 1


def test_a_task_that_somebody_wants_cancelled_is_cancelled_instead_of_started(ledger: Ledger, wire: Wire) -> None:
    task_id = accepted()
    with direct.transaction() as to:
        task_moves.request_cancel(to, task_id, reason="by Ada", now=LATER)
    message = parcel(task_id, 2)

    assert ledger.begin(message, GENERATION) == Refused("its task was cancelled")
    assert settled(ledger, wire, message).verdict is Verdict.ACK
    assert (row(task_id).status, row(task_id).reason) == (CANCELLED, "by Ada")


@pytest.mark.parametrize("first_asks", [False, True])
def test_a_second_copy_that_comes_while_the_first_runs_here_waits_for_its_end(
    ledger: Ledger, wire: Wire, first_asks: bool
) -> None:
    task_id = accepted()
    first = parcel(task_id, claim=1, **{CHECK: True} if first_asks else {})
    second = parcel(task_id, claim=2, **{CHECK: True})
    running_now = begun(ledger, first)

    ledger.vouch([second], GENERATION)
    refused = ledger.begin(second, GENERATION)

    assert isinstance(refused, Refused)
    assert refused.verdict is Verdict.DEFER
    assert settled(ledger, wire, second).verdict is Verdict.DEFER
    running_now.ended(value=7)
    assert settled(ledger, wire, first).verdict is Verdict.ACK
    assert (row(task_id).status, row(task_id).attempt, row(task_id).result) == (COMPLETED, 1, 7)
    assert ledger.begin(parcel(task_id, claim=3, **{CHECK: True}), GENERATION) == Refused("its task has ended")


def test_copies_of_a_message_that_ask_at_the_same_time_start_one_attempt(ledger: Ledger) -> None:
    for _ in range(20):
        task_id = accepted()
        copies = [parcel(task_id, claim=claim, **{CHECK: True}) for claim in range(4)]

        begins = at_once(*(partial(ledger.begin, copy, GENERATION) for copy in copies))

        assert sum(isinstance(one, Running) for one in begins) == 1


def test_a_lost_message_that_comes_back_to_be_cancelled_leaves_its_lost_attempt_on_record(
    ledger: Ledger, wire: Wire
) -> None:
    task_id = accepted()
    with direct.transaction() as to:
        task_moves.request_cancel(to, task_id, reason="by Ada", now=LATER)
    message = parcel(task_id, 2, previous_owner="w-dead")

    assert ledger.begin(message, GENERATION) == Refused("its task was cancelled")

    assert (row(task_id).status, row(task_id).attempt) == (CANCELLED, 1)
    assert [(one.number, one.worker_id, one.outcome) for one in attempts(task_id)] == [(1, "w-dead", "lost")]


def test_a_lost_attempt_is_on_record_although_who_took_it_over_died_before_it_was_noted(ledger: Ledger) -> None:
    task_id = accepted()
    assert start(task_id, 2, "w-2")
    assert lose(task_id, 2, "w-2")

    begun(ledger, parcel(task_id, 3))

    found = [(one.number, one.worker_id, one.outcome) for one in attempts(task_id)]
    assert found == [(1, "unknown", "lost"), (2, "w-2", "lost"), (3, ledger.presence.worker_id, None)]


def test_a_message_that_asks_and_has_no_row_gets_one_before_it_runs(ledger: Ledger) -> None:
    message = parcel(new_task_id(), **{CHECK: True})

    begun(ledger, message)

    assert (row(message.message_id).status, row(message.message_id).attempt) == (RUNNING, 1)


def test_a_start_whose_answer_was_lost_stands(ledger: Ledger) -> None:
    task_id = accepted()
    assert start(task_id, 1, ledger.presence.worker_id)

    assert begun(ledger, parcel(task_id, **{CHECK: True})).attempt == 1
    assert [one.number for one in attempts(task_id)] == [1]


def test_a_row_that_was_taken_back_is_gone(ledger: Ledger) -> None:
    task_id = accepted()

    assert ledger.withdraw(task_id)
    assert not ledger.withdraw(task_id)
    assert not ledger.withdraw(running())
