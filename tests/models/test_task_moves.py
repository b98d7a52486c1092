"""Every pair of statuses against the moves, the claim's rules, and the races, on both databases."""

from collections.abc import Callable
from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from sqlalchemy import insert
from sqlmodel import Session

from models import database, task_moves, task_query
from models.task import MOVES, TERMINAL, AttemptOutcome, TaskLog, TaskStatus, new_task_id
from models.task_moves import (
    ERROR_MAX_CHARS,
    LOG_LINES_PER_ATTEMPT,
    MAX_LOST_ATTEMPTS,
    Claim,
    Failure,
    NotYet,
    Refusal,
)
from tests.models.rows import (
    ALIVE_SINCE,
    FAILURE,
    NOW,
    accepted,
    at_once,
    attempts,
    beat,
    claim,
    everything,
    in_status,
    new_task,
    row,
    running,
)

pytestmark = pytest.mark.usefixtures("any_database")

PENDING, RUNNING, COMPLETED, FAILED, CANCELLED = TaskStatus
LATER = NOW + timedelta(minutes=1)


def try_claim(session: Session, task_id: str) -> bool:
    return isinstance(
        task_moves.claim(
            session, task_id, message_attempt=1, worker_id="another", now=NOW, alive_since=ALIVE_SINCE
        ),
        Claim,
    )  # fmt: skip


def try_take_over(session: Session, task_id: str) -> bool:
    everybody_is_dead = NOW + timedelta(seconds=1)
    return isinstance(
        task_moves.claim(
            session, task_id, message_attempt=0, worker_id="another", now=NOW, alive_since=everybody_is_dead
        ),
        Claim,
    )  # fmt: skip


def try_complete(session: Session, task_id: str) -> bool:
    return task_moves.complete(session, task_id, attempt=1, result="late", now=NOW)


def try_fail(session: Session, task_id: str) -> bool:
    return task_moves.fail(session, task_id, attempt=1, reason="late", failure=FAILURE, now=NOW)


def try_fail_unstarted(session: Session, task_id: str) -> bool:
    return task_moves.fail_unstarted(session, task_id, reason="late", failure=FAILURE, now=NOW)


def try_retry(session: Session, task_id: str) -> bool:
    return task_moves.retry(session, task_id, attempt=1, eta=LATER, failure=FAILURE, now=NOW)


def try_cancel(session: Session, task_id: str) -> bool:
    return task_moves.cancel(session, task_id, by="test", now=NOW)


def try_hand_back(session: Session, task_id: str) -> bool:
    return task_moves.hand_back(session, task_id, attempt=1, now=NOW)


def try_skip(session: Session, task_id: str) -> bool:
    return task_moves.skip(session, task_id, attempt=1, reason="late", now=NOW)


STATUS_MOVES: dict[Callable[[Session, str], bool], tuple[frozenset[TaskStatus], TaskStatus]] = {
    try_claim: (frozenset({PENDING}), RUNNING),
    try_take_over: (frozenset({PENDING, RUNNING}), RUNNING),
    try_complete: (frozenset({RUNNING}), COMPLETED),
    try_fail: (frozenset({RUNNING}), FAILED),
    try_fail_unstarted: (frozenset({PENDING}), FAILED),
    try_retry: (frozenset({RUNNING}), PENDING),
    try_cancel: (frozenset({PENDING}), CANCELLED),
    try_skip: (frozenset({RUNNING}), CANCELLED),
    try_hand_back: (frozenset({RUNNING}), PENDING),
}
"""Move → (the statuses that it leaves, the status that it leads to)."""


@pytest.mark.parametrize(
    ("start", "move"), [*product(TaskStatus, STATUS_MOVES)], ids=lambda value: getattr(value, "__name__", str(value))
)
def test_a_move_is_made_where_it_is_allowed_and_changes_nothing_elsewhere(
    start: TaskStatus, move: Callable[[Session, str], bool]
) -> None:
    leaves, target = STATUS_MOVES[move]
    task_id = in_status(start)
    before = everything(task_id)

    with database.writing() as session:
        moved = move(session, task_id)

    if start in leaves:
        assert moved
        assert row(task_id).status == target
    else:
        assert not moved
        assert everything(task_id) == before


def test_the_moves_are_exactly_the_allowed_pairs() -> None:
    made = {(start, target) for leaves, target in STATUS_MOVES.values() for start in leaves}

    assert made == {(start, target) for start, targets in MOVES.items() for target in targets}
    assert {COMPLETED, FAILED, CANCELLED} == TERMINAL


@pytest.mark.parametrize("end", sorted(TERMINAL))
def test_nothing_else_is_written_on_a_terminal_row_either(end: TaskStatus) -> None:
    task_id = in_status(end)
    before = everything(task_id)

    with database.writing() as session:
        task_moves.published(session, task_id, LATER)
        assert not task_moves.report_progress(session, task_id, attempt=1, progress=0.5, message="late")
        assert not task_moves.withdraw(session, task_id)
        assert not task_moves.accept(session, new_task(task_id=task_id, priority=9))

    assert everything(task_id) == before


def test_a_row_is_accepted_once() -> None:
    task = new_task(priority=3)
    again = new_task(task_id=task.task_id, priority=9)

    with database.writing() as session:
        first, second = task_moves.accept(session, task), task_moves.accept(session, again)

    assert (first, second, row(task.task_id).priority) == (True, False, 3)


def test_a_claim_says_what_the_run_needs_and_records_the_attempt() -> None:
    task_id = accepted(correlation_id="c-1", eta=NOW)

    granted = claim(task_id, "w-1")

    found = row(task_id)
    assert granted == Claim(attempt=1, retry_count=0, correlation_id="c-1")
    assert (found.status, found.attempt, found.worker_id, found.started_at, found.eta) == (RUNNING, 1, "w-1", NOW, None)
    assert [(one.number, one.worker_id, one.outcome) for one in attempts(task_id)] == [(1, "w-1", None)]


def test_a_message_without_a_row_is_refused() -> None:
    assert claim(new_task_id()) is Refusal.UNKNOWN


def test_a_message_that_is_delivered_twice_runs_once() -> None:
    beat("alive")
    task_id = running("alive")
    before = everything(task_id)

    assert claim(task_id, "another") is Refusal.RUNNING
    assert claim(task_id, "alive") is Refusal.RUNNING
    assert everything(task_id) == before


@pytest.mark.parametrize("end", sorted(TERMINAL))
def test_a_message_of_a_task_that_has_ended_is_refused(end: TaskStatus) -> None:
    assert claim(in_status(end), message_attempt=99) is Refusal.SUPERSEDED


def test_an_old_message_of_a_task_that_waits_for_its_retry_waits_too() -> None:
    task_id = running()
    with database.writing() as session:
        assert try_retry(session, task_id)

    assert claim(task_id, message_attempt=1) == NotYet(LATER)
    assert claim(task_id, message_attempt=2) == Claim(attempt=2, retry_count=1, correlation_id=None)


def test_an_old_message_starts_the_retry_once_it_is_due() -> None:
    task_id = running()
    with database.writing() as session:
        task_moves.retry(session, task_id, attempt=1, eta=NOW, failure=FAILURE, now=NOW)

    assert claim(task_id, message_attempt=1) == Claim(attempt=2, retry_count=1, correlation_id=None)


def test_a_task_handed_back_at_shutdown_is_pending_and_counts_no_retry() -> None:
    task_id = running()
    with database.writing() as session:
        assert task_moves.hand_back(session, task_id, attempt=1, now=NOW)
        assert not task_moves.complete(session, task_id, attempt=1, result="late", now=NOW)

    assert (row(task_id).status, row(task_id).retry_count, row(task_id).eta) == (PENDING, 0, None)
    assert attempts(task_id)[0].outcome == AttemptOutcome.SHUT_DOWN
    assert claim(task_id, message_attempt=1) == Claim(attempt=2, retry_count=0, correlation_id=None)


HOLDERS = {
    "beats": ({"at": NOW}, Refusal.RUNNING),
    "just in time": ({"at": ALIVE_SINCE}, Refusal.RUNNING),
    "silent": ({"at": ALIVE_SINCE - timedelta(microseconds=1)}, Claim(2, 0, None)),
    "stopped": ({"at": NOW, "stopped_at": NOW}, Claim(2, 0, None)),
    "never seen": (None, Claim(2, 0, None)),
}


@pytest.mark.parametrize(("heartbeat", "expected"), HOLDERS.values(), ids=HOLDERS.keys())
def test_a_task_is_taken_over_from_a_dead_worker_only(
    heartbeat: dict[str, Any] | None, expected: Claim | Refusal
) -> None:
    holder = f"w-{new_task_id()}"
    if heartbeat is not None:
        beat(holder, **heartbeat)
    task_id = running(holder)

    assert claim(task_id, "another") == expected


def test_a_lost_attempt_is_recorded_and_uses_up_no_retry() -> None:
    task_id = running("dead")

    granted = claim(task_id, "another")

    assert granted == Claim(attempt=2, retry_count=0, correlation_id=None)
    assert (row(task_id).retry_count, row(task_id).worker_id) == (0, "another")
    lost, current = attempts(task_id)
    assert (lost.number, lost.outcome, lost.finished_at, lost.error_type) == (1, AttemptOutcome.LOST, NOW, "WorkerLost")
    assert lost.error_message == "worker dead died while it ran this attempt"
    assert (current.number, current.worker_id, current.outcome) == (2, "another", None)


def test_the_outcome_of_a_worker_thought_dead_is_kept_until_another_has_claimed() -> None:
    task_id = running("dead")

    with database.writing() as session:
        assert task_moves.complete(session, task_id, attempt=1, result=42, now=NOW)

    assert (row(task_id).status, row(task_id).result) == (COMPLETED, 42)
    assert claim(task_id, "another") is Refusal.SUPERSEDED


@pytest.mark.parametrize("late", [try_complete, try_fail, try_retry], ids=lambda move: move.__name__)
def test_a_late_outcome_is_refused_once_another_has_claimed(late: Callable[[Session, str], bool]) -> None:
    task_id = running("dead")
    assert claim(task_id, "another").attempt == 2
    before = everything(task_id)

    with database.writing() as session:
        assert not late(session, task_id)
        assert not task_moves.report_progress(session, task_id, attempt=1, progress=1, message="late")

    assert everything(task_id) == before


def test_a_task_whose_workers_die_is_failed_as_poison_after_the_last_allowed_death() -> None:
    task_id = running("dead")
    for death in range(1, MAX_LOST_ATTEMPTS):
        assert claim(task_id, "dead").attempt == death + 1

    assert claim(task_id, "another") is Refusal.POISON

    found = row(task_id)
    assert (found.status, found.reason, found.error_type, found.retry_count) == (FAILED, "poison", "WorkerLost", 0)
    assert found.completed_at == NOW
    assert [(one.number, one.outcome) for one in attempts(task_id)] == [
        (number, AttemptOutcome.LOST) for number in range(1, MAX_LOST_ATTEMPTS + 1)
    ]
    assert claim(task_id, "another") is Refusal.SUPERSEDED


def test_a_retry_counts_and_says_when_and_why() -> None:
    task_id = running()

    with database.writing() as session:
        assert task_moves.retry(session, task_id, attempt=1, eta=LATER, failure=FAILURE, now=NOW)

    found = row(task_id)
    assert (found.status, found.retry_count, found.eta, found.attempt) == (PENDING, 1, LATER, 1)
    assert (found.error_type, found.error_message) == ("ValueError", "what was raised")
    assert attempts(task_id)[0].traceback == "Traceback …"


def test_success_after_a_retry_leaves_no_error_on_the_row() -> None:
    task_id = running()
    with database.writing() as session:
        try_retry(session, task_id)
    claim(task_id, message_attempt=2)

    with database.writing() as session:
        assert task_moves.complete(session, task_id, attempt=2, result=None, now=NOW)

    found = row(task_id)
    assert (found.status, found.error_type, found.error_message, found.progress) == (COMPLETED, None, None, 1.0)
    assert [one.outcome for one in attempts(task_id)] == [AttemptOutcome.RETRIED, AttemptOutcome.COMPLETED]


def test_a_withdrawn_row_is_gone_as_if_it_had_never_been() -> None:
    task_id = accepted()

    with database.writing() as session:
        assert task_moves.withdraw(session, task_id)

    assert everything(task_id) == (None, [])


@pytest.mark.parametrize("status", [RUNNING, *sorted(TERMINAL)])
def test_a_row_that_a_worker_has_is_not_withdrawn(status: TaskStatus) -> None:
    task_id = in_status(status)

    with database.writing() as session:
        assert not task_moves.withdraw(session, task_id)

    assert row(task_id).status == status


def test_a_row_that_waits_for_its_retry_is_not_withdrawn() -> None:
    task_id = running()
    with database.writing() as session:
        try_retry(session, task_id)
        assert not task_moves.withdraw(session, task_id)


@pytest.mark.parametrize(
    ("reported", "kept"), [(-1.0, 0.0), (0.25, 0.25), (7.0, 1.0), (float("nan"), 0.0), (float("inf"), 1.0)]
)
def test_progress_stays_between_nothing_and_all(reported: float, kept: float) -> None:
    task_id = running()

    with database.writing() as session:
        assert task_moves.report_progress(session, task_id, attempt=1, progress=reported, message="m" * 600)

    assert row(task_id).progress == kept
    assert len(row(task_id).progress_message or "") == 500


HOSTILE = "\x00\ud800" + "x" * 1_000_000


def test_hostile_and_endless_text_is_escaped_and_cut_and_the_row_is_terminal() -> None:
    failed, refused, cancelled = running(), accepted(), accepted()
    failure = Failure(HOSTILE, HOSTILE, HOSTILE)

    with database.writing() as session:
        assert task_moves.fail(session, failed, attempt=1, reason=HOSTILE, failure=failure, now=NOW)
        assert task_moves.fail_unstarted(session, refused, reason=HOSTILE, failure=failure, now=NOW)
        assert task_moves.cancel(session, cancelled, by=HOSTILE, now=NOW)

    assert {row(failed).status, row(refused).status, row(cancelled).status} == {FAILED, CANCELLED}
    message = row(failed).error_message or ""
    assert (len(message), message[:12], message[-5:]) == (ERROR_MAX_CHARS, "\\u0000\\ud800", "[cut]")
    assert len(attempts(failed)[0].traceback or "") == ERROR_MAX_CHARS
    assert {len(row(task_id).reason or "") for task_id in (failed, refused, cancelled)} == {500}


def test_an_attempt_keeps_a_bounded_number_of_log_lines() -> None:
    task_id = running()
    line = {"task_id": task_id, "attempt": 1, "logged_at": NOW, "level": "info", "message": "m"}

    with database.writing() as session:
        session.execute(insert(TaskLog), [line] * (LOG_LINES_PER_ATTEMPT - 1))
        kept = [
            task_moves.write_log(session, task_id, attempt=1, level="a level of a long name", message=HOSTILE, now=NOW)
            for _ in range(2)
        ]
        kept.append(task_moves.write_log(session, task_id, attempt=2, level="info", message="m", now=NOW))

    assert kept == [True, False, True]
    with database.reading() as session:
        assert len(task_query.logs(session, task_id)) == LOG_LINES_PER_ATTEMPT + 1


def test_a_task_that_was_answered_cancelled_never_starts() -> None:
    def cancel(task_id: str) -> bool:
        with database.writing() as session:
            return try_cancel(session, task_id)

    for _ in range(15):
        task_id = accepted()

        cancelled, claimed = at_once(lambda: cancel(task_id), lambda: claim(task_id))  # noqa: B023 - both end here

        if cancelled is True:
            assert claimed is Refusal.SUPERSEDED
            assert (row(task_id).status, row(task_id).attempt, attempts(task_id)) == (CANCELLED, 0, [])
        else:
            assert cancelled is False
            assert claimed == Claim(1, 0, None)
            assert row(task_id).status == RUNNING


def test_of_two_workers_that_get_the_same_message_one_runs_it() -> None:
    beat("left")
    beat("right")
    for make in (accepted, lambda: running("dead")):
        for _ in range(8):
            task_id = make()

            answers = at_once(lambda: claim(task_id, "left"), lambda: claim(task_id, "right"))  # noqa: B023

            assert sorted(type(answer).__name__ for answer in answers) == ["Claim", "Refusal"], answers
            assert Refusal.RUNNING in answers
            assert [one.number for one in attempts(task_id)] == list(range(1, row(task_id).attempt + 1))


def test_a_late_outcome_and_a_take_over_exclude_each_other() -> None:
    def complete(task_id: str) -> bool:
        with database.writing() as session:
            return task_moves.complete(session, task_id, attempt=1, result=1, now=NOW)

    for _ in range(15):
        task_id = running("dead")

        completed, claimed = at_once(lambda: complete(task_id), lambda: claim(task_id, "another"))  # noqa: B023

        first = attempts(task_id)[0]
        if completed is True:
            assert claimed is Refusal.SUPERSEDED
            assert (row(task_id).status, first.outcome) == (COMPLETED, AttemptOutcome.COMPLETED)
        else:
            assert (completed, claimed) == (False, Claim(2, 0, None))
            assert (row(task_id).status, first.outcome) == (RUNNING, AttemptOutcome.LOST)
