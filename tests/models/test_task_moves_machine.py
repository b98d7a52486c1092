"""Any sequence of moves, from any worker and however late, against a small model of what a row is."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from models import database, task_moves
from models.task import TERMINAL, TaskStatus
from models.task_moves import MAX_LOST_ATTEMPTS, Claim, NotYet, Refusal
from tests.models.rows import ALIVE_SINCE, FAILURE, NOW, accepted, beat, claim, everything, row

PENDING, RUNNING, COMPLETED, FAILED, CANCELLED = TaskStatus
LONG_AGO = ALIVE_SINCE - (NOW - ALIVE_SINCE)
LATER = NOW + timedelta(minutes=1)
WORKERS = ("w-1", "w-2")
ATTEMPTS = st.integers(0, 6)


@dataclass
class Expected:
    """What the row should be."""

    status: TaskStatus = PENDING
    attempt: int = 0
    retry_count: int = 0
    lost: int = 0
    holder: str | None = None
    waits: bool = False
    alive: set[str] = field(default_factory=lambda: set(WORKERS))


class ARowsLife(RuleBasedStateMachine):
    """One row, two workers that die and come back, and every move with every attempt number."""

    def __init__(self) -> None:
        super().__init__()
        self.expected = Expected()
        self.frozen: Any = None
        for worker in WORKERS:
            beat(worker)
        self.task_id = accepted()

    @rule(worker=st.sampled_from(WORKERS))
    def die(self, worker: str) -> None:
        """A worker's heartbeat stops."""
        beat(worker, LONG_AGO)
        self.expected.alive.discard(worker)

    @rule(worker=st.sampled_from(WORKERS))
    def come_back(self, worker: str) -> None:
        """A worker that was thought dead beats again."""
        beat(worker)
        self.expected.alive.add(worker)

    @rule(worker=st.sampled_from(WORKERS), message_attempt=ATTEMPTS)
    def claim(self, worker: str, message_attempt: int) -> None:
        """A worker got a message, new, old or repeated."""
        expected, answer = self.expected, claim(self.task_id, worker, message_attempt=message_attempt)

        if expected.status is PENDING and (expected.attempt < message_attempt or not expected.waits):
            self._expect_start(worker, answer)
        elif expected.status is PENDING:
            assert answer == NotYet(LATER)
        elif expected.status is not RUNNING:
            assert answer is Refusal.SUPERSEDED
        elif expected.holder in expected.alive:
            assert answer is Refusal.RUNNING
        else:
            expected.lost += 1
            if expected.lost == MAX_LOST_ATTEMPTS:
                expected.status = FAILED
                assert answer is Refusal.POISON
            else:
                self._expect_start(worker, answer)

    def _expect_start(self, worker: str, answer: object) -> None:
        expected = self.expected
        expected.status, expected.holder, expected.attempt = RUNNING, worker, expected.attempt + 1
        assert answer == Claim(expected.attempt, expected.retry_count, None)

    def _holds(self, attempt: int) -> bool:
        return self.expected.status is RUNNING and self.expected.attempt == attempt

    @rule(attempt=ATTEMPTS)
    def complete(self, attempt: int) -> None:
        """An attempt, perhaps a late one, succeeded."""
        with database.writing() as session:
            moved = task_moves.complete(session, self.task_id, attempt=attempt, result=attempt, now=NOW)
        assert moved == self._holds(attempt)
        self.expected.status = COMPLETED if moved else self.expected.status

    @rule(attempt=ATTEMPTS)
    def fail(self, attempt: int) -> None:
        """An attempt failed for good."""
        with database.writing() as session:
            moved = task_moves.fail(session, self.task_id, attempt=attempt, reason="x", failure=FAILURE, now=NOW)
        assert moved == self._holds(attempt)
        self.expected.status = FAILED if moved else self.expected.status

    @rule(attempt=ATTEMPTS, eta=st.sampled_from([NOW, LATER]))
    def retry(self, attempt: int, eta: datetime) -> None:
        """An attempt failed and is tried again, now or later."""
        with database.writing() as session:
            moved = task_moves.retry(session, self.task_id, attempt=attempt, eta=eta, failure=FAILURE, now=NOW)
        assert moved == self._holds(attempt)
        if moved:
            self.expected.status = PENDING
            self.expected.retry_count += 1
            self.expected.waits = eta > NOW

    @rule(attempt=ATTEMPTS)
    def hand_back(self, attempt: int) -> None:
        """The worker shuts down."""
        with database.writing() as session:
            moved = task_moves.hand_back(session, self.task_id, attempt=attempt, now=NOW)
        assert moved == self._holds(attempt)
        if moved:
            self.expected.status, self.expected.waits = PENDING, False

    @precondition(lambda self: self.expected.attempt > 0)  # why: a life that is cancelled at once shows little
    @rule()
    def cancel(self) -> None:
        """A person cancels."""
        with database.writing() as session:
            moved = task_moves.cancel(session, self.task_id, by="test", now=NOW)
        assert moved == (self.expected.status is PENDING)
        self.expected.status = CANCELLED if moved else self.expected.status

    @rule(attempt=ATTEMPTS)
    def tell(self, attempt: int) -> None:
        """The bus and the task itself report what changes no status."""
        with database.writing() as session:
            task_moves.published(session, self.task_id, NOW)
            told = task_moves.report_progress(session, self.task_id, attempt=attempt, progress=0.5, message=None)
        assert told == self._holds(attempt)

    @invariant()
    def the_row_is_what_is_expected(self) -> None:
        """The promise: the row is never wrong."""
        found, expected = row(self.task_id), self.expected
        assert (found.status, found.attempt, found.retry_count) == (
            expected.status, expected.attempt, expected.retry_count,
        )  # fmt: skip
        assert (found.completed_at is not None) == (expected.status in TERMINAL)
        if self.frozen is not None:
            assert everything(self.task_id) == self.frozen
        if expected.status in TERMINAL and self.frozen is None:
            self.frozen = everything(self.task_id)

    @invariant()
    def only_the_attempt_that_holds_the_row_is_open(self) -> None:
        """Each attempt of the past has its outcome."""
        _, attempts = everything(self.task_id)
        assert [one["number"] for one in attempts] == list(range(1, self.expected.attempt + 1))
        still_open = [one["number"] for one in attempts if one["outcome"] is None]
        assert still_open == ([self.expected.attempt] if self.expected.status is RUNNING else [])


def test_any_sequence_of_moves_leaves_the_row_as_the_model_says(shared_sqlite_bound: str) -> None:
    run_state_machine_as_test(
        ARowsLife, settings=settings(max_examples=30, stateful_step_count=20, deadline=None)
    )  # fmt: skip
