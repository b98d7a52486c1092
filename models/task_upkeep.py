"""The queries of upkeep: which rows want sending, which run on dead workers, who does a chore.

Must not: move a row (models.task_moves), or know the bus.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from models.direct import Direct, marked, stamp
from models.task import TaskStatus
from models.task_moves import unstamp

_MESSAGE_COLUMNS: Final = "task_id, task_name, queue, priority, attempt, params, options, eta, created_at"


class Unsent(msgspec.Struct, frozen=True):
    """What a row says of the message that it stands for."""

    task_id: str
    task_name: str
    queue: str
    priority: int
    attempt: int
    params: dict[str, Any]
    options: dict[str, Any]
    eta: datetime | None
    created_at: datetime


class Sent(msgspec.Struct, frozen=True):
    """A pending row. is_due: its message went to the bus long enough ago to be there."""

    queue: str
    task_id: str
    is_due: bool


class Orphan(msgspec.Struct, frozen=True):
    """A row that runs on a worker of which nothing has been heard, or which knows nothing of it."""

    task_id: str
    task_name: str
    attempt: int
    worker_id: str


def unsent(to: Direct, *, before: datetime, limit: int, only: Sequence[str] | None = None) -> list[Unsent]:
    """Pending rows without a message that were accepted before then, oldest first. only: of these ids."""
    values: list[Any] = [stamp(to.dialect, before)]
    among = ""
    if only is not None:
        marks = ", ".join("?" * len(only))
        among, values = f" AND task_id IN ({marks})", [*values, *only]
    sql = (
        f"SELECT {_MESSAGE_COLUMNS} FROM background_tasks WHERE status = 'pending' AND enqueued_at IS NULL"
        f" AND created_at < ?{among} ORDER BY task_id LIMIT ?"
    )
    return [_unsent(row) for row in to.run(marked(to, sql), [*values, limit])]


def take_unsent(to: Direct, task_ids: Sequence[str], at: datetime) -> list[Unsent]:
    """Of these rows, those that are there and without a message: they count as sent from here on, by the caller."""
    marks = ", ".join("?" * len(task_ids))
    sql = (
        "UPDATE background_tasks SET enqueued_at = ? WHERE status = 'pending' AND enqueued_at IS NULL"
        f" AND task_id IN ({marks}) RETURNING {_MESSAGE_COLUMNS}"
    )
    rows = to.run(marked(to, sql), [stamp(to.dialect, at), *task_ids])
    return [_unsent(row) for row in sorted(rows)]


def _unsent(row: tuple[Any, ...]) -> Unsent:
    task_id, task_name, queue, priority, attempt = row[:5]
    params, options, eta = _json(row[5]), _json(row[6]), unstamp(row[7])
    return Unsent(task_id, task_name, queue, priority, attempt, params, options, eta, _instant(row[8]))


def sent(to: Direct, *, before: datetime, after_id: str, limit: int) -> list[Sent]:
    """Pending rows in the order of their ids, a page; `before`: which of them should be on the bus by now."""
    sql = (
        "SELECT queue, task_id, enqueued_at IS NOT NULL AND enqueued_at < ? FROM background_tasks"
        " WHERE status = 'pending' AND status <> 'completed' AND task_id > ? ORDER BY task_id LIMIT ?"
    )
    rows = to.run(marked(to, sql), (stamp(to.dialect, before), after_id, limit))
    return [Sent(row[0], row[1], bool(row[2])) for row in rows]


def without_row(to: Direct, task_ids: Sequence[str]) -> list[str]:
    """Those that have no row."""
    if to.dialect == "sqlite":
        marks = ", ".join("(?)" for _ in task_ids)
        known = "SELECT task_id FROM background_tasks WHERE task_id IN (SELECT id FROM v)"
        sql = f"WITH v (id) AS (VALUES {marks}) SELECT id FROM v WHERE id NOT IN ({known})"
        return [row[0] for row in to.run(sql, list(task_ids))]
    sql = (
        "SELECT v.id FROM unnest(%s::text[]) AS v (id)"
        " WHERE NOT EXISTS (SELECT 1 FROM background_tasks AS t WHERE t.task_id = v.id)"
    )
    return [row[0] for row in to.run(sql, [list(task_ids)])]


def orphans(to: Direct, *, alive_since: datetime, limit: int) -> list[Orphan]:
    """Running rows whose worker has stopped, or was last heard of before then."""
    sql = (
        "SELECT t.task_id, t.task_name, t.attempt, t.worker_id FROM background_tasks AS t"
        " LEFT JOIN workers AS w ON w.worker_id = t.worker_id"
        " WHERE t.status = 'running' AND t.status <> 'completed' AND t.worker_id IS NOT NULL"
        " AND (w.worker_id IS NULL OR w.heartbeat_at < ? OR w.stopped_at IS NOT NULL) LIMIT ?"
    )
    return [Orphan(*row) for row in to.run(marked(to, sql), (stamp(to.dialect, alive_since), limit))]


def running_on(to: Direct, worker_id: str, *, before: datetime, limit: int) -> list[Orphan]:
    """Running rows that name this worker, and began before then."""
    sql = (
        "SELECT task_id, task_name, attempt, worker_id FROM background_tasks"
        " WHERE status = 'running' AND status <> 'completed' AND worker_id = ? AND started_at < ? LIMIT ?"
    )
    return [Orphan(*row) for row in to.run(marked(to, sql), (worker_id, stamp(to.dialect, before), limit))]


class Waiting(msgspec.Struct, frozen=True):
    """What a change has to know of a row."""

    status: TaskStatus
    queue: str
    enqueued_at: datetime | None
    is_cancel_requested: bool


def unfinished(to: Direct, task_id: str) -> Waiting | None:
    """A row, in whatever status; None if there is none."""
    sql = "SELECT status, queue, enqueued_at, cancel_requested_at IS NOT NULL FROM background_tasks WHERE task_id = ?"
    found = to.run(marked(to, sql), (task_id,))
    if not found:
        return None
    status, queue, enqueued_at, is_cancel_requested = found[0]
    return Waiting(TaskStatus(status), queue, unstamp(enqueued_at), bool(is_cancel_requested))


def cancel_requested(to: Direct) -> list[tuple[str, str, str, str | None]]:
    """(task id, queue, status, reason) of all unfinished rows that somebody wants cancelled."""
    sql = (
        "SELECT task_id, queue, status, reason FROM background_tasks"
        " WHERE cancel_requested_at IS NOT NULL AND status IN ('pending', 'running') LIMIT 1000"
    )
    return [(row[0], row[1], row[2], row[3]) for row in to.run(sql)]


class Standing(msgspec.Struct, frozen=True):
    """What the table says of a chore. last_run_at: when the last run that succeeded began."""

    held_until: datetime
    last_run_at: datetime | None

    def is_due(self, now: datetime, last_before: datetime) -> bool:
        """Whether `take_chore` would most likely succeed: a look that locks nothing."""
        far = now + CLOCKS_DIFFER_BY
        is_free = not now < self.held_until <= far
        return is_free and (self.last_run_at is None or not last_before < self.last_run_at <= far)


def standings(to: Direct) -> dict[str, Standing]:
    """All chores that were ever done, by name."""
    rows = to.run("SELECT name, held_until, last_run_at FROM chores")
    return {name: Standing(_instant(held_until), unstamp(last_run_at)) for name, held_until, last_run_at in rows}


def is_steady(to: Direct, name: str, now: datetime, span: timedelta) -> bool:
    """Whether a chore has been done without a gap for so long, up to now; also if nobody has ever done it."""
    rows = to.run(marked(to, "SELECT last_run_at, steady_since FROM chores WHERE name = ?"), (name,))
    if not rows:
        return True
    last_run_at, steady_since = (unstamp(value) for value in rows[0])
    return last_run_at is not None and steady_since is not None and steady_since <= now - span <= last_run_at


def findings(to: Direct) -> dict[str, dict[str, int]]:
    """What each chore found in its last run that succeeded, by its name."""
    return {name: _json(found) for name, found in to.run("SELECT name, findings FROM chores")}


CLOCKS_DIFFER_BY: Final = timedelta(minutes=2)
"""A time that lies further in the future comes from a clock that was set back since: it counts as long past."""

_TAKE: Final = (
    "INSERT INTO chores (name, holder, held_until, steady_since, findings) VALUES (?, ?, ?, ?, '{}')"
    " ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, held_until = excluded.held_until,"
    " steady_since = CASE WHEN chores.last_run_at > ? AND chores.steady_since <= excluded.steady_since"
    " THEN chores.steady_since ELSE excluded.steady_since END"
    " WHERE (chores.held_until <= ? OR chores.held_until > ?)"
    " AND (chores.last_run_at IS NULL OR chores.last_run_at <= ? OR chores.last_run_at > ?) RETURNING steady_since"
)


def take_chore(
    to: Direct, name: str, *, holder: str, now: datetime, until: datetime, last_before: datetime, gap_before: datetime
) -> datetime | None:
    """Hold a chore that nobody holds and whose last run began before `last_before`; None if that is not so.

    Returns since when it has been done regularly: without a gap that reaches back to `gap_before`.
    """
    at = stamp(to.dialect, now)
    values = (name, holder, stamp(to.dialect, until), at)
    far = stamp(to.dialect, now + CLOCKS_DIFFER_BY)
    limits = (stamp(to.dialect, gap_before), at, far, stamp(to.dialect, last_before), far)
    taken = to.run(marked(to, _TAKE), [*values, *limits])
    return _instant(taken[0][0]) if taken else None


def record_chore(
    to: Direct, name: str, *, holder: str, began: datetime, took_ms: int, findings: Mapping[str, int]
) -> None:
    """Show what a run found, and let go of the chore."""
    sql = (
        "UPDATE chores SET last_run_at = ?, held_until = ?, took_ms = ?, findings = ?, error = NULL"
        " WHERE name = ? AND holder = ?"
    )
    at = stamp(to.dialect, began)
    to.run(marked(to, sql), (at, at, took_ms, json.dumps(dict(findings)), name, holder))


def record_failed_chore(to: Direct, name: str, *, holder: str, error: str) -> None:
    """Show what a run failed with; it stays held for a while, which is the pause before it is tried again."""
    sql = "UPDATE chores SET error = ? WHERE name = ? AND holder = ?"
    to.run(marked(to, sql), (error, name, holder))


def _instant(value: Any) -> datetime:
    at = unstamp(value)
    assert at is not None
    return at


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value
