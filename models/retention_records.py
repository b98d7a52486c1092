"""Retention of what is no task: one-off schedules, change records, log lines, samples and sessions that have had their
time. (Tasks and their results: models.retention.)

    a one-off schedule   a day after its time, once its run has ended; not while the timetable has its line
    a change record      `task_days` after it was written, if the task or schedule that it speaks of is gone; refusals
                         stay
    a log line           `log_days` after it was logged, if its task has ended
    a health sample      as long; of the machines and of providers
    a user session       when it has expired

Each function is a generator: it reads a page without a lock, deletes by id in transactions of at most BATCH_ROWS, each
of which asks again whether the row may go, and yields how many went. Between two it rests for as long as the last one
took; whoever calls may stop there. What a crash leaves is a beginning: the rest goes at the next time.

Must not: read the clock.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from models import direct
from models.direct import Direct, marked, stamp
from models.task_moves import unstamp
from models.triggers import Date, TriggerError, parse

PAGE_ROWS: Final = 2_000
BATCH_ROWS: Final = 500
MAX_REST_S: Final = 0.1
ONE_OFF_FOR: Final = timedelta(days=1)
"""So long after its time a one-off schedule can still be looked at."""
_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)

_OF_A_TASK: Final = frozenset({"tasks.cancel", "tasks.change", "tasks.delete", "tasks.retry"})
"""Actions whose target is a task's id (or several, with blanks between: such a record stays); others name an actor."""
_TASK_IS_ACTIVE: Final = (
    "SELECT 1 FROM background_tasks AS t WHERE t.task_id = {id} AND t.status IN ('pending', 'running')"
)
_CHANGES: Final = (
    "SELECT at, id, action, target FROM audit_log WHERE (at, id) > (?, ?) AND at < ? AND outcome <> 'refused'"
    " ORDER BY at, id LIMIT ?"
)
_ORPHANED: Final = (
    "((action LIKE 'tasks.%' AND NOT EXISTS (SELECT 1 FROM background_tasks AS t WHERE t.task_id = audit_log.target))"
    " OR (action LIKE 'schedules.%' AND NOT EXISTS"
    " (SELECT 1 FROM schedules AS s WHERE s.schedule_id = audit_log.target)))"
)
_ONE_OFFS: Final = (
    "SELECT schedule_id, trigger, time_zone, start_at, end_at, updated_at FROM schedules AS s"
    " WHERE (next_run_at IS NULL OR NOT enabled) AND (origin = 'user' OR removed_at IS NOT NULL)"
)
_FORGET_ONE_OFF: Final = (
    "DELETE FROM schedules WHERE schedule_id = ? AND updated_at = ? AND (next_run_at IS NULL OR NOT enabled)"
    f" AND NOT EXISTS ({_TASK_IS_ACTIVE.format(id='schedules.last_task_id')})"
)
_LOG_LINES: Final = (
    "SELECT l.id, l.logged_at < ?, t.status IS NULL OR t.status NOT IN ('pending', 'running') FROM task_logs AS l"
    " LEFT JOIN background_tasks AS t ON t.task_id = l.task_id WHERE l.id > ? ORDER BY l.id LIMIT ?"
)
_FORGET_LINES: Final = (
    f"DELETE FROM task_logs WHERE id IN ({{marks}}) AND NOT EXISTS ({_TASK_IS_ACTIVE.format(id='task_logs.task_id')})"
)
_SESSIONS: Final = (
    "DELETE FROM user_sessions WHERE session_hash IN"
    " (SELECT session_hash FROM user_sessions WHERE expires_at < ? ORDER BY expires_at LIMIT ?)"
)
_HEALTH: Final = (
    "DELETE FROM health_samples WHERE task_id IN"
    " (SELECT task_id FROM health_samples WHERE sampled_at < ? ORDER BY sampled_at LIMIT ?)"
)
_OF_PROVIDER: Final = (
    "DELETE FROM provider_samples WHERE (provider, sampled_at) IN (SELECT provider, sampled_at FROM provider_samples"
    " WHERE provider = ? AND sampled_at < ? ORDER BY sampled_at LIMIT ?)"
)


def one_off_schedules(now: datetime) -> Iterator[int]:
    """Schedules that were due once and are no more."""
    with direct.reading() as to:
        rows = to.run(_ONE_OFFS)
    for schedule_id, *when, updated_at in rows:
        due_at = _due_once(*when)
        if due_at is not None and due_at < now - ONE_OFF_FOR:
            yield from _spread([(schedule_id, updated_at)], _forget_one_off)


def _due_once(trigger: Any, time_zone: str, start_at: Any, end_at: Any) -> datetime | None:
    """When a one-off schedule is or was due; None if it is none, or nobody can tell."""
    stored = dict(trigger if isinstance(trigger, dict) else json.loads(trigger))
    try:
        found = parse(
            stored.pop("kind", None), stored, time_zone=time_zone, start_at=unstamp(start_at), end_at=unstamp(end_at)
        )
    except TriggerError:
        return None
    return found.due_at if isinstance(found, Date) else None


def _forget_one_off(to: Direct, as_read: Sequence[tuple[str, Any]]) -> int:
    return to.run_counted_many(marked(to, _FORGET_ONE_OFF), as_read)


def orphaned_changes(written_before: datetime) -> Iterator[int]:
    """Change records of tasks and schedules that are gone."""
    after: tuple[Any, int] | None = None
    while True:
        with direct.reading() as to:
            begin = after or (stamp(to.dialect, _NEVER), 0)
            page = to.run(marked(to, _CHANGES), (*begin, stamp(to.dialect, written_before), PAGE_ROWS))
        of_one = [
            number for _, number, action, target in page
            if target and " " not in target and (action in _OF_A_TASK or action.startswith("schedules."))
        ]  # fmt: skip
        yield from _spread(of_one, _forget_orphans)
        if len(page) < PAGE_ROWS:
            return
        after = page[-1][0], page[-1][1]


def _forget_orphans(to: Direct, ids: Sequence[int]) -> int:
    # why: psycopg takes a percent sign for the beginning of a mark.
    orphaned = _ORPHANED if to.dialect == "sqlite" else _ORPHANED.replace("%", "%%")
    return to.run_counted(marked(to, f"DELETE FROM audit_log WHERE id IN ({_marks(ids)}) AND {orphaned}"), list(ids))


def log_lines(logged_before: datetime) -> Iterator[int]:
    """Log lines of ended tasks. Lines are numbered as they are written, so the walk ends where they are young."""
    after_id = 0
    while True:
        with direct.reading() as to:
            page = to.run(marked(to, _LOG_LINES), (stamp(to.dialect, logged_before), after_id, PAGE_ROWS))
        yield from _spread([number for number, is_old, has_ended in page if is_old and has_ended], _forget_lines)
        if len(page) < PAGE_ROWS or not any(is_old for _, is_old, _ in page):
            return
        after_id = page[-1][0]


def _forget_lines(to: Direct, ids: Sequence[int]) -> int:
    return to.run_counted(marked(to, _FORGET_LINES.format(marks=_marks(ids))), list(ids))


def health_samples(sampled_before: datetime) -> Iterator[int]:
    """Samples of machines and of providers."""
    yield from _drain(_HEALTH, sampled_before)
    with direct.reading() as to:
        providers = [row[0] for row in to.run("SELECT DISTINCT provider FROM provider_samples")]
    for provider in providers:
        yield from _drain(_OF_PROVIDER, sampled_before, provider)


def user_sessions(now: datetime) -> Iterator[int]:
    """Sessions that have expired."""
    return _drain(_SESSIONS, now)


def _drain(sql: str, before: datetime, *first: Any) -> Iterator[int]:
    """Run a statement that deletes some until it finds no more."""
    went = BATCH_ROWS
    while went == BATCH_ROWS:
        went = sum(_spread([0], lambda to, _: _delete_some(to, sql, before, first)))
        yield went


def _delete_some(to: Direct, sql: str, before: datetime, first: Sequence[Any]) -> int:
    return to.run_counted(marked(to, sql), (*first, stamp(to.dialect, before), BATCH_ROWS))


def _spread(keys: Sequence[Any], act: Callable[[Direct, Sequence[Any]], int]) -> Iterator[int]:
    """Act on keys, a transaction for each BATCH_ROWS of them, with a rest after each."""
    for first in range(0, len(keys), BATCH_ROWS):
        with direct.transaction() as to:
            began_s = time.monotonic()  # why: from the lock on, not the wait for it.
            went = act(to, keys[first : first + BATCH_ROWS])
        time.sleep(min(time.monotonic() - began_s, MAX_REST_S))
        yield went


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))
