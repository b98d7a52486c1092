"""Retention: what has ended long enough ago goes, in small batches, while everybody else goes on writing.

    an ended task's result      after `result_days`: null, `result_pruned_at` says when; a result of null stays as it is
    an ended task               after `task_days`, with its attempts, log lines, idempotency key and record of the mails
                                that it sent; not while its key is still held (`unique_for`)
    a group                     after `task_days`, once no row of a member is left (or if there never was one)
    a worker process's row      after `task_days` without a heartbeat
    a run of a schedule         `task_days` after it was due
    a sample of this machine's  after `task_days`
    or a provider's health
    an alert                    `task_days` after it was over
    a timetable's fingerprint   `task_days` after the last process that had it
    an entry of the audit log   after `audit_days` (of what is gone sooner: models.retention_records)

An id is a UUIDv7, so a row's age is in its key: no index is needed to find old rows, and those that every task would
have to pay for are saved. A walk goes through the ids in their order. It goes on from where it was up to the ids of
`SLACK` before the limit (nearly every task ends within that of its sending); once a day it begins anew, for tasks that
ended long after they were sent, and then also looks at ids that lie in the future: those that are no UUIDv7.

A page of rows is read without a lock; what may go of it goes by id, in transactions of about `BATCH_S`, each of which
asks again whether the row has ended (it may have been reopened since). Between two, the walk rests for as long as the
last one took, so that half the time is for others. After `TURN_S` it gives up; the count `more` asks for the next turn.

Where a walk stands is only in memory. A crash, or another process that takes over, begins anew: reading what was
pruned before is quick, and nothing is done twice. Ids of groups say nothing of their age: each turn looks at the next
page of all groups.

SQLite: its free pages are used for new rows and the file keeps its largest size. `VACUUM` would give space back by
locking everybody out for as long as copying takes, and the incremental one moves pages that are wanted again soon.

Must not: read the clock; touch what has not ended.
"""

import json
import sqlite3
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from models import database, direct
from models.alert_moves import EACH_PROVIDER
from models.direct import Direct, marked, stamp

PAGE_ROWS: Final = 2_000
"""Rows looked at by one read."""
BATCH_S: Final = 0.015
"""What a writing transaction is to take; the size of batches follows it."""
MIN_BATCH_ROWS: Final = 20
MAX_BATCH_ROWS: Final = 1_000
TURN_S: Final = 1.0
"""The chore's thread has other things to do as well."""
SLACK: Final = timedelta(hours=1)
LATEST: Final = datetime(9999, 1, 1, tzinfo=UTC)
"""Ends whatever has ended."""
ANEW_EVERY: Final = timedelta(days=1)
WAL_MAX_BYTES: Final = 64 * 1024 * 1024
"""A SQLite write-ahead log above this is cut off. SQLite reuses it but does not shrink it."""

_ENDED: Final = "status IN ('completed', 'failed', 'cancelled') AND completed_at < ?"
_HAS_RESULT: Final = "result IS NOT NULL AND CAST(result AS text) <> 'null'"
_KEY_IS_FREE: Final = (
    "NOT EXISTS (SELECT 1 FROM idempotency_keys AS k WHERE k.task_id = background_tasks.task_id AND k.held_until > ?)"
)
_PAGE: Final = "SELECT task_id, {wanted} FROM background_tasks WHERE task_id > ? {below} ORDER BY task_id LIMIT ?"
_DELETE_SQLITE: Final = (
    f"DELETE FROM background_tasks WHERE task_id IN (SELECT value FROM json_each(?)) AND {_ENDED} AND {_KEY_IS_FREE}"
    " RETURNING task_id"
)
_DELETE_POSTGRES: Final = (
    f"WITH gone AS (DELETE FROM background_tasks WHERE task_id = ANY(%s) AND {_ENDED} AND {_KEY_IS_FREE}"
    " RETURNING task_id)"
    ", a AS (DELETE FROM task_attempts AS t USING gone WHERE t.task_id = gone.task_id)"
    ", l AS (DELETE FROM task_logs AS t USING gone WHERE t.task_id = gone.task_id)"
    ", k AS (DELETE FROM idempotency_keys AS t USING gone WHERE t.task_id = gone.task_id)"
    ", m AS (DELETE FROM email_deliveries AS t USING gone WHERE t.task_id = gone.task_id)"
    " SELECT count(*) FROM gone"
)
_EMPTY_SQLITE: Final = (
    "UPDATE background_tasks SET result = NULL, result_pruned_at = ?"
    f" WHERE task_id IN (SELECT value FROM json_each(?)) AND {_ENDED}"
)
_EMPTY_POSTGRES: Final = (
    f"UPDATE background_tasks SET result = NULL, result_pruned_at = ? WHERE task_id = ANY(?) AND {_ENDED}"
)
_MEMBERLESS: Final = (
    "created_at < ? AND NOT EXISTS (SELECT 1 FROM background_tasks AS t WHERE t.group_id = task_groups.group_id)"
)
_GROUPS: Final = f"SELECT group_id, {_MEMBERLESS} FROM task_groups WHERE group_id > ? ORDER BY group_id LIMIT ?"
_WORKERS: Final = "DELETE FROM workers WHERE heartbeat_at < ?"
_AUDIT: Final = "DELETE FROM audit_log WHERE id IN (SELECT id FROM audit_log WHERE at < ? ORDER BY at LIMIT ?)"
_DATED: Final = {
    "runs": "DELETE FROM schedule_runs WHERE (schedule_id, due_at) IN"
    " (SELECT schedule_id, due_at FROM schedule_runs WHERE due_at < ? ORDER BY due_at LIMIT ?)",
    "health_samples": "DELETE FROM health_samples WHERE task_id IN"
    " (SELECT task_id FROM health_samples WHERE sampled_at < ? ORDER BY sampled_at LIMIT ?)",
    # why provider by provider: the key begins with it, and each one's samples lie there in the order of their times.
    "provider_samples": "DELETE FROM provider_samples WHERE (provider, sampled_at) IN"
    f" ({EACH_PROVIDER}"
    " SELECT s.provider, s.sampled_at FROM p JOIN provider_samples AS s"
    " ON s.provider = p.provider AND s.sampled_at < ? LIMIT ?)",
    "alerts": "DELETE FROM alerts WHERE alert_id IN"
    " (SELECT alert_id FROM alerts WHERE closed_at < ? ORDER BY alert_id LIMIT ?)",
    "timetables": "DELETE FROM timetables WHERE revision IN"
    " (SELECT revision FROM timetables WHERE asserted_at < ? ORDER BY revision LIMIT ?)",
}
"""What goes `task_days` after a time of its own, at most so many a turn. Alerts and timetables are few: they are read
as a whole."""


class Retention:
    """Prunes a turn at a time. For one thread; other processes may do the same at once.

    Args:
        result_days: how long results are kept, from the task's end.
        task_days: how long tasks are kept, from their end; results never longer than that.
        audit_days: how long entries of the audit log are kept.
    """

    def __init__(self, *, result_days: int, task_days: int, audit_days: int = 365) -> None:
        self._audit_for = timedelta(days=audit_days)
        self._task_for = timedelta(days=task_days)
        self._tasks = _Walk(timedelta(days=task_days), _ENDED, delete)
        self._after_group_id = ""
        self._results = _Walk(timedelta(days=min(result_days, task_days)), f"{_ENDED} AND {_HAS_RESULT}", _empty)

    def turn(self, now: datetime, *, turn_s: float = TURN_S) -> dict[str, int]:
        """Prune for up to `turn_s`, half for each kind.

        Args:
            now: aware UTC.

        Returns:
            tasks, results, groups, workers, audit and the names of _DATED: how many; more: 1 if it gave up before it
            was done.

        Raises:
            DatabaseError: the database is away; what was pruned until then is.
        """
        found = {"workers": _forget_workers(now - self._task_for)}
        began_s = time.monotonic()
        found["tasks"], is_done = self._tasks.go_on(now, until_s=began_s + turn_s / 2)
        found["results"], are_done = self._results.go_on(now, until_s=began_s + turn_s)
        found["groups"] = self._forget_groups(now - self._task_for)
        dated = {name: _forget(sql, now - self._task_for) for name, sql in _DATED.items()}
        dated["audit"] = _forget(_AUDIT, now - self._audit_for)
        cut_wal()
        return found | dated | {"more": int(not (is_done and are_done) or MAX_BATCH_ROWS in dated.values())}

    def _forget_groups(self, begun_before: datetime) -> int:
        with direct.reading() as to:
            before = stamp(to.dialect, begun_before)
            page = to.run(marked(to, _GROUPS), (before, self._after_group_id, PAGE_ROWS))
        self._after_group_id = page[-1][0] if len(page) == PAGE_ROWS else ""
        memberless = [group_id for group_id, is_memberless in page if is_memberless]
        if not memberless:
            return 0
        marks = ", ".join("?" * len(memberless))
        with direct.transaction() as to:
            sql = f"DELETE FROM task_groups WHERE group_id IN ({marks}) AND {_MEMBERLESS}"
            return to.run_counted(marked(to, sql), (*memberless, before))


class _Walk:
    """A way through the ids in their order, for one kind of pruning.

    Args:
        keep_for: how long after its end a row is left alone.
        wanted: condition of what may go; its question mark stands for `keep_for` ago.
        act: does it to the rows with these ids; (connection, ids, ended before, now) → how many.
    """

    def __init__(
        self, keep_for: timedelta, wanted: str, act: Callable[[Direct, list[str], datetime, datetime], int]
    ) -> None:
        self._keep_for = keep_for
        self._wanted = wanted
        self._act = act
        self._began_at: datetime | None = None
        self._after_id = ""
        self._strange_after_id: str | None = None
        """Where it stands among the ids of the future; None once they have been looked at."""
        self._batch_rows = MIN_BATCH_ROWS

    def go_on(self, now: datetime, *, until_s: float) -> tuple[int, bool]:
        """Prune until then; returns how many went and whether the end was reached."""
        if self._began_at is None or now - self._began_at >= ANEW_EVERY:
            self._began_at, self._after_id = now, ""
            self._strange_after_id = id_at(now + ANEW_EVERY)
        below_id = id_at(now - self._keep_for - SLACK)
        total, self._after_id, is_done = self._through(self._after_id, below_id, now, until_s)
        if is_done and self._strange_after_id is not None:
            went, reached_id, is_done = self._through(self._strange_after_id, None, now, until_s)
            total += went
            self._strange_after_id = None if is_done else reached_id
        return total, is_done

    def _through(self, after_id: str, below_id: str | None, now: datetime, until_s: float) -> tuple[int, str, bool]:
        """Prune the ids between; returns how many went, the last that was looked at, and whether it is the end."""
        total = 0
        while time.monotonic() < until_s:
            with direct.reading() as to:
                rows = self._page(to, after_id, below_id, now)
            may_go = [task_id for task_id, is_wanted in rows if is_wanted]
            while may_go:
                if time.monotonic() >= until_s:
                    return total, after_id, False  # why: the page is read again; what went of it is not there.
                batch, may_go = may_go[: self._batch_rows], may_go[self._batch_rows :]
                total += self._write(batch, now)
            if rows:
                after_id = rows[-1][0]
            if len(rows) < PAGE_ROWS:
                return total, after_id, True
        return total, after_id, False

    def _page(self, to: Direct, after_id: str, below_id: str | None, now: datetime) -> list[tuple[Any, ...]]:
        below = "" if below_id is None else "AND task_id < ?"
        sql = _PAGE.format(wanted=self._wanted, below=below)
        ids = [after_id] if below_id is None else [after_id, below_id]
        return to.run(marked(to, sql), [stamp(to.dialect, now - self._keep_for), *ids, PAGE_ROWS])

    def _write(self, task_ids: list[str], now: datetime) -> int:
        with direct.transaction() as to:
            began_s = time.monotonic()  # why: from the lock on, not the wait for it.
            went = self._act(to, task_ids, now - self._keep_for, now)
        took_s = time.monotonic() - began_s
        fitting = round(len(task_ids) * BATCH_S / max(took_s, 0.001))
        self._batch_rows = max(MIN_BATCH_ROWS, min(fitting, 2 * self._batch_rows, MAX_BATCH_ROWS))
        time.sleep(min(took_s, 4 * BATCH_S))
        return went


def id_at(at: datetime) -> str:
    """The smallest UUIDv7 of that moment: ids of before are less, later ones greater."""
    unix_ms = max(0, int(at.timestamp() * 1000))
    return str(uuid.UUID(int=unix_ms << 80))


def _forget(sql: str, before: datetime) -> int:
    with direct.transaction() as to:
        return to.run_counted(marked(to, sql), (stamp(to.dialect, before), MAX_BATCH_ROWS))


def cut_wal(*, max_bytes: int = WAL_MAX_BYTES) -> bool:
    """Cut off SQLite's write-ahead log if it is larger than that; returns whether it was. Waits for nobody.

    Most of it is copied into the database first without holding writers up; the cut then has little left to do. A
    reader that is at it makes the cut fail, and it is tried at the next turn.
    """
    path = database.sqlite_path()
    if path is None:
        return False
    wal = path.with_name(path.name + "-wal")
    if not wal.exists() or wal.stat().st_size <= max_bytes:
        return False
    connection = sqlite3.connect(path, timeout=BATCH_S, isolation_level=None)
    try:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        return bool(connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0)
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()


def delete(to: Direct, task_ids: list[str], ended_before: datetime, now: datetime) -> int:
    """Ended tasks → gone, with all that hangs off them; not while a key is held at `now`. Returns how many."""
    limits = (stamp(to.dialect, ended_before), stamp(to.dialect, now))
    if to.dialect != "sqlite":
        return int(to.run(marked(to, _DELETE_POSTGRES), (task_ids, *limits))[0][0])
    gone = json.dumps([row[0] for row in to.run(_DELETE_SQLITE, (json.dumps(task_ids), *limits))])
    for table in ("task_attempts", "task_logs", "idempotency_keys", "email_deliveries"):
        to.run(f"DELETE FROM {table} WHERE task_id IN (SELECT value FROM json_each(?))", (gone,))
    return len(json.loads(gone))


def _empty(to: Direct, task_ids: list[str], ended_before: datetime, now: datetime) -> int:
    at, limit = stamp(to.dialect, now), stamp(to.dialect, ended_before)
    if to.dialect != "sqlite":
        return to.run_counted(marked(to, _EMPTY_POSTGRES), (at, task_ids, limit))
    return to.run_counted(_EMPTY_SQLITE, (at, json.dumps(task_ids), limit))


def _forget_workers(silent_since: datetime) -> int:
    with direct.transaction() as to:
        return to.run_counted(marked(to, _WORKERS), (stamp(to.dialect, silent_since),))
