"""Maintenance: what has had its time goes, and what is commonly read is put into the cache.

Idempotency key: none needed. What has gone is not there for a second run, which finds less to do; a value that is put
into the cache again is the one of now. What a crash leaves is a beginning, and the rest goes at the next run.

The chore `prune` (workers.ledger.upkeep) forgets tasks and results all the time, in whichever process lives; what is
left to `cleanup_old_data` of those is little, unless retention was shortened. Both may be at it at once, as may be two
clean-ups: each deletes what is there, in small transactions.

Of a document the file goes first and then the row, in one transaction that is committed last: a crash between leaves a
row without a file, which the next run deletes, and which whoever wants the document meanwhile makes good.
"""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

from annotated_types import Ge, Le, Len

from models import database, retention_records
from models.retention import Retention
from models.task import TaskType
from workers import callboard
from workers.errors import PermanentError, TransientError
from workers.middleware.exclusive import exclusive
from workers.registry import actor
from workers.runner.current import current_task

TIME_LIMIT_S: Final = 300.0
WORK_S: Final = 240.0
"""So long a run works; what is left then is the next one's."""
WARM_LIMIT_S: Final = 120.0
WARM_RETRIES: Final = 1
PAGE_ROWS: Final = 500
PART_FOR: Final = timedelta(days=1)
"""So long a half-written file may be somebody's who writes it still."""

Key = Annotated[str, Len(1, 100)]


class _Until:
    """How long this run may go on. Counts what went, and reports it."""

    def __init__(self) -> None:
        self._ends_at = datetime.now(UTC) + timedelta(seconds=WORK_S)
        self._task = current_task()
        self.is_over = False
        self.counts: dict[str, int] = {}

    def go_on(self, stage: int, stages: int) -> bool:
        """Report how far it is; False if the time is up. Raises Cancelled, TimeLimitExceeded."""
        self._task.checkpoint()
        self._task.progress(stage, stages, self._said())
        self.is_over = self.is_over or datetime.now(UTC) >= self._ends_at
        return not self.is_over

    def drain(self, name: str, went: Iterator[int], stage: int = 0, stages: int = 1) -> None:
        """Let a kind go until there are no more of it, or the time is up."""
        self.counts.setdefault(name, 0)
        while self.go_on(stage, stages):
            count = next(went, None)
            if count is None:
                return
            self.counts[name] += count

    def told(self) -> dict[str, Any]:
        """What went, of each kind; `is_done`: nothing is left that could go now."""
        self._task.progress(1, 1, self._said())
        return {**self.counts, "is_done": not self.is_over}

    def _said(self) -> str | None:
        """What went so far, for people, and what was refused and stays."""
        went = [f"{count:,} {name.replace('_', ' ')}" for name, count in self.counts.items() if name != "refused"]
        refused = f"; {self.counts['refused']:,} refused" if self.counts.get("refused") else ""
        return f"{', '.join(went)} went{refused}" if went else None


# --- data ------------------------------------------------------------------------------------------------------------


def forget_old_data(retention_days: int | None) -> dict[str, Any]:
    """The four stages; returns how many of each went, and whether it is done."""
    settings, until = callboard.settings, _Until()
    task_days = retention_days or settings.task_retention_days
    until.drain("schedules", retention_records.one_off_schedules(datetime.now(UTC)), 0, 4)
    until.counts |= {"tasks": 0, "results": 0}
    retention = Retention(
        result_days=min(settings.result_retention_days, task_days),
        task_days=task_days,
        audit_days=settings.audit_retention_days,
    )
    while until.go_on(1, 4):
        found = retention.turn(datetime.now(UTC))
        for name in ("tasks", "results"):
            until.counts[name] += found[name]
        if not found["more"]:
            break
    written_before = datetime.now(UTC) - timedelta(days=task_days)
    until.drain("change_records", retention_records.orphaned_changes(written_before), 3, 4)
    return until.told()


@actor(
    task_type=TaskType.CLEANUP,
    aliases=(
        "cleanup_old_data",
        "cleanup_expired_data",
        "cleanup_expired_data_job",
        "app.tasks.cleanup_tasks.cleanup_old_data",
        "app.services.background_jobs.cleanup_old_data",
    ),
    time_limit_s=TIME_LIMIT_S,
)
def cleanup_old_data(retention: Annotated[int, Ge(1), Le(3_650)] | None = None) -> dict[str, Any]:
    """Forget one-off schedules that are over, old tasks, old results, and change records of what is gone.

    Only what has ended goes, in small transactions with rests between. A run works for four minutes at most; what is
    left goes at the next.

    Args:
        retention: days for which ended tasks are kept, 1–3650; by default CALLBOARD_TASK_RETENTION_DAYS.
    """
    return forget_old_data(retention)


@actor(task_type=TaskType.CLEANUP, aliases=("cleanup_old_logs",), time_limit_s=TIME_LIMIT_S)
def cleanup_old_logs() -> dict[str, Any]:
    """Forget log lines of ended tasks, and health samples, that are older than CALLBOARD_LOG_RETENTION_DAYS."""
    before = datetime.now(UTC) - timedelta(days=callboard.settings.log_retention_days)
    until = _Until()
    until.drain("log_lines", retention_records.log_lines(before), 0, 2)
    until.drain("samples", retention_records.health_samples(before), 1, 2)
    return until.told()


@actor(task_type=TaskType.CLEANUP, aliases=("cleanup_expired_sessions",), time_limit_s=TIME_LIMIT_S)
def cleanup_expired_sessions() -> dict[str, Any]:
    """Forget user sessions that have expired."""
    until = _Until()
    until.drain("sessions", retention_records.user_sessions(datetime.now(UTC)))
    return until.told()


# --- documents -------------------------------------------------------------------------------------------------------


def forget_documents(directory: Path, made_before: datetime) -> Iterator[tuple[str, int]]:
    """Delete documents that were made before; yields (`documents`, 1), or (`refused`, 1) for one that is left.

    Raises:
        TransientError: the folder is not there, and rows name files in it.
    """
    # why here: a worker loads SQLAlchemy when a task needs it (so below, too).
    from models.document import expired

    after_id = 0
    while True:
        with database.reading() as session:
            ids = expired(session, made_before, after_id=after_id, limit=PAGE_ROWS)
        if not ids:
            return
        for document_id in ids:
            yield ("documents" if _forget_document(directory, document_id, made_before) else "refused"), 1
        after_id = ids[-1]


def _forget_document(directory: Path, document_id: int, made_before: datetime) -> bool:
    from models.document import Document
    from workers.clients.files import opened_folder
    from workers.clients.removal import remove_below

    try:
        with database.writing() as session:
            document = session.get(Document, document_id, with_for_update=True)
            if document is None or document.created_at >= made_before:
                return True
            session.delete(document)
            session.flush()  # why: what the database refuses it refuses before the file is gone.
            with opened_folder(directory) as root:
                remove_below(root, document.path)
    except PermanentError as error:
        current_task().log.warning("document %d: %s", document_id, error)
        return False
    except FileNotFoundError:
        raise TransientError(
            f"the folder {directory} is not there, and documents are to be in it: is it mounted?"
        ) from None
    except OSError as error:
        raise TransientError(f"document {document_id} cannot be removed from {directory} ({error.strerror}): let this "
                             "process write there") from error  # fmt: skip
    return True


def forget_parts(directory: Path, written_before: datetime) -> Iterator[int]:
    """Remove what writers that died have left half written."""
    from workers.clients.files import opened_folder

    if not directory.is_dir():
        return
    with opened_folder(directory) as root, os.scandir(root) as found:
        for entry in found:
            is_part = entry.name.startswith(".") and entry.name.endswith(".part")
            is_old = entry.stat(follow_symlinks=False).st_mtime < written_before.timestamp()
            if is_part and is_old and entry.is_file(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=root)
                yield 1


@actor(task_type=TaskType.CLEANUP, aliases=("cleanup_expired_pdf_tasks",), time_limit_s=TIME_LIMIT_S)
def cleanup_expired_pdfs() -> dict[str, Any]:
    """Delete generated PDFs that are older than CALLBOARD_DOCUMENT_RETENTION_DAYS, file and row together.

    What is no ordinary file below the documents folder stays, with its row, and is counted as refused; the task's log
    says which.
    """
    directory, now = callboard.settings.documents_dir, datetime.now(UTC)
    until = _Until()
    until.counts |= {"documents": 0, "refused": 0}
    went = forget_documents(directory, now - timedelta(days=callboard.settings.document_retention_days))
    while until.go_on(0, 2):
        kind, count = next(went, ("", 0))
        if not count:
            break
        until.counts[kind] += count
    until.drain("parts", forget_parts(directory, now - PART_FOR), 1, 2)
    return until.told()


# --- cache -----------------------------------------------------------------------------------------------------------


def warm(keys: list[str] | None) -> dict[str, Any]:
    """Put values into the cache; see warm_cache."""
    from models import cache_query
    from workers import cache

    task = current_task()
    with database.reading() as session:
        known = {entry.key: entry for entry in cache_query.entries(session)}
    wanted = [key for key, entry in known.items() if entry.is_enabled] if keys is None else list(dict.fromkeys(keys))
    unknown = [key for key in wanted if key not in known]
    if unknown:
        raise PermanentError(f"there is no cache entry {unknown[0]!r:.120}: expected keys of cache_entries, as "
                             f"{', '.join(sorted(known)[:5]) or 'none is there yet'}")  # fmt: skip
    warmed: dict[str, int] = {}
    wrong: list[str] = []
    for number, key in enumerate(wanted, start=1):
        task.checkpoint()
        entry = known[key]
        dataset = cache_query.DATASETS.get(entry.dataset)
        try:
            if dataset is None:
                raise PermanentError(f"cache entry {key}: there is no data set {entry.dataset!r}: expected one of "
                                     f"{', '.join(sorted(cache_query.DATASETS))}")  # fmt: skip
            with database.reading() as session:
                value = dataset(session)
            warmed[key] = cache.put(key, value, ttl_s=entry.ttl_s)
        except PermanentError as error:  # why: one that is wrong keeps no other from being there.
            task.log.error("%s", error)
            wrong.append(str(error))
        task.progress(number, len(wanted), key)
    with database.writing() as session:
        cache_query.note_warmed(session, list(warmed), datetime.now(UTC))
    if wrong:
        raise PermanentError("; ".join(wrong)[:2_000])
    return {"warmed": warmed}


@actor(
    task_type=TaskType.CLEANUP,
    aliases=(
        "cache_warm_up",
        "cache_warming_scheduled",
        "refresh_cache_data",
        "app.tasks.cache_tasks.cache_warm_up",
        "app.services.background_jobs.cache_warm_up",
    ),
    max_retries=WARM_RETRIES,
    time_limit_s=WARM_LIMIT_S,
)
@exclusive("warm-cache")
def warm_cache(keys: Annotated[list[Key], Len(1, 1_000)] | None = None) -> dict[str, Any]:
    """Put what is commonly read into Redis, for an hour unless its entry says otherwise. One at a time runs.

    Args:
        keys: of the table `cache_entries`; by default all that are enabled there.
    """
    return warm(keys)
