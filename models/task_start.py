"""The move pending → running, and where a row stands, for whoever may not make it.

Must not: be called but through models.task_moves, which says what all moves have in common.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from models.batch import columns_of, numbered, of_v, unnested
from models.direct import Direct, run_for_ids, stamp, unstamp
from models.task import TaskStatus

Attempt = tuple[str, int]
"""Task id and number."""


class Start(msgspec.Struct, frozen=True):
    """An attempt begins, or began.

    sent_attempt: the last attempt that had been made when the message was sent; a message that is older than the row
        must wait for the row's eta.
    checked: the function does not run yet; the row may say no. False: it runs already, the row has only to follow.
    """

    task_id: str
    attempt: int
    worker_id: str
    started_at: datetime
    sent_attempt: int = 0
    checked: bool = True


class Started(msgspec.Struct, frozen=True):
    """What the row says that a started attempt needs."""

    retry_count: int
    correlation_id: str | None


class Standing(msgspec.Struct, frozen=True):
    """Where a row stands, for whoever was refused."""

    status: TaskStatus
    attempt: int
    worker_id: str | None
    eta: datetime | None
    is_cancel_requested: bool
    reason: str | None
    retry_count: int
    correlation_id: str | None
    queue: str


_START_SET: Final = (
    "status = 'running', attempt = {attempt}, worker_id = {worker_id}, started_at = {started_at}, eta = NULL, "
    "progress = CASE WHEN NOT {checked} THEN t.progress END, "
    "progress_message = CASE WHEN NOT {checked} THEN t.progress_message END"
)
_START_IF: Final = (
    "t.status = 'pending' AND t.attempt < {attempt} AND (NOT {checked} OR (t.cancel_requested_at IS NULL"
    " AND (t.attempt <= {sent_attempt} OR t.eta IS NULL OR t.eta <= {started_at})))"
)
_START_FIELDS: Final = {
    "task_id": "text", "attempt": "int", "worker_id": "text", "started_at": "timestamptz", "sent_attempt": "int",
    "checked": "boolean",
}  # fmt: skip


_START_SQLITE: Final = (
    f"UPDATE background_tasks AS t SET {_START_SET} WHERE t.task_id = ?1 AND {_START_IF} "
    "RETURNING retry_count, correlation_id"
).format(**numbered(_START_FIELDS))
_START_ATTEMPT_SQLITE: Final = (
    "INSERT INTO task_attempts (task_id, number, worker_id, started_at) VALUES (?1, ?2, ?3, ?4) "
    "ON CONFLICT (task_id, number) DO NOTHING"
)
_START_POSTGRES: Final = (
    unnested(_START_FIELDS)
    + (
        f", u AS (UPDATE background_tasks AS t SET {_START_SET} FROM v WHERE t.task_id = v.task_id AND {_START_IF} "
        "RETURNING t.task_id, v.attempt, t.retry_count, t.correlation_id, v.worker_id, v.started_at)"
    ).format(**of_v(_START_FIELDS))
    + ", i AS (INSERT INTO task_attempts (task_id, number, worker_id, started_at)"
    " SELECT task_id, attempt, worker_id, started_at FROM u ON CONFLICT (task_id, number) DO NOTHING)"
    " SELECT task_id, attempt, retry_count, correlation_id FROM u"
)


def start(to: Direct, starts: Sequence[Start]) -> dict[Attempt, Started]:
    """pending → running. Returns those that were granted; ask `standing` about the others."""
    if not starts:
        return {}
    rows = [
        [s.task_id, s.attempt, s.worker_id, stamp(to.dialect, s.started_at), s.sent_attempt, s.checked] for s in starts
    ]
    if to.dialect != "sqlite":
        return {(row[0], row[1]): Started(row[2], row[3]) for row in to.run(_START_POSTGRES, columns_of(rows))}
    granted: dict[Attempt, Started] = {}
    for row in rows:
        for found in to.run(_START_SQLITE, row):
            granted[row[0], row[1]] = Started(*found)
            to.run(_START_ATTEMPT_SQLITE, row[:4])
    return granted


def standing(to: Direct, task_ids: Sequence[str]) -> dict[str, Standing]:
    """Where these rows stand; those without a row are left out."""
    rows = run_for_ids(
        to,
        "SELECT task_id, status, attempt, worker_id, eta, cancel_requested_at IS NOT NULL, reason, retry_count,"
        " correlation_id, queue FROM background_tasks WHERE task_id",
        task_ids,
    )
    return {
        row[0]: Standing(TaskStatus(row[1]), row[2], row[3], unstamp(row[4]), bool(row[5]), *row[6:]) for row in rows
    }


def untouched(to: Direct, task_ids: Sequence[str]) -> set[str]:
    """Those that no attempt has begun of, and nobody wants cancelled."""
    sql = (
        "SELECT task_id FROM background_tasks WHERE status = 'pending' AND attempt = 0 AND cancel_requested_at IS NULL"
        " AND task_id"
    )
    return {row[0] for row in run_for_ids(to, sql, task_ids)}
