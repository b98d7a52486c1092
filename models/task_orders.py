"""The moves that no worker makes: a task is cancelled, refused because it can never start, or tried again by hand.

Must not: be called but through models.task_moves, which says what all moves have in common.
"""

from datetime import datetime
from typing import Final

from models import totals
from models.direct import Direct, marked, stamp
from models.task_end import ERROR_MAX_CHARS, REASON_MAX_CHARS
from models.task_loss import LostDelivery, note_lost_delivery
from models.text import clean_text

_CANCEL: Final = (
    "UPDATE background_tasks SET status = 'cancelled', reason = ?, completed_at = ?, "
    "cancel_requested_at = coalesce(cancel_requested_at, ?), eta = NULL, "
    "worker_id = CASE WHEN attempt < ? THEN ? ELSE worker_id END, "
    "attempt = CASE WHEN attempt < ? THEN ? ELSE attempt END WHERE task_id = ? AND status = 'pending'"
)
_REQUEST_CANCEL: Final = (
    "UPDATE background_tasks SET cancel_requested_at = coalesce(cancel_requested_at, ?), reason = coalesce(reason, ?) "
    "WHERE task_id = ? AND status IN ('pending', 'running')"
)
_REFUSE: Final = (
    "UPDATE background_tasks SET status = 'failed', reason = ?, completed_at = ?, error_type = ?, error_message = ?, "
    "eta = NULL WHERE task_id = ? AND status = 'pending'"
)
_REOPEN: Final = (
    "UPDATE background_tasks SET status = 'pending', reason = NULL, completed_at = NULL, result = NULL, eta = NULL, "
    "cancel_requested_at = NULL, retry_count = 0, enqueued_at = NULL, progress = NULL, progress_message = NULL "
    "WHERE task_id = ? AND status IN ('failed', 'cancelled')"
)


def cancel(to: Direct, task_id: str, *, reason: str, now: datetime, lost: LostDelivery | None = None) -> bool:
    """pending → cancelled. Only for who has made sure that no worker has its message. False if it is not pending.

    Args:
        lost: its last delivery, if a worker vanished with that: it may have run, and is on record as lost.
    """
    at = stamp(to.dialect, now)
    number, worker_id = (0, None) if lost is None else (lost.number, lost.worker_id)
    values = (clean_text(reason, REASON_MAX_CHARS), at, at, number, worker_id, number, number, task_id)
    if lost is None:
        return totals.counted(to, _CANCEL, values, "cancelled")
    with to.atomic():
        is_moved = totals.counted(to, _CANCEL, values, "cancelled")
        if is_moved:
            note_lost_delivery(to, task_id, lost.number, lost.worker_id, now)
    return is_moved


def request_cancel(to: Direct, task_id: str, *, reason: str, now: datetime) -> bool:
    """Ask for an end: the worker that has it, or the next that gets it, obeys. False if it has ended."""
    at = stamp(to.dialect, now)
    return to.run_counted(marked(to, _REQUEST_CANCEL), (at, clean_text(reason, REASON_MAX_CHARS), task_id)) == 1


def refuse(to: Direct, task_id: str, *, reason: str, error_type: str, error_message: str, now: datetime) -> bool:
    """pending → failed: it can never start. False if it is not pending."""
    values = (
        *(clean_text(reason, REASON_MAX_CHARS), stamp(to.dialect, now)),
        *(clean_text(error_type, 200), clean_text(error_message, ERROR_MAX_CHARS), task_id),
    )
    return totals.counted(to, _REFUSE, values, "failed")


def reopen(to: Direct, task_id: str) -> bool:
    """failed|cancelled → pending, attempts numbered on; the relay sends it. False if it has another status."""
    return totals.counted(to, _REOPEN, (task_id,), "reopened")
