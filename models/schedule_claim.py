"""The claim, which makes a due time fire exactly once. Driver-level SQL, for many schedules at once: a thousand may be
due in the same second. On PostgreSQL a batch is one statement, and so one round trip; on SQLite one a row.

    read     enabled schedules whose `next_run_at` has come                     takes nothing
    claim    one transaction: `next_run_at` moves on by compare-and-set, the
             runs are written (schedule + due time are their primary key), and
             the tasks' rows are accepted (by the caller)                       all or nothing

Of any number of processes that claim at once one finds `next_run_at` as it read it. The others wait for its commit and
then find it moved (SQLite), or pass over the rows that it holds (PostgreSQL): one that hangs in mid-transaction holds
up what it has claimed and nothing else, and what it gives back is claimed at the next look. The key of the run is the
second lock: a schedule that was edited back to a due time that was dealt with does not fire it again.

Must not: decide what a due time comes to (periodic.decision); read the clock.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from models import totals
from models.direct import Direct, marked, stamp
from models.schedule import RunOutcome
from models.task import TERMINAL
from models.task_moves import unstamp
from models.text import clean_text

ERROR_MAX_CHARS: Final = 500

_IS_LIVE: Final = "enabled AND removed_at IS NULL"
_COLUMNS: Final = (
    "schedule_id, actor, params, trigger, time_zone, start_at, end_at, priority, max_retries, time_limit_s, misfire,"
    " misfire_grace_s, catch_up_max, overlap, jitter_s, error, last_task_id, next_run_at"
)


class DueSchedule(msgspec.Struct, frozen=True):
    """A schedule as the scheduler read it; see models.schedule. last_is_unfinished: its last task has not ended."""

    schedule_id: str
    actor: str
    params: dict[str, Any]
    trigger: dict[str, Any]
    time_zone: str
    start_at: datetime | None
    end_at: datetime | None
    priority: int | None
    max_retries: int
    time_limit_s: int
    misfire: str
    misfire_grace_s: int
    catch_up_max: int
    overlap: str
    jitter_s: int
    error: str | None
    last_task_id: str | None
    next_run_at: datetime
    last_is_unfinished: bool


class Run(msgspec.Struct, frozen=True):
    """What becomes of a due time, or of a row of them; see models.schedule.ScheduleRun."""

    due_at: datetime
    outcome: RunOutcome
    reason: str | None = None
    due_until: datetime | None = None
    due_count: int | None = 1


def due(to: Direct, now: datetime) -> list[DueSchedule]:
    """Enabled schedules whose time has come, the longest due first."""
    columns = ", ".join(f"s.{name.strip()}" for name in _COLUMNS.split(","))
    ended = ", ".join(f"'{status}'" for status in sorted(TERMINAL))
    sql = (
        f"SELECT {columns}, t.status IS NOT NULL AND t.status NOT IN ({ended}) FROM schedules AS s"
        f" LEFT JOIN background_tasks AS t ON t.task_id = s.last_task_id"
        f" WHERE {_IS_LIVE} AND s.next_run_at <= ?"
        " ORDER BY s.next_run_at, s.schedule_id"
    )
    return [_due(row) for row in to.run(marked(to, sql), (stamp(to.dialect, now),))]


def next_due_at(to: Direct, *, after: datetime) -> datetime | None:
    """The first due time of an enabled schedule after that moment; None if there is none."""
    sql = f"SELECT MIN(next_run_at) FROM schedules WHERE {_IS_LIVE} AND next_run_at > ?"
    return unstamp(to.run(marked(to, sql), (stamp(to.dialect, after),))[0][0])


_IS_AS_READ: Final = f"{_IS_LIVE} AND next_run_at = {{}} AND COALESCE(last_task_id, '') = {{}}"
_MOVE_ON_SQLITE: Final = (
    f"UPDATE schedules SET next_run_at = ? WHERE schedule_id = ? AND {_IS_AS_READ.format('?', '?')}"
)
_MOVE_ON_POSTGRES: Final = (
    "WITH v AS MATERIALIZED (SELECT * FROM unnest(%s::timestamptz[], %s::text[], %s::timestamptz[], %s::text[])"
    " AS v (later, id, as_read, last_read)),"
    " mine AS MATERIALIZED (SELECT s.schedule_id, v.later FROM schedules AS s JOIN v ON v.id = s.schedule_id"
    f" WHERE {_IS_AS_READ.format('v.as_read', 'v.last_read')} FOR UPDATE OF s SKIP LOCKED)"
    " UPDATE schedules AS s SET next_run_at = mine.later FROM mine WHERE s.schedule_id = mine.schedule_id"
    " RETURNING s.schedule_id"
)


def move_on(to: Direct, claims: Sequence[tuple[DueSchedule, datetime | None]]) -> set[str]:
    """Take the due times that were read, of each schedule up to the one that comes next.

    Returns:
        The ids of those that are ours; another process has the others, or they were changed meanwhile.
    """
    rows = [
        (stamp(to.dialect, later), one.schedule_id, stamp(to.dialect, one.next_run_at), one.last_task_id or "")
        for one, later in claims
    ]
    if to.dialect != "sqlite" and rows:
        return {str(row[0]) for row in to.run(_MOVE_ON_POSTGRES, [*map(list, zip(*rows, strict=True))])}
    return {row[1] for row in rows if to.run_counted(_MOVE_ON_SQLITE, row) == 1}


class Record(msgspec.Struct, frozen=True):
    """What becomes of a due time, to be put on record. task_id: of the task that was sent."""

    schedule_id: str
    run: Run
    task_id: str | None = None


_RECORD: Final = (
    "INSERT INTO schedule_runs (schedule_id, due_at, due_until, due_count, outcome, reason, task_id, lateness_ms)"
    " {} ON CONFLICT (schedule_id, due_at) DO NOTHING"
)
_RECORD_SQLITE: Final = _RECORD.format("VALUES (?, ?, ?, ?, ?, ?, ?, ?)")
_RECORD_POSTGRES: Final = (
    _RECORD.format(
        "SELECT * FROM unnest(%s::text[], %s::timestamptz[], %s::timestamptz[], %s::int[], %s::text[], %s::text[],"
        " %s::text[], %s::int[])"
    )
    + " RETURNING schedule_id, due_at"
)
_COUNTED_AS: Final = {
    RunOutcome.SENT: "sent", RunOutcome.SKIPPED_MISFIRE: "missed", RunOutcome.SKIPPED_OVERLAP: "overlapped"
}  # fmt: skip


def record(to: Direct, records: Sequence[Record], *, now: datetime) -> list[Record]:
    """Write down what becomes of due times, and count them; returns those that were not on record already."""
    rows = [
        (
            one.schedule_id, stamp(to.dialect, one.run.due_at), stamp(to.dialect, one.run.due_until),
            one.run.due_count, str(one.run.outcome),
            None if one.run.reason is None else clean_text(one.run.reason, ERROR_MAX_CHARS), one.task_id,
            _lateness_ms(one.run, now),
        )
        for one in records
    ]  # fmt: skip
    if to.dialect != "sqlite":
        columns = [*map(list, zip(*rows, strict=True))]
        written = {(row[0], unstamp(row[1])) for row in (to.run(_RECORD_POSTGRES, columns) if rows else ())}
        new = [one for one in records if (one.schedule_id, one.run.due_at) in written]
    else:
        new = [one for one, row in zip(records, rows, strict=True) if to.run_counted(_RECORD_SQLITE, row) == 1]
    tally = totals.Tally(totals.SCHEDULES)
    for one in new:
        tally.count((), _COUNTED_AS[one.run.outcome], one.run.due_count or 1)
        if one.run.outcome is RunOutcome.SENT:
            tally.observe((), "late", _lateness_ms(one.run, now) / 1000)
    if tally:
        tally.write(to)
    return new


def _lateness_ms(run: Run, now: datetime) -> int:
    return min(2**31 - 1, max(0, round((now - run.due_at).total_seconds() * 1000)))


_NOTE_SENT: Final = (
    "UPDATE schedules AS s SET last_task_id = {}, last_run_at = {}, run_count = run_count + 1, error = NULL"
)
_NOTE_SENT_SQLITE: Final = _NOTE_SENT.format("?", "?") + " WHERE schedule_id = ?"
_NOTE_SENT_POSTGRES: Final = (
    _NOTE_SENT.format("v.task_id", "%s") + " FROM unnest(%s::text[], %s::text[]) AS v (task_id, id)"
    " WHERE s.schedule_id = v.id"
)


def note_sent(to: Direct, sent: Iterable[Record], now: datetime) -> None:
    """These are the last tasks of their schedules."""
    rows, at = [(one.task_id, one.schedule_id) for one in sent], stamp(to.dialect, now)
    if to.dialect == "sqlite":
        to.run_counted_many(_NOTE_SENT_SQLITE, [(task_id, at, schedule_id) for task_id, schedule_id in rows])
    elif rows:
        to.run_counted(_NOTE_SENT_POSTGRES, [at, *map(list, zip(*rows, strict=True))])


def note_error(to: Direct, schedule_id: str, error: str) -> None:
    """Why it cannot run."""
    sql = "UPDATE schedules SET error = ? WHERE schedule_id = ?"
    to.run_counted(marked(to, sql), (clean_text(error, ERROR_MAX_CHARS), schedule_id))


def _due(row: tuple[Any, ...]) -> DueSchedule:
    schedule_id, actor, params, trigger, time_zone, start_at, end_at, *policy, next_run_at, is_unfinished = row
    due_at = unstamp(next_run_at)
    assert due_at is not None
    when = time_zone, unstamp(start_at), unstamp(end_at)
    columns = schedule_id, actor, _json(params), _json(trigger), *when, *policy, due_at, bool(is_unfinished)
    return DueSchedule(*columns)  # fmt: skip


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, (str, bytes)) else value
