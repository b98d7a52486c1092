"""The claim, which makes a due time fire exactly once. Driver-level SQL: a thousand may be due in the same second.

    read     enabled schedules whose `next_run_at` has come                     takes nothing
    claim    one transaction: `next_run_at` moves on by compare-and-set, the
             run is written (schedule + due time are its primary key), and
             the task's row is accepted (by the caller)                         all or nothing

Of any number of processes that claim at once one finds `next_run_at` as it read it; the others wait for its commit and
then find it moved. The key of the run is the second lock: a schedule that was edited back to a due time that was dealt
with does not fire it again.

Must not: decide what a due time comes to (periodic.decision); read the clock.
"""

import json
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


def move_on(to: Direct, schedule: DueSchedule, next_run_at: datetime | None) -> bool:
    """Take the due time that was read; False if another process has it, or the schedule was changed meanwhile."""
    sql = (
        f"UPDATE schedules SET next_run_at = ? WHERE schedule_id = ? AND {_IS_LIVE} AND next_run_at = ?"
        " AND COALESCE(last_task_id, '') = ?"
    )
    times = stamp(to.dialect, next_run_at), stamp(to.dialect, schedule.next_run_at)
    values = (times[0], schedule.schedule_id, times[1], schedule.last_task_id or "")
    return to.run_counted(marked(to, sql), values) == 1


def record(to: Direct, schedule_id: str, run: Run, *, task_id: str | None, now: datetime) -> bool:
    """Write down what becomes of a due time; False if that is on record already."""
    sql = (
        "INSERT INTO schedule_runs (schedule_id, due_at, due_until, due_count, outcome, reason, task_id, lateness_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (schedule_id, due_at) DO NOTHING"
    )
    lateness_ms = min(2**31 - 1, max(0, round((now - run.due_at).total_seconds() * 1000)))
    reason = None if run.reason is None else clean_text(run.reason, ERROR_MAX_CHARS)
    times = stamp(to.dialect, run.due_at), stamp(to.dialect, run.due_until)
    values = (schedule_id, *times, run.due_count, str(run.outcome), reason, task_id, lateness_ms)
    if to.run_counted(marked(to, sql), values) != 1:
        return False
    tally = totals.Tally(totals.SCHEDULES)
    tally.count((), _COUNTED_AS[run.outcome], run.due_count or 1)
    if run.outcome is RunOutcome.SENT:
        tally.observe((), "late", lateness_ms / 1000)
    tally.write(to)
    return True


_COUNTED_AS: Final = {
    RunOutcome.SENT: "sent", RunOutcome.SKIPPED_MISFIRE: "missed", RunOutcome.SKIPPED_OVERLAP: "overlapped"
}  # fmt: skip


def note_sent(to: Direct, schedule_id: str, task_id: str, now: datetime) -> None:
    """Its last task is this one."""
    sql = (
        "UPDATE schedules SET last_task_id = ?, last_run_at = ?, run_count = run_count + 1, error = NULL"
        " WHERE schedule_id = ?"
    )
    to.run_counted(marked(to, sql), (task_id, stamp(to.dialect, now), schedule_id))


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
