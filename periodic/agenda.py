"""The agenda: what is due, claimed and sent.

One wake-up, and what a crash at each line leaves:

    synchronise   declarations → rows, at the first wake-up that reaches the database        crash: done again
    due           read the enabled schedules whose time has come                      crash: nothing happened
    claim         one transaction: the run (unique on schedule + due time),           crash before the commit: nothing;
                  next_run_at moved by compare-and-set, the task's row (pending,      after it: the row waits for the
                  enqueued_at empty)                                                  next wake-up of any process
    publish       each pending scheduled row with empty enqueued_at goes on the       crash: published again; the bus
                  bus, then enqueued_at is written                                    takes it once, an ended row never

So any number of scheduler processes may run, and any of them may die at any point. A missed time (the process was down)
runs once, late. A time at which the previous run is unfinished is skipped, and recorded as skipped.

Nothing here raises: an error is logged, and the next wake-up comes after a back-off.
"""

import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlmodel import Session, col, select

from models import database, direct, schedule, task_moves
from models.schedule import Schedule
from models.task import TERMINAL, Task, new_task_id
from models.task_moves import NewTask
from models.triggers import TriggerError, from_row, to_row
from periodic.timetable import Declaration
from workers import Callboard
from workers.errors import CallboardError, InvalidTask
from workers.ledger.ledger import ENVELOPE, ENVELOPE_VERSION
from workers.ledger.relay import relay
from workers.params import validate
from workers.registry import default_priority_of, function_of, type_of

MAX_NAP_S = 0.9
"""The longest sleep: an edit in the table is seen after it, and periodiq never uses its whole-second alarm."""
ERROR_NAP_S = 0.8

_logger = logging.getLogger(__name__)


class Agenda:
    """What the scheduler process does at each wake-up.

    Args:
        callboard: registry and bus.
        timetable: the declarations.
    """

    def __init__(self, callboard: Callboard, timetable: Sequence[Declaration]) -> None:
        self._callboard = callboard
        self._timetable = timetable
        self._synchronised = False
        self._failed = False

    def wake(self, now: datetime | None = None) -> int:
        """Send what is due; returns how many tasks were put on the bus. Raises nothing."""
        now = now or datetime.now(UTC)
        try:
            self._synchronise(now)
            with database.reading() as session:
                due = schedule.due(session, now)
            for one in due:
                self._claim(one, now)
            sent = relay(self._callboard.broker, grace_s=0.0)
        except (database.DatabaseError, CallboardError) as error:
            if not self._failed:
                _logger.warning("the scheduler cannot work now, and tries again: %s", error)
            self._failed = True
            return 0
        except Exception:  # why: an exception would end periodiq, and with it every other schedule.
            self._failed = True
            _logger.exception("the scheduler met an unexpected error, and goes on")
            return 0
        if self._failed:
            _logger.warning("the scheduler works again")
        self._failed = False
        return sent

    def next_wake(self, now: datetime | None = None) -> datetime:
        """When to wake next: at the next due time, at most MAX_NAP_S ahead. Raises nothing."""
        now = now or datetime.now(UTC)
        if self._failed:
            return now + timedelta(seconds=ERROR_NAP_S)
        latest = now + timedelta(seconds=MAX_NAP_S)
        try:
            with database.reading() as session:
                due_at = schedule.next_due_at(session)
        except database.DatabaseError:
            return latest
        return latest if due_at is None else min(latest, max(due_at, now + timedelta(milliseconds=1)))

    def problems(self) -> list[str]:
        """What is wrong with the declarations, a line each; for `callboard check`."""
        found: list[str] = []
        seen: dict[tuple[str, str], str] = {}
        for declared in self._timetable:
            error = self._error_of(declared)
            if error is not None:
                found.append(f"schedule {declared.schedule_id}: {error}")
            job = (declared.actor, repr(sorted(declared.params.items())))
            if job in seen:
                found.append(f"schedule {declared.schedule_id}: {declared.actor} with the same parameters is "
                             f"scheduled by {seen[job]} already: remove one of them")  # fmt: skip
            seen[job] = declared.schedule_id
        return found

    def _synchronise(self, now: datetime) -> None:
        if self._synchronised:
            return
        with database.writing() as session:
            for declared in self._timetable:
                self._synchronise_one(session, declared, now)
        self._synchronised = True
        _logger.info("the scheduler is up, with %d declared schedules", len(self._timetable))

    def _synchronise_one(self, session: Session, declared: Declaration, now: datetime) -> None:
        error = self._error_of(declared)
        trigger = to_row(declared.trigger)
        row = session.get(Schedule, declared.schedule_id)
        if row is None:
            row = Schedule(
                schedule_id=declared.schedule_id, actor=declared.actor, trigger=trigger, enabled=declared.enabled
            )
            row.next_run_at = declared.trigger.next_after(now)
        elif row.trigger != trigger:
            row.next_run_at = declared.trigger.next_after(now)
        row.actor = declared.actor
        row.trigger = trigger
        row.params = declared.params
        row.priority = declared.priority
        row.max_retries = declared.max_retries
        row.time_limit_s = declared.time_limit_s
        row.error = error
        if error is not None:
            row.enabled = False
            _logger.error("schedule %s cannot run: %s", declared.schedule_id, error)
        session.add(row)

    def _error_of(self, declared: Declaration) -> str | None:
        try:
            actor = self._callboard.registry.resolve(declared.actor)
            validate(function_of(actor), declared.params)
        except InvalidTask as error:
            return str(error)
        return None

    def _claim(self, due: Schedule, now: datetime) -> None:
        try:
            next_run_at = from_row(due.trigger).next_after(now)
            actor = self._callboard.registry.resolve(due.actor)
        except (TriggerError, InvalidTask) as error:
            _logger.error("schedule %s cannot run: %s", due.schedule_id, error)
            return
        priority = due.priority or default_priority_of(actor)
        options = {
            ENVELOPE: ENVELOPE_VERSION,
            "priority": priority,
            "max_retries": due.max_retries,
            "time_limit": due.time_limit_s * 1000,
            "schedule_id": due.schedule_id,
        }
        task = NewTask(
            task_id=new_task_id(),
            task_name=actor.actor_name,
            task_type=type_of(actor),
            queue=actor.queue_name,
            priority=priority,
            params=json.dumps({"args": [], "kwargs": due.params}),
            options=json.dumps(options),
            max_retries=due.max_retries,
            schedule_id=due.schedule_id,
            created_at=now,
            enqueued_at=None,
        )
        with database.writing() as session:
            busy = _unfinished(session, due.last_task_id)
            reason = f"the previous run {due.last_task_id} is unfinished" if busy else None
            taken = schedule.claim(
                session,
                due,
                now=now,
                next_run_at=next_run_at,
                task_id=None if busy else task.task_id,
                reason=reason,
            )
            if taken and not busy:
                task_moves.accept(direct.Within(session), [task])
        if taken and busy:
            _logger.warning("schedule %s, due %s, is skipped: %s", due.schedule_id, due.next_run_at, reason)


def _unfinished(session: Session, task_id: str | None) -> bool:
    if task_id is None:
        return False
    status = session.exec(select(Task.status).where(col(Task.task_id) == task_id)).first()
    return status is not None and status not in TERMINAL
