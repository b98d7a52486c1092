"""The move running → pending|failed of a task whose worker is dead, and what is on record of such attempts.

Must not: be called but through models.task_moves, which says what all moves have in common.
"""

from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter
from typing import Final

import msgspec

from models import totals
from models.direct import Direct, marked, stamp
from models.task import TaskStatus
from models.task_end import ATTEMPT_COLUMNS
from models.task_start import Attempt

UNKNOWN_WORKER: Final = "unknown"
"""Who had an attempt of which it is only known that there was one."""
MOST_UNKNOWN: Final = 100


class Loss(msgspec.Struct, frozen=True):
    """A running attempt whose worker is gone. failed_because: None lets it run again."""

    task_id: str
    attempt: int
    worker_id: str
    failed_because: str | None = None


class LostDelivery(msgspec.Struct, frozen=True):
    """An attempt that the bus had handed to a worker which vanished with it, whether the row heard of it or not."""

    number: int
    worker_id: str


_LOSE: Final = (
    "UPDATE background_tasks SET status = ?, reason = coalesce(?, reason), completed_at = ?, error_type = ?, "
    "error_message = ?, eta = NULL, enqueued_at = NULL, progress = NULL, progress_message = NULL "
    "WHERE task_id = ? AND status = 'running' AND attempt = ? AND worker_id = ?"
)
_LOSE_ATTEMPT: Final = (
    f"INSERT INTO task_attempts ({ATTEMPT_COLUMNS}) VALUES (?, ?, ?, NULL, ?, 'lost', ?, ?, NULL) "
    "ON CONFLICT (task_id, number) DO UPDATE SET finished_at = excluded.finished_at, outcome = excluded.outcome, "
    "error_type = excluded.error_type, error_message = excluded.error_message WHERE task_attempts.outcome IS NULL"
)


def lose(to: Direct, losses: Sequence[Loss], now: datetime) -> set[Attempt]:
    """running → pending, for the relay to send again if the bus lost it too; or → failed. Returns those moved."""
    moved: set[Attempt] = set()
    at = stamp(to.dialect, now)
    for loss in sorted(losses, key=attrgetter("task_id")):  # why: in the order in which outcomes lock rows.
        failed = loss.failed_because is not None
        said = _lost_words(loss.worker_id)
        with to.atomic():
            values = (
                *(TaskStatus.FAILED.value if failed else TaskStatus.PENDING.value, loss.failed_because),
                *(at if failed else None, "WorkerLost" if failed else None, said if failed else None),
                *(loss.task_id, loss.attempt, loss.worker_id),
            )
            if totals.counted(to, _LOSE, values, *(("lost", "failed") if failed else ("lost",))):
                to.run(marked(to, _LOSE_ATTEMPT), (loss.task_id, loss.attempt, loss.worker_id, at, "WorkerLost", said))
                moved.add((loss.task_id, loss.attempt))
    return moved


def note_lost_delivery(to: Direct, task_id: str, number: int, worker_id: str, now: datetime) -> None:
    """Record an attempt that the bus had handed to a worker which vanished before the row heard of it.

    The bus remembers the last such worker only. Where several vanished in a row, or one that was about to note those
    before it, the numbers that are missing are theirs: they are recorded too, of UNKNOWN_WORKER. What is on record
    stays as it is.
    """
    first = max(1, number - MOST_UNKNOWN)
    sql = "SELECT number FROM task_attempts WHERE task_id = ? AND number BETWEEN ? AND ?"
    known = {row[0] for row in to.run(marked(to, sql), (task_id, first, number))}
    for missing in range(first, number + 1):
        if missing not in known:
            _note(to, task_id, missing, worker_id if missing == number else UNKNOWN_WORKER, now)


def _note(to: Direct, task_id: str, number: int, worker_id: str, now: datetime) -> None:
    values = (task_id, number, worker_id, stamp(to.dialect, now), "WorkerLost", _lost_words(worker_id))
    count = "INSERT INTO task_totals (task_name, queue, lost) SELECT task_name, queue, 1 FROM background_tasks AS t"
    if to.dialect != "sqlite":
        noted = f"WITH noted AS ({_LOSE_ATTEMPT} RETURNING task_id)"
        to.run_counted(marked(to, f"{noted} {count} JOIN noted USING (task_id)"), values)
    elif to.run_counted(_LOSE_ATTEMPT, values) == 1:
        to.run(f"{count} WHERE task_id = ?", (task_id,))


def _lost_words(worker_id: str) -> str:
    return f"worker {worker_id} died or was cut off while it had this attempt"


def lost_attempts(to: Direct, task_id: str) -> int:
    """How many attempts of a task were lost with their worker."""
    sql = "SELECT count(*) FROM task_attempts WHERE task_id = ? AND outcome = 'lost'"
    return int(to.run(marked(to, sql), (task_id,))[0][0])


def crashed_attempts(to: Direct, task_id: str) -> int:
    """How many attempts of a task took their own process down."""
    sql = "SELECT count(*) FROM task_attempts WHERE task_id = ? AND outcome = 'crashed'"
    return int(to.run(marked(to, sql), (task_id,))[0][0])
