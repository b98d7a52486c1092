"""Any interleaving of what can happen to a task, on both databases, against a small model of what a row is.

the world      deliveries are numbered, and come twice or with old knowledge; an attempt that has begun in a worker
               ends whenever it likes, also after the worker was declared dead, or never
the promises   nothing leaves a terminal state but by reopen; attempt never falls; retry_count counts failures that
               led to a retry and nothing else; at most one terminal outcome a life; a late outcome is kept exactly
               as long as no later attempt has started; the attempts on record agree with the row
"""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from models import direct, task_moves, task_notes
from models.task import TERMINAL, AttemptOutcome, TaskStatus
from models.task_moves import Loss
from models.task_notes import Progress
from tests.models.rows import LATER, NOW, accepted, everything, start
from tests.models.rows import end as write_end
from tests.scale import FULL

PENDING, RUNNING, COMPLETED, FAILED, CANCELLED = TaskStatus
ENDS: dict[AttemptOutcome, dict[str, Any]] = {
    AttemptOutcome.COMPLETED: {"status": COMPLETED},
    AttemptOutcome.FAILED: {"status": FAILED, "reason": "x"},
    AttemptOutcome.RETRIED: {"status": PENDING, "eta": LATER, "retried": True},
    AttemptOutcome.SKIPPED: {"status": CANCELLED, "reason": "skipped"},
    AttemptOutcome.SHUT_DOWN: {"status": PENDING},
}


@dataclass
class Model:
    """What the row should be."""

    status: TaskStatus = PENDING
    attempt: int = 0
    retry_count: int = 0
    waits: bool = False
    is_cancel_requested: bool = False
    is_published: bool = True
    attempts: dict[int, AttemptOutcome | None] = field(default_factory=dict)

    def starts(self, number: int, *, knows: int, is_due: bool, checked: bool) -> bool:
        """Whether an attempt of this number begins; if so it has."""
        waits = self.waits and knows < self.attempt and not is_due
        granted = self.status is PENDING and self.attempt < number
        if checked:
            granted = granted and not self.is_cancel_requested and not waits
        if granted:
            self.status, self.attempt, self.waits = RUNNING, number, False
            self.attempts.setdefault(number, None)
        return granted

    def ends(self, number: int, outcome: AttemptOutcome) -> bool:
        """Whether an attempt's outcome moves the row; if so it has."""
        if self.status is PENDING:
            moves = self.attempt < number or (self.attempt == number and self.attempts[number] is AttemptOutcome.LOST)
        else:
            moves = self.status is RUNNING and self.attempt <= number
        if moves:
            self.attempts[number] = outcome
            self.attempt = number
            self.status = ENDS[outcome]["status"]
            self.retry_count += outcome is AttemptOutcome.RETRIED
            self.waits = outcome is AttemptOutcome.RETRIED
            self.is_published = self.is_published or self.status is PENDING
        return moves


class ARowsLife(RuleBasedStateMachine):
    """One task, from its send on."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.delivered = 0
        self.in_workers: set[int] = set()
        self.highest = 0
        self.frozen: Any = None
        self.task_id = accepted()

    def worker_of(self, number: int) -> str:
        """Each delivery goes to a worker of its own."""
        return f"w-{number}"

    # --- workers -----------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.delivered == 0)
    @rule()
    def begin_unchecked(self) -> None:
        """The first delivery begins; its row does not know yet."""
        self.delivered = 1
        self.in_workers.add(1)

    @rule(knows=st.booleans(), is_due=st.booleans(), repeated=st.booleans())
    def begin_asked(self, *, knows: bool, is_due: bool, repeated: bool) -> None:
        """A message is delivered again, with the number of the row on it or as it was first sent."""
        self.delivered = max(self.delivered, self.model.attempt) + 1
        self._ask(self.delivered, self.model.attempt if knows else 0, is_due=is_due, repeated=repeated)

    @precondition(lambda self: self.delivered > 0)
    @rule(data=st.data(), is_due=st.booleans())
    def begin_from_an_old_delivery(self, data: st.DataObject, *, is_due: bool) -> None:
        """The bus lost its count, or the same delivery is handled twice."""
        self._ask(data.draw(st.integers(1, self.delivered)), 0, is_due=is_due, repeated=False)

    def _ask(self, number: int, knows: int, *, is_due: bool, repeated: bool) -> None:
        at = LATER if is_due else NOW
        expected = self.model.starts(number, knows=knows, is_due=is_due, checked=True)
        answer = self._start(number, sent_attempt=knows, started_at=at)
        assert answer == expected
        if repeated:
            assert not self._start(number, sent_attempt=knows, started_at=at)
        if answer:
            self.in_workers.add(number)

    def _start(self, number: int, **fields: Any) -> bool:
        started_at = fields.pop("started_at", NOW)
        with direct.transaction() as to:
            one = task_moves.Start(self.task_id, number, self.worker_of(number), started_at, **fields)
            return bool(task_moves.start(to, [one]))

    @precondition(lambda self: 1 in self.in_workers)
    @rule()
    def show(self) -> None:
        """The scribe writes that a first delivery runs."""
        expected = self.model.starts(1, knows=0, is_due=False, checked=False)
        assert start(self.task_id, 1, self.worker_of(1), checked=False) == expected

    @precondition(lambda self: self.in_workers)
    @rule(data=st.data(), outcome=st.sampled_from([*ENDS]), repeated=st.booleans())
    def end(self, data: st.DataObject, outcome: AttemptOutcome, *, repeated: bool) -> None:
        """An attempt ends, in time or late; perhaps the commit's answer is lost and it is written again."""
        number = data.draw(st.sampled_from(sorted(self.in_workers)))
        self.in_workers.remove(number)
        if number < self.model.attempt:
            assert not self.model.ends(number, outcome)
        expected = self.model.ends(number, outcome)
        assert self._end(number, outcome) == expected
        if repeated:
            assert not self._end(number, outcome)
            with direct.reading() as to:
                recorded = task_moves.outcome_of(to, self.task_id, number)
            assert recorded is self.model.attempts.get(number)

    def _end(self, number: int, outcome: AttemptOutcome) -> bool:
        return write_end(
            self.task_id, number, worker_id=self.worker_of(number), outcome=outcome, **ENDS[outcome]
        )  # fmt: skip

    @precondition(lambda self: self.in_workers)
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        """A worker dies with an attempt; nobody knows yet."""
        self.in_workers.discard(data.draw(st.sampled_from(sorted(self.in_workers))))

    @rule(data=st.data(), for_good=st.booleans())
    def rescue(self, data: st.DataObject, *, for_good: bool) -> None:
        """A worker is declared dead, rightly or not."""
        number = data.draw(st.integers(1, max(1, self.delivered)))
        model = self.model
        expected = model.status is RUNNING and model.attempt == number
        loss = Loss(self.task_id, number, self.worker_of(number), "worker lost" if for_good else None)
        with direct.transaction() as to:
            assert bool(task_moves.lose(to, [loss], NOW)) == expected
        if expected:
            model.status = FAILED if for_good else PENDING
            model.is_published = model.waits = False
            model.attempts[number] = AttemptOutcome.LOST

    @precondition(lambda self: self.model.attempt > 1)
    @rule()
    def note_what_vanished(self) -> None:
        """A worker that takes over records the delivery before its own, and all before it that nobody recorded."""
        number = self.model.attempt - 1
        self.model.attempts = dict.fromkeys(range(1, number), AttemptOutcome.LOST) | self.model.attempts
        with direct.transaction() as to:
            task_moves.note_lost_delivery(to, self.task_id, number, self.worker_of(number), NOW)
        if self.model.attempts.get(number) is None:
            self.model.attempts[number] = AttemptOutcome.LOST

    # --- people and the bus ------------------------------------------------------------------------------------------

    @precondition(lambda self: self.delivered > 0)  # why: a life that is cancelled at once shows little
    @rule()
    def cancel(self) -> None:
        """A person cancels, and nobody has the message."""
        model = self.model
        with direct.transaction() as to:
            assert task_moves.cancel(to, self.task_id, reason="by test", now=NOW) == (model.status is PENDING)
        if model.status is PENDING:
            model.status, model.is_cancel_requested, model.waits = CANCELLED, True, False

    @precondition(lambda self: self.delivered > 0)
    @rule()
    def request_cancel(self) -> None:
        """A person cancels, and a worker may have it."""
        expected = self.model.status not in TERMINAL
        with direct.transaction() as to:
            assert task_moves.request_cancel(to, self.task_id, reason="by test", now=NOW) == expected
        self.model.is_cancel_requested = self.model.is_cancel_requested or expected

    @precondition(lambda self: self.delivered > 1)
    @rule()
    def refuse(self) -> None:
        """It can never start."""
        model = self.model
        with direct.transaction() as to:
            moved = task_moves.refuse(to, self.task_id, reason="x", error_type="E", error_message="m", now=NOW)
        assert moved == (model.status is PENDING)
        if moved:
            model.status, model.waits = FAILED, False

    @rule()
    def reopen(self) -> None:
        """A person has it run again."""
        model = self.model
        expected = model.status in (FAILED, CANCELLED)
        with direct.transaction() as to:
            assert task_moves.reopen(to, self.task_id) == expected
        if expected:
            self.frozen = None
            model.status, model.retry_count = PENDING, 0
            model.waits = model.is_cancel_requested = model.is_published = False

    @rule(is_there=st.booleans())
    def publish(self, *, is_there: bool) -> None:
        """The relay sent it, or reconcile did not find it."""
        with direct.transaction() as to:
            task_moves.mark_published(to, [self.task_id], NOW if is_there else None)
        if self.model.status is PENDING:
            self.model.is_published = is_there

    @precondition(lambda self: self.in_workers)
    @rule(data=st.data())
    def tell(self, data: st.DataObject) -> None:
        """An attempt reports how far it is."""
        number = data.draw(st.sampled_from(sorted(self.in_workers)))
        with direct.transaction() as to:
            task_notes.write(to, [Progress(self.task_id, number, 0.5, None)])

    # --- what must hold ----------------------------------------------------------------------------------------------

    @invariant()
    def the_row_is_what_the_model_says(self) -> None:
        """The promise: the row is never wrong."""
        found, attempts = everything(self.task_id)
        assert found is not None
        model = self.model
        assert {one["number"]: one["outcome"] for one in attempts} == model.attempts
        assert (found["status"], found["attempt"], found["retry_count"]) == (
            model.status, model.attempt, model.retry_count,
        )  # fmt: skip
        assert (found["eta"] is not None) == model.waits
        assert (found["enqueued_at"] is not None) == model.is_published
        assert (found["cancel_requested_at"] is not None) == model.is_cancel_requested
        assert (found["completed_at"] is not None) == (model.status in TERMINAL)
        assert self.highest <= found["attempt"]
        self.highest = found["attempt"]

    @invariant()
    def the_attempts_agree_with_the_row(self) -> None:
        """Each of the past has its outcome, and one that completed completed the row."""
        model = self.model
        still_open = [number for number, outcome in model.attempts.items() if outcome is None]
        assert still_open == ([model.attempt] if model.status is RUNNING else [])
        assert (AttemptOutcome.COMPLETED in model.attempts.values()) == (model.status is COMPLETED)
        assert model.retry_count <= [*model.attempts.values()].count(AttemptOutcome.RETRIED)

    @invariant()
    def a_terminal_row_stays_as_it_is(self) -> None:
        """Whatever comes late: only `reopen` changes it."""
        if self.model.status in TERMINAL:
            now = everything(self.task_id)
            attempts = [one for one in now[1] if one["outcome"] != AttemptOutcome.LOST or one["started_at"]]
            self.frozen = self.frozen or (now[0], attempts)
            assert (now[0], attempts) == self.frozen


@pytest.mark.timeout(7_200 if FULL else 240)
def test_any_interleaving_leaves_the_row_as_the_model_says(any_database: str) -> None:
    run_state_machine_as_test(
        ARowsLife,
        settings=settings(
            max_examples=10_000 if FULL else 20,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
