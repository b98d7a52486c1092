"""Every status against every move, what the moves write, batches, and the races, on both databases."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from itertools import product
from typing import Any

import pytest

from models import database, direct, task_moves, task_notes, task_query
from models.direct import Direct
from models.task import MOVES, TERMINAL, AttemptOutcome, TaskStatus, new_task_id
from models.task_moves import ERROR_MAX_CHARS, Loss, LostDelivery, Started
from models.task_notes import LOG_LINES_PER_ATTEMPT, LogLine, Progress
from tests.models.rows import (
    LATER,
    NOW,
    WORKER,
    a_start,
    accepted,
    an_end,
    at_once,
    attempts,
    end,
    everything,
    in_status,
    lose,
    new_row,
    row,
    running,
    start,
)

pytestmark = pytest.mark.usefixtures("any_database")

PENDING, RUNNING, COMPLETED, FAILED, CANCELLED = TaskStatus
ENDED_AT = NOW + timedelta(seconds=1)
WORDS = f"worker {WORKER} died or was cut off while it had this attempt"
RETRIED: dict[str, Any] = {
    "status": PENDING, "outcome": AttemptOutcome.RETRIED, "eta": LATER, "retried": True, "error_type": "ValueError",
    "error_message": "what was raised", "traceback": "Traceback …",
}  # fmt: skip
FAILURE: dict[str, Any] = {
    "status": FAILED, "outcome": AttemptOutcome.FAILED, "reason": "retries exhausted", "error_type": "ValueError",
    "error_message": "what was raised",
}  # fmt: skip
SHUT_DOWN: dict[str, Any] = {"status": PENDING, "outcome": AttemptOutcome.SHUT_DOWN}
SKIPPED: dict[str, Any] = {"status": CANCELLED, "outcome": AttemptOutcome.SKIPPED, "reason": "skipped: off"}

BEGUN = {"attempt": 1, "worker_id": WORKER, "started_at": NOW, "eta": None}
AGAIN = {"progress": None, "progress_message": None, "reason": None, "completed_at": None}


@dataclass(frozen=True)
class Move:
    """One move: how it is made, the statuses that it leaves, and all that it writes."""

    make: Callable[[Direct, str], Any]
    leaves: tuple[TaskStatus, ...]
    writes: dict[str, Any]


STATUS_MOVES = {
    "start, checked": Move(
        lambda to, id_: task_moves.start(to, [a_start(id_, 2, "w-2")]),
        (PENDING,),
        {**BEGUN, "status": RUNNING, "attempt": 2, "worker_id": "w-2", "progress": None, "progress_message": None},
    ),
    "start, unchecked": Move(
        lambda to, id_: task_moves.start(to, [a_start(id_, checked=False)]),
        (PENDING,),
        {**BEGUN, "status": RUNNING, "progress": None, "progress_message": None},
    ),
    "complete": Move(
        lambda to, id_: task_moves.end(to, [an_end(id_, result="[42]")]),
        (PENDING, RUNNING),
        {**BEGUN, "status": COMPLETED, "result": [42], "completed_at": ENDED_AT, "progress": 1.0},
    ),
    "fail": Move(
        lambda to, id_: task_moves.end(to, [an_end(id_, **FAILURE)]),
        (PENDING, RUNNING),
        {
            **BEGUN, "status": FAILED, "reason": "retries exhausted", "completed_at": ENDED_AT,
            "error_type": "ValueError", "error_message": "what was raised",
        },
    ),
    "retry": Move(
        lambda to, id_: task_moves.end(to, [an_end(id_, **RETRIED)]),
        (PENDING, RUNNING),
        {
            **BEGUN, **AGAIN, "status": PENDING, "eta": LATER, "retry_count": 1, "enqueued_at": ENDED_AT,
            "error_type": "ValueError", "error_message": "what was raised",
        },
    ),
    "skip": Move(
        lambda to, id_: task_moves.end(to, [an_end(id_, **SKIPPED)]),
        (PENDING, RUNNING),
        {**BEGUN, "status": CANCELLED, "reason": "skipped: off", "completed_at": ENDED_AT},
    ),
    "hand back": Move(
        lambda to, id_: task_moves.end(to, [an_end(id_, **SHUT_DOWN)]),
        (PENDING, RUNNING),
        {**BEGUN, **AGAIN, "status": PENDING, "enqueued_at": ENDED_AT},
    ),
    "lose": Move(
        lambda to, id_: task_moves.lose(to, [Loss(id_, 1, WORKER)], LATER),
        (RUNNING,),
        {**AGAIN, "status": PENDING, "eta": None, "enqueued_at": None},
    ),
    "lose for good": Move(
        lambda to, id_: task_moves.lose(to, [Loss(id_, 1, WORKER, "worker lost")], LATER),
        (RUNNING,),
        {
            **AGAIN, "status": FAILED, "eta": None, "enqueued_at": None, "reason": "worker lost",
            "completed_at": LATER, "error_type": "WorkerLost", "error_message": WORDS,
        },
    ),
    "cancel": Move(
        lambda to, id_: task_moves.cancel(to, id_, reason="by Ada", now=LATER),
        (PENDING,),
        {"status": CANCELLED, "reason": "by Ada", "completed_at": LATER, "cancel_requested_at": LATER, "eta": None},
    ),
    "refuse": Move(
        lambda to, id_: task_moves.refuse(
            to, id_, reason="poison", error_type="Undecodable", error_message="no", now=LATER
        ),
        (PENDING,),
        {
            "status": FAILED, "reason": "poison", "completed_at": LATER, "error_type": "Undecodable",
            "error_message": "no", "eta": None,
        },
    ),
    "reopen": Move(
        task_moves.reopen,
        (FAILED, CANCELLED),
        {
            **AGAIN, "status": PENDING, "result": None, "eta": None, "cancel_requested_at": None, "retry_count": 0,
            "enqueued_at": None,
        },
    ),
}  # fmt: skip
OTHER_WRITES = {
    "request cancel": Move(
        lambda to, id_: task_moves.request_cancel(to, id_, reason="by Ada", now=LATER),
        (PENDING, RUNNING),
        {"cancel_requested_at": LATER, "reason": "by Ada"},
    ),
    "published": Move(
        lambda to, id_: task_moves.mark_published(to, [id_], LATER) or row(id_).status == PENDING,
        (PENDING,),
        {"enqueued_at": LATER},
    ),
    "not published": Move(
        lambda to, id_: task_moves.mark_published(to, [id_], None) or row(id_).status == PENDING,
        (PENDING,),
        {"enqueued_at": None},
    ),
    "accept again": Move(lambda to, id_: task_moves.accept(to, [new_row(task_id=id_, priority=9)]), (), {}),
    "progress": Move(
        lambda to, id_: (
            task_notes.write(to, [Progress(id_, 1, 0.25, "a quarter")]) or row(id_).status in (PENDING, RUNNING)
        ),
        (PENDING, RUNNING),
        {"progress": 0.25, "progress_message": "a quarter"},
    ),
}
ALL_MOVES = {**STATUS_MOVES, **OTHER_WRITES}


def make(move: Move, task_id: str) -> bool:
    with direct.transaction() as to:
        return bool(move.make(to, task_id))


def eventful(status: TaskStatus) -> str:
    """A row in this status whose every column has something to lose."""
    if status is PENDING:
        return accepted(eta=NOW)
    task_id = in_status(status) if status is not RUNNING else running()
    with direct.transaction() as to:
        task_notes.write(to, [Progress(task_id, 1, 0.5, "half")])
    return task_id


@pytest.mark.parametrize(("status", "name"), [*product(TaskStatus, ALL_MOVES)])
def test_a_move_writes_what_it_should_where_it_is_allowed_and_nothing_elsewhere(status: TaskStatus, name: str) -> None:
    move = ALL_MOVES[name]
    task_id = eventful(status)
    before, attempts_before = everything(task_id)
    assert before is not None

    moved = make(move, task_id)

    after, attempts_after = everything(task_id)
    assert moved == (status in move.leaves)
    assert after == (before | move.writes if moved else before)
    if not moved:
        assert attempts_after == attempts_before


@pytest.mark.parametrize(
    ("status", "name"), [(status, name) for name in ALL_MOVES for status in ALL_MOVES[name].leaves]
)
def test_a_move_that_is_repeated_changes_nothing(status: TaskStatus, name: str) -> None:
    task_id = eventful(status)
    make(ALL_MOVES[name], task_id)
    before = everything(task_id)

    make(ALL_MOVES[name], task_id)

    assert everything(task_id) == before


def test_the_moves_are_exactly_the_allowed_pairs() -> None:
    made = {(left, move.writes["status"]) for name, move in STATUS_MOVES.items() for left in move.leaves}
    coalesced = {(PENDING, COMPLETED), (PENDING, PENDING)}
    reopened = {(FAILED, PENDING), (CANCELLED, PENDING)}

    allowed = {(left, target) for left, targets in MOVES.items() for target in targets} - {(RUNNING, RUNNING)}
    assert made == allowed | coalesced | reopened
    assert {COMPLETED, FAILED, CANCELLED} == TERMINAL


@pytest.mark.parametrize(
    ("name", "outcome", "error"),
    [
        ("complete", AttemptOutcome.COMPLETED, None), ("fail", AttemptOutcome.FAILED, "what was raised"),
        ("retry", AttemptOutcome.RETRIED, "what was raised"), ("skip", AttemptOutcome.SKIPPED, None),
        ("hand back", AttemptOutcome.SHUT_DOWN, None), ("lose", AttemptOutcome.LOST, WORDS),
        ("lose for good", AttemptOutcome.LOST, WORDS),
    ],
)  # fmt: skip
def test_the_attempt_keeps_how_it_ended(name: str, outcome: AttemptOutcome, error: str | None) -> None:
    task_id = running()

    make(STATUS_MOVES[name], task_id)

    (found,) = attempts(task_id)
    ended_at = LATER if outcome is AttemptOutcome.LOST else ENDED_AT
    assert (found.number, found.worker_id, found.started_at, found.finished_at) == (1, WORKER, NOW, ended_at)
    assert (found.outcome, found.error_message) == (outcome, error)
    assert found.traceback == ("Traceback …" if name == "retry" else None)
    with direct.reading() as to:
        assert task_moves.outcome_of(to, task_id, 1) is outcome
        assert task_moves.outcome_of(to, task_id, 2) is None


def test_a_row_is_withdrawn_only_before_its_first_attempt() -> None:
    fresh, *others = accepted(), *(in_status(status) for status in TaskStatus if status is not PENDING)
    retried = running()
    assert end(retried, **RETRIED)

    with direct.transaction() as to:
        assert task_moves.withdraw(to, fresh)
        assert not task_moves.withdraw(to, fresh)
        assert not any(task_moves.withdraw(to, task_id) for task_id in (retried, *others))

    assert everything(fresh) == (None, [])


# --- what a checked start asks ---------------------------------------------------------------------------------------


def test_a_start_says_what_the_run_needs() -> None:
    task_id = accepted(correlation_id="c-1")
    assert start(task_id)
    assert end(task_id, **RETRIED | {"eta": NOW})

    with direct.transaction() as to:
        granted = task_moves.start(to, [a_start(task_id, 2)])

    assert granted == {(task_id, 2): Started(retry_count=1, correlation_id="c-1")}
    assert [(one.number, one.outcome) for one in attempts(task_id)] == [(1, AttemptOutcome.RETRIED), (2, None)]


def test_an_old_message_waits_for_the_retry_that_it_does_not_know_of() -> None:
    task_id = running()
    assert end(task_id, **RETRIED)

    assert not start(task_id, 2, sent_attempt=0)
    assert start(task_id, 2, sent_attempt=1)


def test_an_old_message_starts_the_retry_once_it_is_due() -> None:
    task_id = running()
    assert end(task_id, **RETRIED | {"eta": NOW})

    assert start(task_id, 2, sent_attempt=0)


def test_a_task_that_somebody_wants_cancelled_does_not_start_if_it_can_be_helped() -> None:
    asked, begun = accepted(), accepted()
    with direct.transaction() as to:
        for task_id in (asked, begun):
            assert task_moves.request_cancel(to, task_id, reason="by Ada", now=NOW)

    assert not start(asked)
    assert start(begun, checked=False)


def test_the_words_of_a_cancel_request_outlive_a_retry_and_a_loss() -> None:
    retried, lost = running(), running()
    with direct.transaction() as to:
        for task_id in (retried, lost):
            assert task_moves.request_cancel(to, task_id, reason="by Ada", now=NOW)

    assert end(retried, **RETRIED)
    assert lose(lost)

    assert (row(retried).reason, row(lost).reason) == ("by Ada", "by Ada")


def test_a_number_that_is_on_record_does_not_start_again() -> None:
    task_id = running()
    assert end(task_id, **RETRIED | {"eta": NOW})

    assert not start(task_id, 1)
    assert not start(task_id, 1, checked=False)


# --- the fence -------------------------------------------------------------------------------------------------------


def test_the_outcome_of_a_worker_declared_dead_is_kept_until_a_later_attempt_starts() -> None:
    task_id = running("dead")
    assert lose(task_id, worker_id="dead")

    assert end(task_id, worker_id="dead", result="42")

    assert (row(task_id).status, row(task_id).result, row(task_id).retry_count) == (COMPLETED, 42, 0)
    assert [one.outcome for one in attempts(task_id)] == [AttemptOutcome.COMPLETED]


@pytest.mark.parametrize("late", [{}, FAILURE, RETRIED, SHUT_DOWN, SKIPPED])
def test_an_outcome_is_refused_once_a_later_attempt_has_started(late: dict[str, Any]) -> None:
    task_id = running("dead")
    assert lose(task_id, worker_id="dead")
    assert start(task_id, 2)
    before = everything(task_id)

    assert not end(task_id, worker_id="dead", **late)
    with direct.transaction() as to:
        task_notes.write(to, [Progress(task_id, 1, 1.0, "late")])

    assert everything(task_id) == before


def test_only_the_attempt_that_runs_can_be_lost() -> None:
    task_id = running()
    before = everything(task_id)

    assert not lose(task_id, attempt=2)
    assert not lose(task_id, worker_id="another")

    assert everything(task_id) == before


def test_a_delivery_that_vanished_before_its_row_heard_of_it_is_on_record() -> None:
    task_id = accepted()
    assert start(task_id, 2, "w-2")

    with direct.transaction() as to:
        task_moves.note_lost_delivery(to, task_id, 1, "w-1", NOW)
        task_moves.note_lost_delivery(to, task_id, 1, "w-1", LATER)
        assert task_moves.lost_attempts(to, task_id) == 1

    found = [(one.number, one.worker_id, one.started_at, one.outcome) for one in attempts(task_id)]
    assert found == [(1, "w-1", None, AttemptOutcome.LOST), (2, "w-2", NOW, None)]


def test_deliveries_that_vanished_one_after_the_other_are_all_on_record() -> None:
    task_id = accepted()
    assert start(task_id, 4, "w-4")

    with direct.transaction() as to:
        task_moves.note_lost_delivery(to, task_id, 3, "w-3", NOW)
        task_moves.note_lost_delivery(to, task_id, 3, "w-3", LATER)
        assert task_moves.lost_attempts(to, task_id) == 3

    found = [(one.number, one.worker_id, one.started_at, one.outcome) for one in attempts(task_id)]
    lost = [
        (number, worker, None, AttemptOutcome.LOST) for number, worker in ((1, "unknown"), (2, "unknown"), (3, "w-3"))
    ]
    assert found == [*lost, (4, "w-4", NOW, None)]


def test_a_delivery_before_one_on_record_that_nobody_noted_is_noted_by_the_next() -> None:
    """Who began the second died before it had noted the first."""
    task_id = accepted()
    assert start(task_id, 2, "w-2")
    assert lose(task_id, 2, "w-2")
    assert start(task_id, 3, "w-3")

    with direct.transaction() as to:
        task_moves.note_lost_delivery(to, task_id, 2, task_moves.UNKNOWN_WORKER, LATER)

    found = [(one.number, one.worker_id, one.outcome) for one in attempts(task_id)]
    assert found == [(1, "unknown", AttemptOutcome.LOST), (2, "w-2", AttemptOutcome.LOST), (3, "w-3", None)]


def test_a_vanished_delivery_that_is_on_record_with_its_outcome_stays_as_it_is() -> None:
    task_id = running()
    assert end(task_id, **RETRIED | {"eta": NOW})
    before = attempts(task_id)

    with direct.transaction() as to:
        task_moves.note_lost_delivery(to, task_id, 1, "another", LATER)

    assert attempts(task_id) == before


def test_a_task_whose_delivery_vanished_is_cancelled_with_that_attempt_on_record() -> None:
    unheard, heard = accepted(), running()
    assert lose(heard)

    with direct.transaction() as to:
        for task_id in (unheard, heard):
            lost = LostDelivery(1, "w-1")
            assert task_moves.cancel(to, task_id, reason="by Ada", now=LATER, lost=lost)
            assert not task_moves.cancel(to, task_id, reason="by Ada", now=LATER, lost=lost)

    for task_id, started_at in ((unheard, None), (heard, NOW)):
        assert (row(task_id).status, row(task_id).attempt, row(task_id).worker_id) == (CANCELLED, 1, "w-1")
        found = [(one.number, one.worker_id, one.started_at, one.outcome) for one in attempts(task_id)]
        assert found == [(1, "w-1", started_at, AttemptOutcome.LOST)]


def test_a_shutdown_keeps_the_error_of_the_attempt_before() -> None:
    task_id = running()
    assert end(task_id, **RETRIED | {"eta": NOW})
    assert start(task_id, 2)

    assert end(task_id, 2, **SHUT_DOWN)

    found = row(task_id)
    assert (found.status, found.attempt, found.retry_count, found.error_message) == (PENDING, 2, 1, "what was raised")


def test_success_after_a_retry_leaves_no_error_on_the_row() -> None:
    task_id = running()
    assert end(task_id, **RETRIED | {"eta": NOW})
    assert start(task_id, 2)

    assert end(task_id, 2)

    found = row(task_id)
    assert (found.status, found.error_type, found.error_message, found.retry_count) == (COMPLETED, None, None, 1)


# --- batches ---------------------------------------------------------------------------------------------------------

KINDS: list[dict[str, Any]] = [{"result": "1"}, FAILURE, RETRIED, SHUT_DOWN, SKIPPED]


def test_a_batch_of_mixed_outcomes_does_to_each_row_what_it_would_do_alone() -> None:
    ids = [new_task_id() for _ in range(500)]
    with direct.transaction() as to:
        assert task_moves.accept(to, [new_row(task_id=task_id) for task_id in ids]) == 500
        assert task_moves.accept(to, [new_row(task_id=task_id) for task_id in [*ids, new_task_id()]]) == 1
        shown = task_moves.start(to, [a_start(task_id) for task_id in ids[::2]])
        assert shown.keys() == {(task_id, 1) for task_id in ids[::2]}
        task_moves.lose(to, [Loss(task_id, 1, WORKER) for task_id in ids[::20]], NOW)
        started = task_moves.start(to, [a_start(task_id, 2, "w-2") for task_id in ids[::40]])
        assert len(started) == 13
    outrun = set(ids[::40])

    with direct.transaction() as to:
        moved = task_moves.end(
            to,
            [an_end(task_id, **KINDS[index % 5]) for index, task_id in enumerate(ids)]
            + [an_end(new_task_id()) for _ in range(3)],
        )

    assert moved == {(task_id, 1) for task_id in ids if task_id not in outrun}
    for index, task_id in enumerate(ids[:100]):
        kind = KINDS[index % 5]
        status = RUNNING if task_id in outrun else kind.get("status", COMPLETED)
        outcome = AttemptOutcome.LOST if task_id in outrun else kind.get("outcome", AttemptOutcome.COMPLETED)
        assert (row(task_id).status, attempts(task_id)[0].outcome) == (status, outcome), index


def test_a_batch_with_a_row_that_the_database_refuses_changes_none() -> None:
    good, guilty = running(), running()
    before = everything(good), everything(guilty)

    def write() -> None:
        with direct.transaction() as to:
            task_moves.end(to, [an_end(good), an_end(guilty, result='"\ud800"')])

    with pytest.raises(UnicodeEncodeError):
        write()

    assert (everything(good), everything(guilty)) == before


def test_empty_batches_are_nothing() -> None:
    with direct.transaction() as to:
        assert task_moves.accept(to, []) == 0
        assert task_moves.start(to, []) == {}
        assert task_moves.end(to, []) == set()
        assert task_moves.lose(to, [], NOW) == set()
        assert task_moves.standing(to, []) == {}
        task_moves.mark_published(to, [], NOW)
        task_notes.write(to, [])


# --- text and notes --------------------------------------------------------------------------------------------------

HOSTILE = "\x00\ud800" + "x" * 1_000_000


def test_hostile_and_endless_text_is_escaped_and_cut_and_the_row_is_terminal() -> None:
    failed, refused, cancelled = running(), accepted(), accepted()

    assert end(failed, **FAILURE | dict.fromkeys(("reason", "error_type", "error_message", "traceback"), HOSTILE))
    with direct.transaction() as to:
        assert task_moves.refuse(
            to, refused, reason=HOSTILE, error_type=HOSTILE, error_message=HOSTILE, now=NOW
        )  # fmt: skip
        assert task_moves.cancel(to, cancelled, reason=HOSTILE, now=NOW)

    assert {row(failed).status, row(refused).status, row(cancelled).status} == {FAILED, CANCELLED}
    message = row(failed).error_message or ""
    assert (len(message), message[:12], message[-5:]) == (ERROR_MAX_CHARS, "\\u0000\\ud800", "[cut]")
    assert len(attempts(failed)[0].traceback or "") == ERROR_MAX_CHARS
    assert {len(row(task_id).reason or "") for task_id in (failed, refused, cancelled)} == {500}
    assert {len(row(task_id).error_type or "") for task_id in (failed, refused)} == {200}


@pytest.mark.parametrize(
    ("reported", "kept"), [(-1.0, 0.0), (0.25, 0.25), (7.0, 1.0), (float("nan"), 0.0), (float("inf"), 1.0)]
)
def test_progress_stays_between_nothing_and_all(reported: float, kept: float) -> None:
    task_id = running()

    with direct.transaction() as to:
        task_notes.write(to, [Progress(task_id, 1, 0.1, HOSTILE), Progress(task_id, 1, reported, None)])

    assert row(task_id).progress == kept
    assert len(row(task_id).progress_message or "") == 500


def test_an_attempt_keeps_a_bounded_number_of_bounded_log_lines() -> None:
    task_id = running()

    with direct.transaction() as to:
        task_notes.write(to, [LogLine(task_id, 1, "info", "m", NOW)] * (LOG_LINES_PER_ATTEMPT - 2))
        task_notes.write(to, [LogLine(task_id, 1, "a level of a long name", HOSTILE, NOW)] * 3)
        task_notes.write(to, [LogLine(task_id, 1, "info", "too many", NOW), LogLine(task_id, 2, "info", "m", NOW)])

    with database.reading() as session:
        lines = task_query.logs(session, task_id)
    assert [sum(line.attempt == number for line in lines) for number in (1, 2)] == [LOG_LINES_PER_ATTEMPT, 1]
    assert (len(lines[-3].message), lines[-3].level) == (task_notes.LOG_LINE_MAX_CHARS, "a level of a lon")
    assert lines[-2].message == "… here ends what is kept of an attempt's log: 1,000 lines"


# --- races -----------------------------------------------------------------------------------------------------------


def cancel(task_id: str) -> bool:
    with direct.transaction() as to:
        return task_moves.cancel(to, task_id, reason="by test", now=NOW)


def test_a_task_that_was_answered_cancelled_never_starts() -> None:
    for _ in range(15):
        task_id = accepted()

        cancelled, started = at_once(lambda: cancel(task_id), lambda: start(task_id))  # noqa: B023 - both end here

        assert sorted([cancelled, started]) == [False, True]
        assert (row(task_id).status, len(attempts(task_id))) == ((CANCELLED, 0) if cancelled else (RUNNING, 1))


def test_of_two_workers_that_get_the_same_message_one_runs_it() -> None:
    for _ in range(15):
        task_id = accepted()

        answers = at_once(lambda: start(task_id, 1, "left"), lambda: start(task_id, 2, "right"))  # noqa: B023

        assert sorted(answers) == [False, True]
        assert [one.number for one in attempts(task_id)] == [row(task_id).attempt]


def test_a_late_outcome_and_the_next_start_exclude_each_other() -> None:
    for _ in range(15):
        task_id = running("dead")
        assert lose(task_id, worker_id="dead")

        kept, started = at_once(lambda: end(task_id), lambda: start(task_id, 2))  # noqa: B023

        assert sorted([kept, started]) == [False, True]
        assert row(task_id).status == (COMPLETED if kept else RUNNING)
        assert attempts(task_id)[0].outcome == (AttemptOutcome.COMPLETED if kept else AttemptOutcome.LOST)


def test_an_outcome_and_a_loss_at_once_leave_the_outcome_or_a_row_that_still_takes_it() -> None:
    for _ in range(15):
        task_id = running("dead")

        kept, lost = at_once(lambda: end(task_id), lambda: lose(task_id, worker_id="dead"))  # noqa: B023

        assert kept or lost
        if not kept:
            assert end(task_id)
        assert row(task_id).status == COMPLETED
        assert [one.outcome for one in attempts(task_id)] == [AttemptOutcome.COMPLETED]
