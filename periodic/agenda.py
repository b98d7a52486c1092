"""The agenda: what is due, claimed and sent.

One wake-up, and what a crash at each line leaves:

    synchronise   declarations → rows (periodic.synchronise)                        crash: done again
    due           read the enabled schedules whose time has come                    crash: nothing happened
    decide        what becomes of their due times (periodic.decision)               crash: nothing happened
    claim         one transaction for many of them: next_run_at moves on by         crash before the commit: nothing;
                  compare-and-set, the run is written, the task's row is            after it: the relay of any process
                  accepted without a message, the run before is asked to end        finds the row
    publish       the messages of these rows go on the bus                          crash: as with `send_in`, the relay

So any number of scheduler processes may run, and any of them may die at any point. With the bus down the claims go on,
and the relay delivers; with the database down nothing can be known to be due: it is late, and dealt with by the
schedule's misfire policy when the database is back.

A schedule that cannot be sent by this code (its actor is unknown here, as during a rolling deploy) is left as it is,
due, with its error in the row: a process that knows it sends it. It holds up no other.

Nothing here raises: an error is logged once, and the next wake-up comes after a back-off.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import dramatiq

from models import database, direct, schedule_claim
from models.schedule_claim import DueSchedule, Record
from models.triggers import TriggerError, from_row
from periodic import run
from periodic.decision import Decision, decide, jitter_of
from periodic.declaration import Declaration
from periodic.run import Sending
from periodic.synchronise import Synchroniser
from workers import Callboard
from workers.errors import CallboardError, InvalidTask
from workers.ledger import outbox

MAX_NAP_S: Final = 0.9
"""The longest sleep: an edit in the table is seen after it, and periodiq never uses its whole-second alarm."""
ERROR_NAP_S: Final = 0.8
BATCH: Final = 100
"""Schedules claimed by one transaction."""
OTHERS_MAY_WITHIN: Final = timedelta(seconds=5)
"""So long a schedule that this code cannot send is left to others without a word."""
PASSES: Final = 50
"""Batches of one wake-up; then periodiq has its turn, and looks whether it is to end."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Claim:
    """What is to be written of one schedule. sending: None if nothing is sent."""

    schedule: DueSchedule
    decision: Decision
    sending: Sending | None


class Agenda:
    """What the scheduler process does at each wake-up.

    Args:
        callboard: registry and bus.
        timetable: the declarations.
    """

    def __init__(self, callboard: Callboard, timetable: Sequence[Declaration]) -> None:
        self._callboard = callboard
        self._synchroniser = Synchroniser(callboard.registry, timetable)
        self._error: str | None = None
        """What the last wake-up met."""
        self._looked_at: datetime | None = None

    def wake(self, now: datetime | None = None) -> int:
        """Claim and send what is due; returns how many tasks were claimed. Raises nothing."""
        now = now or datetime.now(UTC)
        try:
            self._synchroniser.run(now)
            claimed = self._claim_all(now)
        except (database.DatabaseError, CallboardError) as error:
            if self._error is None:
                _logger.warning("the scheduler cannot work now, and tries again: %s", error)
            self._error = repr(error)
            return 0
        except Exception as error:  # why: an exception would end periodiq, and with it every other schedule.
            if self._error != repr(error):
                _logger.exception("the scheduler met an unexpected error, and goes on")
            self._error = repr(error)
            return 0
        if self._error is not None:
            _logger.warning("the scheduler works again")
        self._error = None
        self._looked_at = now
        return claimed

    def next_wake(self, now: datetime | None = None) -> datetime:
        """When to wake next: at the next due time, at most MAX_NAP_S ahead. Raises nothing."""
        now = now or datetime.now(UTC)
        if self._error is not None:
            return now + timedelta(seconds=ERROR_NAP_S)
        latest = now + timedelta(seconds=MAX_NAP_S)
        try:
            with direct.reading() as to:
                # why: what was due at the last look and still is, waits for something; it must not keep us awake.
                due_at = schedule_claim.next_due_at(to, after=min(self._looked_at or now, now))
        except database.DatabaseError:
            return latest
        except Exception:  # why: as in `wake`.
            _logger.exception("the scheduler cannot see what is due next, and looks again soon")
            return latest
        return latest if due_at is None else min(latest, max(due_at, now + timedelta(milliseconds=2)))

    def _claim_all(self, now: datetime) -> int:
        """Claim until nothing is due but what waits; returns how many tasks."""
        claimed = 0
        for _ in range(PASSES):
            with direct.reading() as to:
                due = schedule_claim.due(to, now)
            claims = [claim for claim in (self._prepare(one, now) for one in due) if claim is not None]
            moved = 0
            for first in range(0, len(claims), BATCH):
                batch = claims[first : first + BATCH]
                taken = self._commit(batch, now)
                moved += len(taken)
                task_ids = [claim.sending.task.task_id for claim in taken if claim.sending is not None]
                outbox.publish(self._callboard.broker, task_ids)
                claimed += len(task_ids)
            if moved == 0:
                break
        return claimed

    def _prepare(self, due: DueSchedule, now: datetime) -> _Claim | None:
        """What to write of a schedule; None if it waits or cannot be sent by this code."""
        try:
            trigger = from_row(due.trigger, time_zone=due.time_zone, start_at=due.start_at, end_at=due.end_at)
            actor = self._callboard.registry.resolve(due.actor)
            decision = decide(due, trigger, now)
            if decision is None:
                return None
            return _Claim(due, decision, self._sending_of(due, actor, decision, now))
        except (TriggerError, InvalidTask) as error:
            self._note_error(due, str(error), now=now)
        except Exception as error:  # why: whatever is wrong with this schedule, the others are due.
            _logger.exception("schedule %s cannot be looked at", due.schedule_id)
            self._note_error(due, f"{type(error).__name__}: {error}")
        return None

    def _sending_of(
        self, due: DueSchedule, actor: dramatiq.Actor[..., object], decision: Decision, now: datetime
    ) -> Sending | None:
        if decision.sent is None:
            return None
        start_at = decision.sent.due_at + jitter_of(due, decision.sent.due_at)
        delay_ms = round((start_at - now).total_seconds() * 1000)
        task = run.task_of(
            self._callboard, actor, due.params, now=now, schedule_id=due.schedule_id, priority=due.priority,
            max_retries=due.max_retries, time_limit_s=due.time_limit_s, delay_ms=delay_ms if delay_ms > 0 else None,
        )  # fmt: skip
        return Sending(due.schedule_id, decision.sent, task, cancels=decision.cancels)

    def _commit(self, claims: Sequence[_Claim], now: datetime) -> list[_Claim]:
        """Write claims in one transaction, or, if that cannot be, each in its own; returns those that were ours."""
        try:
            return _write(claims, now)
        except database.DatabaseError:
            raise
        except Exception as error:
            if len(claims) == 1:
                _logger.exception("schedule %s cannot be claimed", claims[0].schedule.schedule_id)
                self._note_error(claims[0].schedule, f"{type(error).__name__}: {error}")
                return []
        return [taken for claim in claims for taken in self._commit([claim], now)]

    def _note_error(self, due: DueSchedule, error: str, *, now: datetime | None = None) -> None:
        if now is not None and now - due.next_run_at < OTHERS_MAY_WITHIN:
            return  # why: another process may have the actor, and has had no time to claim it yet.
        if due.error == error[: schedule_claim.ERROR_MAX_CHARS]:
            return
        _logger.error("schedule %s cannot run: %s", due.schedule_id, error)
        with direct.transaction() as to:
            schedule_claim.note_error(to, due.schedule_id, error)


def _write(claims: Sequence[_Claim], now: datetime) -> list[_Claim]:
    """Claim in one transaction. Returns those that are ours: of the others the due time is another's, or was dealt
    with before."""
    with direct.transaction() as to, to.atomic():
        moved = schedule_claim.move_on(to, [(claim.schedule, claim.decision.next_run_at) for claim in claims])
        ours = [claim for claim in claims if claim.schedule.schedule_id in moved]
        skipped = [
            Record(claim.schedule.schedule_id, one)
            for claim in ours
            for one in claim.decision.runs
            if one is not claim.decision.sent
        ]
        sent = run.write(to, [claim.sending for claim in ours if claim.sending is not None], now=now, skipped=skipped)
    for claim in ours:
        for one in claim.decision.runs:
            if one.reason is not None:
                due = claim.schedule.schedule_id, one.due_at
                _logger.warning("schedule %s, due %s: %s, %s", *due, one.outcome, one.reason)
    sent_ids = {one.schedule_id for one in sent}
    return [claim for claim in ours if claim.sending is None or claim.schedule.schedule_id in sent_ids]
