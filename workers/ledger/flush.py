"""One group commit: starts, notes and outcomes of all threads in one transaction, or taken apart where that is refused.

    committed    all of it
    refused      the database has something against what is in it: each move alone. An outcome that is refused alone is
                 changed into a failure that says why; if even that is refused, the reason is not what is in it, and it
                 is kept as it was

A DatabaseError (away, locked, not migrated) comes through: nobody can say then what was done, and all is repeated.

Must not: know a thread, or tell the bus anything.
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from dramatiq import Message

from models import direct, task_moves, task_notes, totals
from models.database import DatabaseError
from models.task import AttemptOutcome, FailureReason, TaskStatus
from models.task_moves import Attempt, End, NewTask, Start, Started
from models.task_notes import LogLine, Progress
from workers.broker import Parcel, Settlement

MEASURED_EVERY_S: Final = 1.0
"""How often the times of flushes are added to the totals, by a flush of then."""

_logger = logging.getLogger(__name__)


class Child(NamedTuple):
    """What a task causes by its end (a callback, the next of a pipeline): its message, and the row to be."""

    message: Message[Any]
    row: NewTask


class Ended:
    """An outcome on its way: what the row is to be, what the bus is to do then, the message that ran, and what it
    causes: written with the outcome, sent before the bus is told."""

    __slots__ = ("children", "end", "message", "settlement")

    def __init__(self, end: End, settlement: Settlement, message: Parcel, children: Sequence[Child] = ()) -> None:
        self.end = end
        self.settlement = settlement
        self.message = message
        self.children = children


class Flush(NamedTuple):
    """What is to be written together."""

    starts: Sequence[Start]
    ends: Sequence[Ended]
    notes: Sequence[LogLine | Progress]


class Written(NamedTuple):
    """What came of it. granted: of the starts. moved: attempts whose outcome moved their row. refused: outcomes that
    the database takes in no form now."""

    granted: dict[Attempt, Started]
    moved: set[Attempt]
    refused: list[Ended]


class Timings:
    """How long flushes took, on the way into the totals: with a flush of then."""

    def __init__(self) -> None:
        self._tally = totals.Tally(totals.FLUSHES)
        self._added_at_s = 0.0
        self._is_added = False

    def observe(self, took_s: float, rows: int) -> None:
        """A flush took this long."""
        self._tally.observe((), "seconds", took_s)
        self._tally.observe((), "rows", rows)

    def add(self, to: direct.Direct) -> None:
        """Add the earlier ones, if it is time for that."""
        self._is_added = bool(self._tally) and time.monotonic() - self._added_at_s >= MEASURED_EVERY_S
        if self._is_added:
            self._tally.write(to)

    def committed(self) -> None:
        """What was added stands."""
        if self._is_added:
            self._tally, self._added_at_s, self._is_added = totals.Tally(totals.FLUSHES), time.monotonic(), False


def write(flush: Flush, timings: Timings) -> Written:
    """Commit it; see the module's docstring. Raises DatabaseError."""
    try:
        with direct.transaction() as to:
            granted = task_moves.start(to, flush.starts)
            if flush.notes:
                task_notes.write(to, flush.notes)  # why: before the ends, as an ended task takes no progress any more.
            moved = write_ends(to, flush.ends)
            timings.add(to)
    except DatabaseError:
        raise
    except Exception as error:
        _logger.warning("a flush of the ledger was refused and is taken apart: %s", error)
        return _write_one_by_one(flush)
    timings.committed()
    return Written(granted, moved, [])


def _write_one_by_one(flush: Flush) -> Written:
    written = Written({}, set(), [])
    for start in flush.starts:
        written.granted.update(_alone(task_moves.start, start) or {})
    for note in flush.notes:
        _alone(task_notes.write, note)
    for ended in flush.ends:
        moved = _alone(write_ends, ended)
        if moved is None:
            end, children = ended.end, ended.children
            ended.end, ended.children = _unrecordable(ended.end), ()
            moved = _alone(write_ends, ended)
            if moved is None:
                ended.end, ended.children = end, children
                written.refused.append(ended)
        written.moved.update(moved or ())
    return written


def _alone(move: Callable[[direct.Direct, Sequence[Any]], Any], one: object) -> Any:
    try:
        with direct.transaction() as to:
            return move(to, [one])
    except DatabaseError:
        raise
    except Exception as error:  # why: whatever the database has against it, it is this one's alone.
        _logger.error("the database refused a move: %s", error)
        return None


def write_ends(to: direct.Direct, ends: Sequence[Ended]) -> set[Attempt]:
    """Write outcomes, and with each that moves its row the rows of its children: all or nothing."""
    with to.atomic() if any(ended.children for ended in ends) else nullcontext():
        moved = task_moves.end(to, [ended.end for ended in ends])
        born = [child.row for e in ends if (e.end.task_id, e.end.attempt) in moved for child in e.children]
        if born:
            task_moves.accept(to, born)
    return moved


def _unrecordable(end: End) -> End:
    return End(
        task_id=end.task_id,
        attempt=end.attempt,
        worker_id=end.worker_id,
        started_at=end.started_at,
        finished_at=datetime.now(UTC),
        status=TaskStatus.FAILED,
        outcome=AttemptOutcome.FAILED,
        reason=FailureReason.OUTCOME_NOT_STORABLE,
        error_type="OutcomeNotStorable",
        error_message="the database refused what this attempt came to; the worker's log says what it said",
    )
