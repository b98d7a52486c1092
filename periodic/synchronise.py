"""Declarations → rows, for the timetable that is in force.

    each ASSERT_EVERY_S    the process says that its timetable is alive, and hears whether it is in force
    in force, not applied  lines → rows, in transactions of CHUNK rows; then rows without a line are marked as removed
    not in force           newer code is alive, or was a minute ago: nothing is written

A crash at any line leaves some lines applied; the next process of the same code applies all of them again, which
changes nothing where it was done. Two that apply at once write the same: who is second with a new row starts again.

What a person has set (`overridden`) stays; `declared` always follows the line. A line that is wrong is stored with its
error and is never due; the others are not touched by it. A line whose id a person's schedule has leaves that alone.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from models import database, schedule, timetable
from models.schedule import Origin, Schedule
from models.timetable import IN_FORCE_S
from periodic.declaration import COLUMNS, WHEN, Checked, Declaration, checked, raw
from workers.errors import InvalidSchedule
from workers.registry import Registry

ASSERT_EVERY_S: Final = 15.0
CHUNK: Final = 500

_logger = logging.getLogger(__name__)


class Synchroniser:
    """Brings one timetable into the table.

    Args:
        registry: of the actors.
        timetable: the declarations.
    """

    def __init__(self, registry: Registry, timetable: Sequence[Declaration]) -> None:
        self._registry = registry
        self._timetable = _unique(timetable)
        self._fingerprint = _fingerprint(self._timetable)
        self._asserted_at: datetime | None = None
        self._is_applied = False

    def run(self, now: datetime) -> None:
        """Do what is due of the above. Raises DatabaseError."""
        asserted = self._asserted_at
        if asserted is not None and timedelta(0) <= now - asserted < timedelta(seconds=ASSERT_EVERY_S):
            return
        if asserted is not None and now - asserted > timedelta(seconds=IN_FORCE_S / 2):
            self._is_applied = False  # why: another may have come into force and gone, unseen.
        try:
            with database.writing() as session:
                is_in_force = timetable.assert_timetable(session, self._fingerprint, now)
            if is_in_force and not self._is_applied:
                self._apply(now)
        except IntegrityError as error:
            # why: another process brings the same timetable at this moment, and was first with a row; the next wake-up
            # finds what it has written, and does what is left.
            _logger.info("another scheduler applies the timetable just now; looked at again soon (%s)", error.orig)
            return
        if not is_in_force and (self._is_applied or asserted is None):
            _logger.warning("newer code has brought another timetable: this process's declarations are not applied")
        self._is_applied = is_in_force
        self._asserted_at = now

    def _apply(self, now: datetime) -> None:
        for first in range(0, len(self._timetable), CHUNK):
            chunk = self._timetable[first : first + CHUNK]
            with database.writing() as session:
                rows = schedule.by_ids(session, [declared.schedule_id for declared in chunk])
                for declared in chunk:
                    self._apply_one(session, declared, rows.get(declared.schedule_id), now)
        with database.writing() as session:
            gone = set(schedule.declared_ids(session)) - {declared.schedule_id for declared in self._timetable}
            for row in schedule.by_ids(session, sorted(gone)).values():
                row.enabled, row.removed_at, row.updated_at = False, now, now
                _logger.warning("schedule %s is not in the timetable any more: it is disabled", row.schedule_id)
        _logger.info("the scheduler is up, with %d declared schedules", len(self._timetable))

    def _apply_one(self, session: Session, declared: Declaration, row: Schedule | None, now: datetime) -> None:
        if row is not None and row.origin == Origin.USER:
            _logger.error(
                "schedule %s is declared, but a person has added one of that id, which goes on: rename the line",
                declared.schedule_id,
            )
            return
        line = self._values_of(declared)
        stored = _as_json(line)
        if row is None:
            row = Schedule(schedule_id=declared.schedule_id, actor="", trigger={}, created_at=now)
            session.add(row)
        elif row.declared == stored and row.error is None and row.removed_at is None:
            return
        anew = row.removed_at is not None
        for name in COLUMNS:
            if name not in row.overridden:
                anew |= name in WHEN and getattr(row, name) != line[name]
                setattr(row, name, line[name])
        row.origin, row.declared, row.removed_at, row.updated_at = Origin.DECLARED, stored, None, now
        set_due(row, self._registry, now, anew=anew)

    def _values_of(self, declared: Declaration) -> dict[str, Any]:
        try:
            return checked(declared, self._registry).values
        except InvalidSchedule:
            return raw(declared)  # why: its error is found again by `set_due`, as it stands in the row.


def definition_of(row: Schedule, **changes: Any) -> Declaration:
    """What a row says, as a declaration; with these columns changed."""
    values = {name: getattr(row, name) for name in COLUMNS}
    return Declaration(schedule_id=row.schedule_id, **{**values, **changes})


def set_due(row: Schedule, registry: Registry, now: datetime, *, anew: bool = False) -> Checked | None:
    """Set `next_run_at` and `error` after a change of a row.

    Args:
        anew: even if it is due as before, from now on: what has passed while it was not enabled was not missed.

    Returns:
        None if it cannot be; then `error` says why.
    """
    try:
        found = checked(definition_of(row), registry)
    except InvalidSchedule as error:
        row.next_run_at, row.error = None, str(error)[:500]
        _logger.error("schedule %s cannot run: %s", row.schedule_id, row.error)
        return None
    row.error = None
    expected = (
        None if row.next_run_at is None else found.trigger.next_after(row.next_run_at - timedelta(microseconds=1))
    )
    if anew or expected is None or expected != row.next_run_at:
        row.next_run_at = found.trigger.next_after(now)
    return found


def _unique(timetable: Sequence[Declaration]) -> list[Declaration]:
    first: dict[str, Declaration] = {}
    for declared in timetable:
        if first.setdefault(declared.schedule_id, declared) is not declared:
            _logger.error("schedule %s is declared twice: only the first line counts", declared.schedule_id)
    return list(first.values())


def _fingerprint(timetable: Sequence[Declaration]) -> str:
    lines = [vars(declared) for declared in timetable]
    return hashlib.sha256(json.dumps(lines, sort_keys=True, default=str).encode()).hexdigest()


def _as_json(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}
