"""The one query object behind API, CLI and dashboard: a filter in, rows, pages and counts out.

A list is read in bounded steps, so that its first page takes milliseconds and its last one no longer:

    choose     of the indexes that the filter may use, the one with the fewest entries (models.task_filter)
    walk       ids from that index, a chunk at a time, from the place where the page before ended
    match      of these, the rows that the rest of the filter fits; full rows are read of the page only

Where the index answers the whole filter, a page is full unless it is the last. Elsewhere a walk ends after WALK_ROWS
entries or WALK_S, and the page may be short, even empty, and says `is_partial`: its cursor goes on from there. An order
by duration or priority has no index (each would cost every task); it sorts the newest SORT_ROWS entries, and says
`is_partial` if there are more.

Must not: change a row.
"""

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import select
from sqlmodel import Session, col

from models import task_cursor
from models.task_count import EXACT_UP_TO, Count, count_along, counted
from models.task_cursor import InvalidQuery, Place
from models.task_filter import TaskFilter, storable
from models.task_tables import Task, TaskAttempt, TaskLog, WorkerProcess
from models.task_walk import WALK_ROWS, Found, Walk, by_id, by_value

__all__ = [
    "EXACT_UP_TO",
    "MAX_OFFSET",
    "MAX_PAGE",
    "SORTS",
    "Count",
    "InvalidQuery",
    "Page",
    "TaskFilter",
    "attempts",
    "count",
    "counted",
    "get",
    "live_workers",
    "logs",
    "page",
    "search",
    "search_and_count",
    "select_ids",
]

MAX_PAGE = 1_000
ABOUT_S: Final = 0.035
"""How long a page and its count may take together; what was begun by then is finished."""
MAX_OFFSET = 2**63 - 1
"""What both databases can count to."""
SORTS: Final = ("created_at", "-created_at", "duration", "-duration", "priority", "-priority")
"""Orders of a list; `-` is descending. `created_at` is the order of the ids, which say when a task was made."""


@dataclass(frozen=True)
class Page:
    """Rows of a list. next_cursor: where it goes on; None: nowhere. is_partial: the walk was given up, and more rows
    may match than these and those after the cursor (see the module)."""

    rows: list[Task]
    next_cursor: str | None
    is_partial: bool = False


def get(session: Session, task_id: str) -> Task | None:
    """The row, or None."""
    return session.get(Task, storable(task_id))


def page(session: Session, wanted: TaskFilter, *, limit: int = 100, offset: int = 0) -> list[Task]:
    """The rows of `search`, newest first."""
    return search(session, wanted, limit=limit, offset=offset).rows


def search(
    session: Session,
    wanted: TaskFilter,
    *,
    limit: int = 100,
    offset: int = 0,
    sort: str = "-created_at",
    cursor: str | None = None,
) -> Page:
    """A page of matching rows.

    Args:
        limit: 1–1000 rows.
        offset: rows to pass over, 0 or more. All of them are walked: far into a large table use `cursor`.
        sort: one of SORTS.
        cursor: the `next_cursor` of the page before, of the same filter and sort; costs the same wherever it is.

    Raises:
        InvalidQuery: naming limit, offset, sort or cursor, with what was expected.
    """
    place = _checked(wanted, limit, offset, sort, cursor)
    walk = Walk(session, wanted, is_descending=sort.startswith("-"))
    return _whole(walk, _found(walk, place, limit, offset, sort), sort)


def search_and_count(
    session: Session, wanted: TaskFilter, *, limit: int = 100, offset: int = 0, sort: str = "-created_at"
) -> tuple[Page, Count]:
    """A page without a cursor, and how many rows match: exactly if there is time for that within ABOUT_S.

    Args, raises: as `search`.
    """
    until_s = time.monotonic() + ABOUT_S
    _checked(wanted, limit, offset, sort, None)
    walk = Walk(session, wanted, is_descending=sort.startswith("-"))
    found = _found(walk, None, limit, offset, sort)
    shown = _whole(walk, found, sort)
    down = walk if walk.is_descending else Walk(session, wanted, is_descending=True, way=walk.way)
    count = count_along(down, within_s=until_s - time.monotonic(), saw=found.saw)
    passed = offset + len(found.ids) if found.ids else 0
    return shown, Count(max(count.number, passed), count.is_estimate)


def _checked(wanted: TaskFilter, limit: int, offset: int, sort: str, cursor: str | None) -> Place | None:
    """Where the page begins."""
    if not 1 <= limit <= MAX_PAGE:
        raise InvalidQuery(f"limit: expected 1–{MAX_PAGE}, got {limit}", field="limit")
    if not 0 <= offset <= MAX_OFFSET:
        raise InvalidQuery(f"offset: expected 0–{MAX_OFFSET}, got {offset}", field="offset")
    if sort not in SORTS:
        raise InvalidQuery(f"sort: expected one of {', '.join(SORTS)}; got {sort[:50]!r}", field="sort")
    return None if cursor is None else task_cursor.read(cursor, wanted, sort)


def _found(walk: Walk, place: Place | None, limit: int, offset: int, sort: str) -> Found:
    if sort.endswith("created_at"):
        return by_id(walk, place, limit, offset)
    return by_value(walk, place, limit, offset, sort.removeprefix("-"))


def _whole(walk: Walk, found: Found, sort: str) -> Page:
    """The page, its rows read."""
    whole = walk.session.execute(select(Task).where(walk.among(found.ids))).scalars() if found.ids else ()
    rows = {row.task_id: row for row in whole}
    following = None if found.after is None else task_cursor.write(found.after, walk.wanted, sort)
    return Page([rows[one] for one in found.ids if one in rows], following, found.is_partial)


def select_ids(session: Session, wanted: TaskFilter, *, limit: int, after_id: str | None = None) -> list[str]:
    """The ids of matching rows, newest first, however far it has to walk for them: for work on all of them in batches.

    Args:
        after_id: the last id of the batch before.
    """
    walk = Walk(session, wanted, is_descending=True)
    found: list[str] = []
    while len(found) < limit:
        stretch = walk.stretch(after_id, WALK_ROWS)
        found += walk.match(stretch)
        if stretch.is_last:
            break
        after_id = stretch.last_id
    return found[:limit]


def count(session: Session, wanted: TaskFilter) -> int:
    """How many rows match, or about how many: see `counted`."""
    return counted(session, wanted).number


def attempts(session: Session, task_id: str) -> list[TaskAttempt]:
    """A task's attempts, first to last."""
    statement = (
        select(TaskAttempt).where(col(TaskAttempt.task_id) == storable(task_id)).order_by(col(TaskAttempt.number))
    )
    return list(session.execute(statement).scalars())


def logs(session: Session, task_id: str, *, after_id: int = 0, limit: int | None = None) -> list[TaskLog]:
    """A task's log lines in order; only those after `after_id`, for following it."""
    statement = (
        select(TaskLog)
        .where(col(TaskLog.task_id) == storable(task_id), col(TaskLog.id) > after_id)
        .order_by(col(TaskLog.id))
        .limit(limit)
    )
    return list(session.execute(statement).scalars())


def live_workers(session: Session, since: datetime) -> list[WorkerProcess]:
    """Worker processes that have not stopped and were heard of at `since` (aware UTC) or later."""
    statement = select(WorkerProcess).where(
        col(WorkerProcess.heartbeat_at) >= since, col(WorkerProcess.stopped_at).is_(None)
    )
    return list(session.execute(statement).scalars())
