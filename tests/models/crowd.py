"""Many rows at once, written past the moves: for query plans, retention and benchmarks."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from models import direct
from models.direct import Direct, stamp

NAMES: Final = 40
"""Rows have the names crowd.n0, crowd.n1, …, and the type `email`, but one of a hundred RARE_TYPE."""
RARE_TYPE: Final = "network"
_CHUNK_ROWS: Final = 20_000

_STATUS: Final = (
    "CASE WHEN {i} % 1000 = 0 THEN 'pending' WHEN {i} % 1000 = 1 THEN 'running'"
    " WHEN {i} % 100 = 2 THEN 'failed' ELSE 'completed' END"
)
_TYPE: Final = f"CASE WHEN {{i}} % 100 = 3 THEN '{RARE_TYPE}' ELSE 'email' END"
_COLUMNS: Final = (
    "task_id, task_name, task_type, queue, priority, status, params, options, result, attempt, retry_count,"
    " max_retries, worker_id, tags, created_at, enqueued_at, started_at, completed_at"
)
_PARAMS: Final = '{"args":[],"kwargs":{"customer":"c-123456","copies":2,"note":"of an ordinary length"}}'
_RESULT: Final = '{"sent":true,"to":"someone@example.org","bytes":20480}'
_ATTEMPT: Final = (
    "INSERT INTO task_attempts (task_id, number, worker_id, started_at, finished_at, outcome)"
    " SELECT task_id, 1, 'w', started_at, completed_at, status FROM background_tasks"
    " WHERE task_id >= ? AND task_id <= ? AND started_at IS NOT NULL"
)
_LOG: Final = (
    "INSERT INTO task_logs (task_id, attempt, logged_at, level, message)"
    " SELECT task_id, 1, created_at, 'info', 'a line of the log' FROM background_tasks"
    " WHERE task_id >= ? AND task_id <= ? AND priority = 10"
)


def fill(rows: int, *, first: datetime, last: datetime, start: int = 0) -> None:
    """Write rows that were sent at even distances between two moments, each with its attempt, a tenth with a log line.

    Of a thousand one is pending, one running, ten failed, the others completed a millisecond after they were sent.

    Args:
        start: number of the first, so that the ids of two calls differ.
    """
    step = (last - first) / max(1, rows)
    for done in range(0, rows, _CHUNK_ROWS):
        numbers = range(done, min(rows, done + _CHUNK_ROWS))
        with direct.transaction() as to:
            write = _sqlite if to.dialect == "sqlite" else _postgres
            write(to, numbers, first, step, start)
            ends = [task_id(first + step * i, start + i) for i in (numbers[0], numbers[-1])]
            for sql in (_ATTEMPT, _LOG):
                to.run(sql if to.dialect == "sqlite" else sql.replace("?", "%s"), ends)


def task_id(at: datetime, number: int) -> str:
    """A UUIDv7 of that moment, its random part counted."""
    unix_ms = round(at.timestamp() * 1000)
    return f"{unix_ms >> 16:08x}-{unix_ms & 0xFFFF:04x}-7000-8000-{number:012x}"


def settle(dialect_of: Direct) -> None:
    """Let the planner know what is there."""
    dialect_of.run("ANALYZE")


def _sqlite(to: Any, numbers: range, first: datetime, step: timedelta, start: int) -> None:
    sql = (
        f"INSERT INTO background_tasks ({_COLUMNS}) SELECT ?1, 'crowd.n' || (?2 % {NAMES}), {_TYPE.format(i='?2')},"
        f" 'q', 1 + ?2 % 10, {_STATUS.format(i='?2')}, '{_PARAMS}', '{{}}', '{_RESULT}',"
        " 1, 0, 3, 'w', '[]', ?3, ?3, ?3, CASE WHEN ?2 % 1000 < 2 THEN NULL ELSE ?3 END"
    )
    for row in _rows(numbers, first, step, start):
        to.run(sql, row)


def _rows(numbers: range, first: datetime, step: timedelta, start: int) -> Iterator[tuple[Any, ...]]:
    for i in numbers:
        at = first + step * i
        yield task_id(at, start + i), start + i, stamp("sqlite", at)


def _postgres(to: Any, numbers: range, first: datetime, step: timedelta, start: int) -> None:
    rows = list(_rows(numbers, first, step, start))
    sql = (
        f"INSERT INTO background_tasks ({_COLUMNS}) SELECT id, 'crowd.n' || (i % {NAMES}),"
        f" {_TYPE.format(i='i')}, 'q', 1 + i % 10, {_STATUS.format(i='i')}, '{_PARAMS}', '{{}}',"
        f" '{_RESULT}', 1, 0, 3, 'w', '[]', at, at, at, CASE WHEN i % 1000 < 2 THEN NULL ELSE at END"
        " FROM unnest(%s::text[], %s::int[], %s::timestamptz[]) AS v (id, i, at)"
    )
    moments = [first + step * i for i in numbers]
    to.run(sql.replace("% ", "%% "), [[row[0] for row in rows], [row[1] for row in rows], moments])
