"""The move pending|running → where an attempt's outcome takes its row, for all outcomes of a group commit together.

Nearly all attempts are completed, and they have a statement of their own: it takes fewer values, and half of their
columns are the same in each row. The others have the general one.

    SQLite        completed: their values as one JSON text, for the row one statement and for the attempt another. Not
                  one execution a row: Python lets go of the interpreter for each and must queue for it again, which
                  costs more than the statement. The others: two executions a row
    PostgreSQL    one statement for rows, attempts and totals, and so one round trip for the completed and one for the
                  others

Must not: be called but through models.task_moves, which says what all moves have in common.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any, Final

import msgspec

from models import totals
from models.batch import columns_of, numbered, of_v, unnested
from models.direct import Direct, marked, stamp
from models.redaction import redact_text
from models.task import AttemptOutcome, TaskStatus
from models.task_start import Attempt
from models.text import clean_text

ERROR_MAX_CHARS: Final = 16 * 1024
"""Bound of an error message and of a traceback (spec/security.md)."""
REASON_MAX_CHARS: Final = 500


class End(msgspec.Struct, frozen=True):
    """How an attempt ended, and where that takes its row.

    status: what the row is to be; PENDING for another attempt, not before `eta`.
    result: JSON text. retried: counts as one of the task's retries. waited_s: how long the attempt could have started
        before it did; None: not known.
    """

    task_id: str
    attempt: int
    worker_id: str
    started_at: datetime
    finished_at: datetime
    status: TaskStatus
    outcome: AttemptOutcome
    reason: str | None = None
    result: str | None = None
    error_type: str | None = None
    error_message: str | None = None
    traceback: str | None = None
    eta: datetime | None = None
    retried: bool = False
    waited_s: float | None = None


# --- the statements -------------------------------------------------------------------------------------------------

_SET: Final = (
    "status = {status}, attempt = {attempt}, worker_id = {worker_id}, started_at = {started_at}, "
    "reason = CASE WHEN {status} = 'pending' THEN t.reason WHEN {status} = 'cancelled'"
    " THEN coalesce({reason}, t.reason) ELSE {reason} END, "
    "result = {result}, eta = {eta}, retry_count = t.retry_count + {retried}, "
    "error_type = CASE WHEN {outcome} = 'shut_down' THEN t.error_type ELSE {error_type} END, "
    "error_message = CASE WHEN {outcome} = 'shut_down' THEN t.error_message ELSE {error_message} END, "
    "completed_at = CASE WHEN {status} <> 'pending' THEN {finished_at} END, "
    "enqueued_at = CASE WHEN {status} = 'pending' THEN {finished_at} ELSE t.enqueued_at END, "
    "progress = CASE {status} WHEN 'completed' THEN 1.0 WHEN 'pending' THEN NULL ELSE t.progress END, "
    "progress_message = CASE WHEN {status} <> 'pending' THEN t.progress_message END"
)
# The third case: its worker was taken for dead, and no other attempt has begun since.
_IF: Final = (
    "(t.status = 'running' AND t.attempt <= {attempt} OR t.status = 'pending' AND (t.attempt < {attempt}"
    " OR t.attempt = {attempt} AND EXISTS (SELECT 1 FROM task_attempts AS a WHERE a.task_id = t.task_id"
    " AND a.number = {attempt} AND a.outcome = 'lost')))"
)
_COMPLETED: Final = {
    **dict.fromkeys(("status", "outcome"), "'completed'"),
    **dict.fromkeys(("reason", "eta", "error_type", "error_message"), "NULL"),
    "retried": "0",
}
"""What the values of a completed attempt are that need not be passed."""
ATTEMPT_COLUMNS: Final = (
    "task_id, number, worker_id, started_at, finished_at, outcome, error_type, error_message, traceback"
)
_COMPLETED_ATTEMPT_COLUMNS: Final = "task_id, number, worker_id, started_at, finished_at, outcome"
_ATTEMPT_AGAIN: Final = (
    "ON CONFLICT (task_id, number) DO UPDATE SET finished_at = excluded.finished_at, outcome = excluded.outcome, "
    "error_type = excluded.error_type, error_message = excluded.error_message, traceback = excluded.traceback"
)

_FIELDS: Final = {
    "task_id": "text", "attempt": "int", "worker_id": "text", "started_at": "timestamptz",
    "finished_at": "timestamptz", "status": "text", "outcome": "text", "reason": "text", "result": "json",
    "error_type": "text", "error_message": "text", "traceback": "text", "eta": "timestamptz", "retried": "int",
}  # fmt: skip
_COMPLETED_FIELDS: Final = ("task_id", "attempt", "started_at", "finished_at", "result")

_SQLITE: Final = (
    f"UPDATE background_tasks AS t SET {_SET} WHERE t.task_id = ?1 AND {_IF} RETURNING task_name, queue"
).format(**numbered(_FIELDS))
_ATTEMPT_SQLITE: Final = (
    f"INSERT INTO task_attempts ({ATTEMPT_COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?7, ?10, ?11, ?12) {_ATTEMPT_AGAIN}"
)
_ATTEMPT_VALUES: Final = 12
_COMPLETED_SQLITE: Final = (
    "WITH v AS MATERIALIZED (SELECT "
    + ", ".join(f"e.value ->> {index} AS {name}" for index, name in enumerate(_COMPLETED_FIELDS))
    + " FROM json_each(?1) AS e) UPDATE background_tasks AS t SET "
    + _SET.format(**of_v(_COMPLETED_FIELDS), **_COMPLETED, worker_id="?2")
    + f" FROM v WHERE t.task_id = v.task_id AND {_IF.format(attempt='v.attempt')}"
    " RETURNING task_id, attempt, task_name, queue"
)
_COMPLETED_ATTEMPTS_SQLITE: Final = (
    f"INSERT INTO task_attempts ({_COMPLETED_ATTEMPT_COLUMNS})"
    " SELECT e.value ->> 0, e.value ->> 1, ?2, e.value ->> 2, e.value ->> 3, 'completed' FROM json_each(?1) AS e"
    f" WHERE true {_ATTEMPT_AGAIN}"
)

_COUNTED_STATUSES: Final = (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED)
_MEASURES: Final = {"run_s": "float8", "run_bucket": "int", "wait_s": "float8", "wait_bucket": "int"}
"""What is only counted, and which bucket of the totals it falls into."""
_SUMS: Final = {
    column: amount
    for name in ("wait", "run")
    for column, amount in (
        (f"{name}_sum", f"coalesce(sum({name}_s), 0)"),
        *(
            (column, f"count(*) FILTER (WHERE {name}_bucket = {number})")
            for number, column in enumerate(totals.buckets(name))
        ),
    )
}


def _for_postgres(
    fields: Mapping[str, str], values: Mapping[str, str], attempts: str, counts: Mapping[str, str], **constants: str
) -> str:
    moves = (
        f"UPDATE background_tasks AS t SET {_SET} FROM v WHERE t.task_id = v.task_id AND {_IF}"
        " RETURNING v.*, t.task_name, t.queue"
    ).format(**values)
    amounts = {**counts, **_SUMS}
    return (
        f"{unnested({**fields, **_MEASURES}, **constants)}, u AS ({moves}), i AS (INSERT INTO task_attempts {attempts}"
        f" FROM u {_ATTEMPT_AGAIN}), c AS (INSERT INTO task_totals (task_name, queue, {', '.join(amounts)})"
        f" SELECT task_name, queue, {', '.join(amounts.values())} FROM u GROUP BY task_name, queue)"
        " SELECT task_id, attempt FROM u"
    )


_POSTGRES: Final = _for_postgres(
    _FIELDS,
    of_v(_FIELDS),
    f"({ATTEMPT_COLUMNS}) SELECT {ATTEMPT_COLUMNS.replace('number', 'attempt')}",
    {
        **{status.value: f"count(*) FILTER (WHERE status = '{status}')" for status in _COUNTED_STATUSES},
        "retried": "sum(retried)",
    },
)
_COMPLETED_POSTGRES: Final = _for_postgres(
    {name: _FIELDS[name] for name in _COMPLETED_FIELDS},
    {**of_v((*_COMPLETED_FIELDS, "worker_id")), **_COMPLETED},
    f"({_COMPLETED_ATTEMPT_COLUMNS}) SELECT task_id, attempt, worker_id, started_at, finished_at, 'completed'",
    {"completed": "count(*)"},
    worker_id="%s::text",
)


# --- the move -------------------------------------------------------------------------------------------------------


def end(to: Direct, ends: Sequence[End]) -> set[Attempt]:
    """pending|running → where each outcome takes its row. Returns the attempts whose row was moved.

    At most one outcome a task in one call.
    """
    worker_id = ends[0].worker_id if ends else ""
    completed: list[End] = []
    others: list[End] = []
    for one in ends:
        is_plain = one.status is TaskStatus.COMPLETED and one.worker_id == worker_id
        (completed if is_plain else others).append(one)
    if to.dialect == "sqlite":
        tally = totals.Tally(totals.TASKS)
        moved = _complete_in_sqlite(to, worker_id, completed, tally) | _end_in_sqlite(to, others, tally)
        tally.write(to)
        return moved
    moved = _end_in_postgres(to, _COMPLETED_POSTGRES, map(_completed_values, completed), worker_id)
    return moved | _end_in_postgres(to, _POSTGRES, (_values(to.dialect, one) for one in others))


def _end_in_postgres(to: Direct, statement: str, values: Iterable[tuple[Any, ...]], *constants: str) -> set[Attempt]:
    # In the order of the ids: two processes that lock the same rows must not wait for each other.
    rows = sorted(values, key=itemgetter(0))
    if not rows:
        return set()
    moved = {(row[0], row[1]) for row in to.run(statement, [*constants, *columns_of(rows)])}
    left = [row for row in rows if (row[0], row[1]) not in moved]
    if left:
        # One that waited for rescue's commit saw the row as rescue left it, but its attempt as it was before.
        moved |= {(row[0], row[1]) for row in to.run(statement, [*constants, *columns_of(left)])}
    return moved


def _completed_values(one: End) -> tuple[Any, ...]:
    return (one.task_id, one.attempt, one.started_at, one.finished_at, one.result, *_measures(one))


def _measures(one: End) -> tuple[float | int | None, ...]:
    run_s, wait_s = (one.finished_at - one.started_at).total_seconds(), one.waited_s
    wait_bucket = None if wait_s is None else bisect_left(totals.SECONDS, wait_s)
    return (run_s, bisect_left(totals.SECONDS, run_s), wait_s, wait_bucket)


def _end_in_sqlite(to: Direct, ends: Sequence[End], tally: totals.Tally) -> set[Attempt]:
    moved: set[Attempt] = set()
    for one in ends:
        row = _values(to.dialect, one)[: len(_FIELDS)]
        for keys in to.run(_SQLITE, row):
            to.run(_ATTEMPT_SQLITE, row[:_ATTEMPT_VALUES])
            moved.add((one.task_id, one.attempt))
            _count(tally, keys, one)
    return moved


def _count(tally: totals.Tally, keys: tuple[str, ...], one: End) -> None:
    if one.status in _COUNTED_STATUSES:
        tally.count(keys, one.status.value)
    elif one.retried:
        tally.count(keys, "retried")
    tally.observe(keys, "run", (one.finished_at - one.started_at).total_seconds())
    if one.waited_s is not None:
        tally.observe(keys, "wait", one.waited_s)


def _complete_in_sqlite(to: Direct, worker_id: str, ends: Sequence[End], tally: totals.Tally) -> set[Attempt]:
    if not ends:
        return set()
    by_attempt = {(one.task_id, one.attempt): one for one in ends}
    rows = [
        (one.task_id, one.attempt, stamp("sqlite", one.started_at), stamp("sqlite", one.finished_at), one.result)
        for one in ends
    ]
    text = _json_of(rows)
    by_actor: dict[tuple[str, ...], list[End]] = defaultdict(list)
    moved: set[Attempt] = set()
    for task_id, attempt, *keys in to.run(_COMPLETED_SQLITE, (text, worker_id)):
        moved.add((task_id, attempt))
        by_actor[tuple(keys)].append(by_attempt[task_id, attempt])
    if len(moved) < len(rows):
        text = _json_of(row for row in rows if (row[0], row[1]) in moved)
    to.run(_COMPLETED_ATTEMPTS_SQLITE, (text, worker_id))
    for actor, some in by_actor.items():
        tally.count(actor, TaskStatus.COMPLETED.value, len(some))
        tally.observe_all(actor, "run", [(one.finished_at - one.started_at).total_seconds() for one in some])
        tally.observe_all(actor, "wait", [one.waited_s for one in some if one.waited_s is not None])
    return moved


def _json_of(rows: Iterable[Sequence[Any]]) -> str:
    return msgspec.json.encode(list(rows)).decode()


def _values(dialect: str, one: End) -> tuple[Any, ...]:
    return (
        one.task_id,
        one.attempt,
        one.worker_id,
        stamp(dialect, one.started_at),
        stamp(dialect, one.finished_at),
        one.status.value,
        one.outcome.value,
        one.reason and clean_text(redact_text(one.reason), REASON_MAX_CHARS),
        one.result,
        one.error_type and clean_text(one.error_type, 200),
        one.error_message and clean_text(redact_text(one.error_message), ERROR_MAX_CHARS),
        one.traceback and clean_text(redact_text(one.traceback), ERROR_MAX_CHARS),
        stamp(dialect, one.eta),
        int(one.retried),
        *_measures(one),
    )


def outcome_of(to: Direct, task_id: str, attempt: int) -> AttemptOutcome | None:
    """How an attempt is on record to have ended; None while it runs, or if there is no such attempt."""
    sql = "SELECT outcome FROM task_attempts WHERE task_id = ? AND number = ?"
    found = to.run(marked(to, sql), (task_id, attempt))
    return None if not found or found[0][0] is None else AttemptOutcome(found[0][0])
