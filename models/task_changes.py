"""The SQL of what people do to single rows besides cancelling: change, retry, delete. Compare-and-set, as task_moves.

Must not: decide what may be done, or know the bus; read the clock.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from models import retention, task_moves
from models.direct import Direct, marked, stamp
from models.task import TaskStatus
from models.task_moves import LostDelivery
from models.task_notes import LogLine, write


class Ended(msgspec.Struct, frozen=True):
    """What a retry has to know of a row."""

    task_id: str
    status: TaskStatus
    queue: str
    attempt: int
    reason: str | None
    idempotency_key: str | None


_COLUMNS: Final = "task_id, status, queue, attempt, reason, idempotency_key"
_CHANGE: Final = (
    "UPDATE background_tasks SET {what}, enqueued_at = NULL, attempt = CASE WHEN attempt < ? THEN ? ELSE attempt END"
    " WHERE task_id = ? AND status = 'pending' AND cancel_requested_at IS NULL"
)
_TAKE_KEY_AGAIN: Final = (
    "UPDATE idempotency_keys SET task_id = ?, held_until = NULL WHERE key = ? AND task_id <> ?"
    " AND (held_until IS NULL OR held_until <= ?) AND NOT EXISTS (SELECT 1 FROM background_tasks AS t"
    " WHERE t.task_id = idempotency_keys.task_id AND t.status IN ('pending', 'running'))"
)


def ended(to: Direct, task_ids: Sequence[str]) -> dict[str, Ended]:
    """These rows, in whatever status; those without a row are left out."""
    marks = ", ".join("?" * len(task_ids))
    sql = f"SELECT {_COLUMNS} FROM background_tasks WHERE task_id IN ({marks})"
    rows = to.run(marked(to, sql), list(task_ids)) if task_ids else []
    return {row[0]: Ended(row[0], TaskStatus(row[1]), *row[2:]) for row in rows}


def retry(to: Direct, task: Ended, *, by: str, now: datetime) -> bool:
    """failed|cancelled → pending, for the relay to send; a line in the task's log says so. Run it in a transaction.

    Returns:
        False: it has another status by now, or another task has its idempotency key; nothing was written.
    """
    if task.idempotency_key is not None and not _has_key(to, task, now):
        return False
    if not task_moves.reopen(to, task.task_id):
        return False
    said = f"retried by {by}; it was {task.status}" + (f": {task.reason}" if task.reason else "")
    write(to, [LogLine(task.task_id, task.attempt, "info", said, now)])
    return True


def _has_key(to: Direct, task: Ended, now: datetime) -> bool:
    found = to.run(marked(to, "SELECT task_id FROM idempotency_keys WHERE key = ?"), (task.idempotency_key,))
    if not found:
        insert = "INSERT INTO idempotency_keys (key, task_id) VALUES (?, ?) ON CONFLICT (key) DO NOTHING"
        return to.run_counted(marked(to, insert), (task.idempotency_key, task.task_id)) == 1
    if found[0][0] == task.task_id:
        return True
    values = (task.task_id, task.idempotency_key, task.task_id, stamp(to.dialect, now))
    return to.run_counted(marked(to, _TAKE_KEY_AGAIN), values) == 1


def change(to: Direct, task_id: str, changes: dict[str, Any], *, lost: LostDelivery | None, now: datetime) -> bool:
    """pending → pending with another `priority` or `eta` (None: at once), for the relay to send anew. Only for who has
    taken its message off the bus. False if it is not pending, or is to be cancelled.

    Args:
        lost: its last delivery, if a worker vanished with that.
    """
    number = 0 if lost is None else lost.number
    values = [stamp(to.dialect, one) if isinstance(one, datetime) else one for one in changes.values()]
    sql = _CHANGE.format(what=", ".join(f"{name} = ?" for name in changes if name in ("priority", "eta")))
    with to.atomic():
        is_changed = to.run_counted(marked(to, sql), (*values, number, number, task_id)) == 1
        if is_changed and lost is not None:
            task_moves.note_lost_delivery(to, task_id, lost.number, lost.worker_id, now)
    return is_changed


def delete_ended(to: Direct, task_ids: Sequence[str], now: datetime) -> int:
    """Ended rows → gone, with their attempts, log lines and keys; not while a key is held (`unique_for`). How many."""
    return retention.delete(to, list(task_ids), retention.LATEST, now)
