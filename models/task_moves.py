"""The SQL of every move of a task's row, for many rows at once. Each is compare-and-set: made again, it does nothing.

    accept    → pending
    start     pending → running          an attempt begins; refused if the row is not waiting for this attempt
    end       pending|running → terminal, or → pending again (a retry, a shutdown)
                                         pending: start and outcome of a short first attempt are one write
    lose      running → pending|failed   its worker is dead
    cancel    pending → cancelled        request_cancel: asks, where only the worker can say whether it ran
    refuse    pending → failed           it can never start
    reopen    failed|cancelled → pending an explicit retry: the only way out of a terminal row

The fence. An attempt's number is the number of its delivery by the bus, which only grows. An outcome moves the row as
long as no later attempt has started: `attempt <= mine`. So the outcome of a worker that was declared dead too early is
kept, because it is true, until another attempt has claimed the row; from then on it is refused.
A move that is made again (its commit's answer was lost) finds the row moved and changes nothing; `outcome_of` then says
whether what is on record is its own.

Each takes a `models.direct` connection (or `models.direct.Within(session)`) and leaves the commit to its owner. On
PostgreSQL a batch is one statement, and so one round trip; on SQLite one prepared statement a row.

Each move is counted, with it or not at all (models.totals): whoever writes one more must count it too.

What a crash leaves: a transaction is done or not, so the row is as before or after the move. Who mends which state
stands in workers/ledger/upkeep.py.

Must not: decide anything about retries, time limits or the bus; read the clock.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from operator import attrgetter, itemgetter
from typing import Any, Final

import msgspec

from models import totals
from models.arrays import columns_of
from models.direct import Direct, marked, stamp
from models.redaction import redact_text
from models.task import DEFAULT_PRIORITY, AttemptOutcome, TaskStatus
from models.text import clean_text

ERROR_MAX_CHARS: Final = 16 * 1024
"""Bound of an error message and of a traceback (spec/security.md)."""
REASON_MAX_CHARS: Final = 500

Attempt = tuple[str, int]
"""Task id and number."""


class NewTask(msgspec.Struct, frozen=True):
    """A row to be.

    params, options, tags: JSON text (ASCII). enqueued_at: None leaves publishing to the relay. unique_until: how long
    its idempotency key is its own even if it ends before.
    """

    task_id: str
    task_name: str
    queue: str
    created_at: datetime
    enqueued_at: datetime | None
    task_type: str | None = None
    priority: int = DEFAULT_PRIORITY
    params: str = '{"args":[],"kwargs":{}}'
    options: str = "{}"
    tags: str = "[]"
    max_retries: int = 3
    correlation_id: str | None = None
    parent_id: str | None = None
    group_id: str | None = None
    schedule_id: str | None = None
    idempotency_key: str | None = None
    eta: datetime | None = None
    unique_until: datetime | None = None


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


# --- accept ---------------------------------------------------------------------------------------------------------

_COLUMNS: Final = NewTask.__struct_fields__[:-1]
_TIMES: Final = frozenset({"created_at", "enqueued_at", "eta"})
_POSTGRES_TYPES: Final = {
    **dict.fromkeys(_COLUMNS, "text"),
    **dict.fromkeys(_TIMES, "timestamptz"),
    **dict.fromkeys(("priority", "max_retries"), "int"),
    **dict.fromkeys(("params", "options", "tags"), "json"),
}
_INTO_TASKS: Final = f"INSERT INTO background_tasks ({', '.join(_COLUMNS)}, status, attempt, retry_count)"
_ACCEPT_SQLITE: Final = (
    f"{_INTO_TASKS} VALUES ({', '.join('?' * len(_COLUMNS))}, 'pending', 0, 0) ON CONFLICT (task_id) DO NOTHING"
)
_ACCEPT_POSTGRES: Final = (
    f"{_INTO_TASKS} VALUES ({', '.join(['%s'] * len(_COLUMNS))}, 'pending', 0, 0) ON CONFLICT (task_id) DO NOTHING"
)
_ACCEPT_MANY_POSTGRES: Final = (
    f"{_INTO_TASKS} SELECT v.*, 'pending', 0, 0 FROM unnest("
    + ", ".join(f"%s::{_POSTGRES_TYPES[name]}[]" for name in _COLUMNS)
    + ") AS v ON CONFLICT (task_id) DO NOTHING"
)


def accept(to: Direct, tasks: Sequence[NewTask]) -> int:
    """→ pending. Returns how many rows are new; one whose id is there already stays as it is."""
    if len(tasks) == 1:
        return _accept_one(to, tasks[0])
    rows = [list(msgspec.structs.astuple(task)[:-1]) for task in tasks]
    if to.dialect == "sqlite":
        stamps: dict[datetime, Any] = {}  # why: those of a batch have the same times.
        for row in rows:
            for index in _TIME_INDEXES:
                if (at := row[index]) is not None:
                    row[index] = stamps.get(at) or stamps.setdefault(at, stamp("sqlite", at))
    if to.dialect == "sqlite":
        return to.run_counted_many(_ACCEPT_SQLITE, rows) if rows else 0
    return to.run_counted(_ACCEPT_MANY_POSTGRES, columns_of(rows)) if rows else 0


def _accept_one(to: Direct, task: NewTask) -> int:
    row = list(msgspec.structs.astuple(task)[:-1])
    if to.dialect != "sqlite":
        return to.run_counted(_ACCEPT_POSTGRES, row)
    row[_CREATED], row[_ETA] = stamp("sqlite", task.created_at), stamp("sqlite", task.eta)
    # why: the two are one object for what goes to the bus at once, and a send pays for each microsecond.
    row[_ENQUEUED] = row[_CREATED] if task.enqueued_at is task.created_at else stamp("sqlite", task.enqueued_at)
    return to.run_counted(_ACCEPT_SQLITE, row)


# why not simply "... AND its task has ended": where two senders race, PostgreSQL shows the second one the key that the
# first has just written, but not yet its task's row. So the key must still be that of the task which was seen to have
# ended.
_TAKE_KEY: Final = (
    "INSERT INTO idempotency_keys (key, task_id, held_until) VALUES (?, ?, ?)"
    " ON CONFLICT (key) DO UPDATE SET task_id = excluded.task_id, held_until = excluded.held_until"
    " WHERE idempotency_keys.task_id = excluded.task_id OR idempotency_keys.task_id = ("
    "SELECT k.task_id FROM idempotency_keys AS k LEFT JOIN background_tasks AS t ON t.task_id = k.task_id"
    " WHERE k.key = excluded.key AND (k.held_until IS NULL OR k.held_until <= ?)"
    " AND (t.status IS NULL OR t.status NOT IN ('pending', 'running')))"
)


def accept_unique(to: Direct, task: NewTask) -> tuple[bool, str]:
    """→ pending, unless another task has its idempotency key: while that one is pending or running, or `unique_until`.

    Two that race for a key: the second waits for the first one's commit. Run it in a transaction: key and row go
    together.

    Returns:
        Whether its row is new, and the id of the task that has the key: its own, or another's, and then nothing was
        written.
    """
    at, until = stamp(to.dialect, task.created_at), stamp(to.dialect, task.unique_until)
    if to.run_counted(marked(to, _TAKE_KEY), (task.idempotency_key, task.task_id, until, at)) == 1:
        return accept(to, [task]) == 1, task.task_id
    found = to.run(marked(to, "SELECT task_id FROM idempotency_keys WHERE key = ?"), (task.idempotency_key,))
    return False, str(found[0][0])


_CREATED, _ENQUEUED, _ETA = (_COLUMNS.index(name) for name in ("created_at", "enqueued_at", "eta"))
_TIME_INDEXES: Final = (_CREATED, _ENQUEUED, _ETA)

_WITHDRAW: Final = "DELETE FROM background_tasks WHERE task_id = ? AND status = 'pending' AND attempt = 0"


def withdraw(to: Direct, task_id: str) -> bool:
    """pending → gone: take back a row that was never sent. False if a worker has started it."""
    return totals.counted(to, _WITHDRAW, (task_id,), "withdrawn")


def mark_published(to: Direct, task_ids: Sequence[str], at: datetime | None) -> None:
    """Record when messages went to the bus; None: they are not there, the relay is to send them."""
    _for_ids(to, "UPDATE background_tasks SET enqueued_at = ? WHERE status = 'pending' AND task_id", task_ids, at)


# --- start ----------------------------------------------------------------------------------------------------------

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


def _numbered(fields: Iterable[str]) -> dict[str, str]:
    return {name: f"?{number}" for number, name in enumerate(fields, start=1)}


def _prefixed(fields: Iterable[str]) -> dict[str, str]:
    return {name: f"v.{name}" for name in fields}


def _unnest(fields: dict[str, str]) -> str:
    arrays = ", ".join(f"%s::{kind}[]" for kind in fields.values())
    return f"WITH v AS MATERIALIZED (SELECT * FROM unnest({arrays}) AS v ({', '.join(fields)}))"


_START_SQLITE: Final = (
    f"UPDATE background_tasks AS t SET {_START_SET} WHERE t.task_id = ?1 AND {_START_IF} "
    "RETURNING retry_count, correlation_id"
).format(**_numbered(_START_FIELDS))
_START_ATTEMPT_SQLITE: Final = (
    "INSERT INTO task_attempts (task_id, number, worker_id, started_at) VALUES (?1, ?2, ?3, ?4) "
    "ON CONFLICT (task_id, number) DO NOTHING"
)
_START_POSTGRES: Final = (
    _unnest(_START_FIELDS)
    + (
        f", u AS (UPDATE background_tasks AS t SET {_START_SET} FROM v WHERE t.task_id = v.task_id AND {_START_IF} "
        "RETURNING t.task_id, v.attempt, t.retry_count, t.correlation_id, v.worker_id, v.started_at)"
    ).format(**_prefixed(_START_FIELDS))
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
    rows = _for_ids(
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
    return {row[0] for row in _for_ids(to, sql, task_ids)}


def lost_attempts(to: Direct, task_id: str) -> int:
    """How many attempts of a task were lost with their worker."""
    sql = "SELECT count(*) FROM task_attempts WHERE task_id = ? AND outcome = 'lost'"
    return int(to.run(marked(to, sql), (task_id,))[0][0])


def crashed_attempts(to: Direct, task_id: str) -> int:
    """How many attempts of a task took their own process down."""
    sql = "SELECT count(*) FROM task_attempts WHERE task_id = ? AND outcome = 'crashed'"
    return int(to.run(marked(to, sql), (task_id,))[0][0])


# --- end ------------------------------------------------------------------------------------------------------------

_END_FIELDS: Final = {
    "task_id": "text", "attempt": "int", "worker_id": "text", "started_at": "timestamptz",
    "finished_at": "timestamptz", "status": "text", "outcome": "text", "reason": "text", "result": "text",
    "error_type": "text", "error_message": "text", "traceback": "text", "eta": "timestamptz", "retried": "int",
    "waited_s": "float8",
}  # fmt: skip
_END_SET: Final = (
    "status = {status}, attempt = {attempt}, worker_id = {worker_id}, started_at = {started_at}, "
    "reason = CASE WHEN {status} = 'pending' THEN t.reason WHEN {status} = 'cancelled'"
    " THEN coalesce({reason}, t.reason) ELSE {reason} END, "
    "result = {result_json}, eta = {eta}, retry_count = t.retry_count + {retried}, "
    "error_type = CASE WHEN {outcome} = 'shut_down' THEN t.error_type ELSE {error_type} END, "
    "error_message = CASE WHEN {outcome} = 'shut_down' THEN t.error_message ELSE {error_message} END, "
    "completed_at = CASE WHEN {status} <> 'pending' THEN {finished_at} END, "
    "enqueued_at = CASE WHEN {status} = 'pending' THEN {finished_at} ELSE t.enqueued_at END, "
    "progress = CASE {status} WHEN 'completed' THEN 1.0 WHEN 'pending' THEN NULL ELSE t.progress END, "
    "progress_message = CASE WHEN {status} <> 'pending' THEN t.progress_message END"
)
# The third case: its worker was taken for dead, and no other attempt has begun since.
_END_IF: Final = (
    "(t.status = 'running' AND t.attempt <= {attempt} OR t.status = 'pending' AND (t.attempt < {attempt}"
    " OR t.attempt = {attempt} AND EXISTS (SELECT 1 FROM task_attempts AS a WHERE a.task_id = t.task_id"
    " AND a.number = {attempt} AND a.outcome = 'lost')))"
)
_END_ATTEMPT_COLUMNS: Final = (
    "task_id, number, worker_id, started_at, finished_at, outcome, error_type, error_message, traceback"
)
_END_ATTEMPT_AGAIN: Final = (
    "ON CONFLICT (task_id, number) DO UPDATE SET finished_at = excluded.finished_at, outcome = excluded.outcome, "
    "error_type = excluded.error_type, error_message = excluded.error_message, traceback = excluded.traceback"
)
_END_SQLITE: Final = (
    f"UPDATE background_tasks AS t SET {_END_SET} WHERE t.task_id = ?1 AND {_END_IF} RETURNING task_name, queue"
).format(**_numbered(_END_FIELDS), result_json="?9")
_END_ATTEMPT_SQLITE: Final = (
    f"INSERT INTO task_attempts ({_END_ATTEMPT_COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?7, ?10, ?11, ?12) "
    + _END_ATTEMPT_AGAIN
)
# The one outcome that nearly all attempts have, for many rows in two statements: Python lets go of the interpreter for
# each statement and must queue for it again, which costs more than the statement.
_COMPLETED_FIELDS: Final = ("task_id", "attempt", "started_at", "finished_at", "result")
_COMPLETED_VALUES: Final = ", ".join(f"e.value ->> {i} AS {name}" for i, name in enumerate(_COMPLETED_FIELDS))
_COMPLETED_SQLITE: Final = (
    f"WITH v AS MATERIALIZED (SELECT {_COMPLETED_VALUES} FROM json_each(?1) AS e) UPDATE background_tasks AS t SET "
    + _END_SET.format(
        **{
            **_prefixed(_COMPLETED_FIELDS),
            **dict.fromkeys(("reason", "eta", "error_type", "error_message"), "NULL"),
            "status": "'completed'",
            "outcome": "'completed'",
            "worker_id": "?2",
            "retried": "0",
        },
        result_json="v.result",
    )
    + f" FROM v WHERE t.task_id = v.task_id AND {_END_IF.format(attempt='v.attempt')}"
    " RETURNING task_id, attempt, task_name, queue"
)
_COMPLETED_ATTEMPTS_SQLITE: Final = (
    "INSERT INTO task_attempts (task_id, number, worker_id, started_at, finished_at, outcome)"
    " SELECT e.value ->> 0, e.value ->> 1, ?2, e.value ->> 2, e.value ->> 3, 'completed' FROM json_each(?1) AS e"
    " WHERE true " + _END_ATTEMPT_AGAIN
)
_COUNTED_STATUSES: Final = (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED)


def _bucket_counts(name: str, seconds: str) -> dict[str, str]:
    # Of how many bounds a value is above, as `Tally.observe` has it: a value that is a bound belongs below it.
    bounds = ", ".join(f"{-bound}" for bound in reversed(totals.SECONDS))
    above = f"{len(totals.SECONDS)} - width_bucket(-({seconds})::float8, ARRAY[{bounds}]::float8[])"
    counts = {
        column: f"count(*) FILTER (WHERE {above} = {number})" for number, column in enumerate(totals.buckets(name))
    }
    return {f"{name}_sum": f"coalesce(sum({seconds}), 0)", **counts}


_COUNTS_POSTGRES: Final = {
    **{status.value: f"count(*) FILTER (WHERE status = '{status}')" for status in _COUNTED_STATUSES},
    "retried": "sum(retried)",
    **_bucket_counts("wait", "waited_s"),
    **_bucket_counts("run", "run_s"),
}
_COUNT_POSTGRES: Final = (
    f"INSERT INTO task_totals (task_name, queue, {', '.join(_COUNTS_POSTGRES)})"
    f" SELECT task_name, queue, {', '.join(_COUNTS_POSTGRES.values())} FROM u GROUP BY task_name, queue"
)
_END_POSTGRES: Final = (
    _unnest(_END_FIELDS)
    + (
        f", u AS (UPDATE background_tasks AS t SET {_END_SET} FROM v WHERE t.task_id = v.task_id AND {_END_IF} "
        "RETURNING v.*, t.task_name, t.queue, extract(epoch FROM v.finished_at - v.started_at) AS run_s)"
    ).format(**_prefixed(_END_FIELDS), result_json="v.result::json")
    + f", i AS (INSERT INTO task_attempts ({_END_ATTEMPT_COLUMNS}) SELECT task_id, attempt, worker_id, started_at,"
    f" finished_at, outcome, error_type, error_message, traceback FROM u {_END_ATTEMPT_AGAIN})"
    f", c AS ({_COUNT_POSTGRES}) SELECT task_id, attempt FROM u"
)


def end(to: Direct, ends: Sequence[End]) -> set[Attempt]:
    """pending|running → where each outcome takes its row. Returns the attempts whose row was moved.

    At most one outcome a task in one call.
    """
    if not ends:
        return set()
    if to.dialect != "sqlite":
        # In the order of the ids: two processes that lock the same rows must not wait for each other.
        rows = sorted((_end_values(to.dialect, one) for one in ends), key=itemgetter(0))
        ended = {(row[0], row[1]) for row in to.run(_END_POSTGRES, columns_of(rows))}
        left = [row for row in rows if (row[0], row[1]) not in ended]
        if left:
            # One that waited for rescue's commit saw the row as rescue left it, but its attempt as it was before.
            ended |= {(row[0], row[1]) for row in to.run(_END_POSTGRES, columns_of(left))}
        return ended
    tally = totals.Tally(totals.TASKS)
    moved = _complete_in_sqlite(to, [one for one in ends if one.status is TaskStatus.COMPLETED], tally)
    for one in [one for one in ends if one.status is not TaskStatus.COMPLETED]:
        row = _end_values(to.dialect, one)[:_SQLITE_END_VALUES]
        for task_name, queue in to.run(_END_SQLITE, row):
            to.run(_END_ATTEMPT_SQLITE, row[:12])
            moved.add((one.task_id, one.attempt))
            _count_end(tally, (task_name, queue), one)
    tally.write(to)
    return moved


def _count_end(tally: totals.Tally, keys: tuple[str, str], one: End) -> None:
    if one.status in _COUNTED_STATUSES:
        tally.count(keys, one.status.value)
    elif one.retried:
        tally.count(keys, "retried")
    tally.observe(keys, "run", (one.finished_at - one.started_at).total_seconds())
    if one.waited_s is not None:
        tally.observe(keys, "wait", one.waited_s)


def _complete_in_sqlite(to: Direct, ends: Sequence[End], tally: totals.Tally) -> set[Attempt]:
    if not ends:
        return set()
    by_attempt = {(one.task_id, one.attempt): one for one in ends}
    values = {
        (one.task_id, one.attempt): (
            *(one.task_id, one.attempt, stamp("sqlite", one.started_at), stamp("sqlite", one.finished_at)),
            one.result,
        )
        for one in ends
    }
    worker_id = ends[0].worker_id
    moved: set[Attempt] = set()
    by_actor: dict[tuple[str, str], list[End]] = defaultdict(list)
    for task_id, attempt, task_name, queue in to.run(_COMPLETED_SQLITE, (_json_of(values.values()), worker_id)):
        moved.add((task_id, attempt))
        by_actor[task_name, queue].append(by_attempt[task_id, attempt])
    for keys, some in by_actor.items():
        tally.count(keys, TaskStatus.COMPLETED.value, len(some))
        tally.observe_all(keys, "run", [(one.finished_at - one.started_at).total_seconds() for one in some])
        tally.observe_all(keys, "wait", [one.waited_s for one in some if one.waited_s is not None])
    recorded = _json_of(values[attempt] for attempt in values if attempt in moved)
    to.run(_COMPLETED_ATTEMPTS_SQLITE, (recorded, worker_id))
    return moved


def _json_of(rows: Iterable[Sequence[Any]]) -> str:
    return msgspec.json.encode(list(rows)).decode()


def _end_values(dialect: str, one: End) -> list[Any]:
    return [
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
        one.waited_s,
    ]


_SQLITE_END_VALUES: Final = len(_END_FIELDS) - 1
"""What it only counts is counted here."""


def outcome_of(to: Direct, task_id: str, attempt: int) -> AttemptOutcome | None:
    """How an attempt is on record to have ended; None while it runs, or if there is no such attempt."""
    sql = "SELECT outcome FROM task_attempts WHERE task_id = ? AND number = ?"
    found = to.run(marked(to, sql), (task_id, attempt))
    return None if not found or found[0][0] is None else AttemptOutcome(found[0][0])


# --- lose -----------------------------------------------------------------------------------------------------------

_LOSE: Final = (
    "UPDATE background_tasks SET status = ?, reason = coalesce(?, reason), completed_at = ?, error_type = ?, "
    "error_message = ?, eta = NULL, enqueued_at = NULL, progress = NULL, progress_message = NULL "
    "WHERE task_id = ? AND status = 'running' AND attempt = ? AND worker_id = ?"
)
_LOSE_ATTEMPT: Final = (
    f"INSERT INTO task_attempts ({_END_ATTEMPT_COLUMNS}) VALUES (?, ?, ?, NULL, ?, 'lost', ?, ?, NULL) "
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
    """Record an attempt that the bus had handed to a worker which vanished before the row heard of it."""
    values = (task_id, number, worker_id, stamp(to.dialect, now), "WorkerLost", _lost_words(worker_id))
    count = "INSERT INTO task_totals (task_name, queue, lost) SELECT task_name, queue, 1 FROM background_tasks AS t"
    if to.dialect != "sqlite":
        noted = f"WITH noted AS ({_LOSE_ATTEMPT} RETURNING task_id)"
        to.run_counted(marked(to, f"{noted} {count} JOIN noted USING (task_id)"), values)
    elif to.run_counted(_LOSE_ATTEMPT, values) == 1:
        to.run(f"{count} WHERE task_id = ?", (task_id,))


def _lost_words(worker_id: str) -> str:
    return f"worker {worker_id} died or was cut off while it had this attempt"


# --- cancel, refuse, reopen -----------------------------------------------------------------------------------------

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


# --- how the statements are passed ----------------------------------------------------------------------------------


def _for_ids(to: Direct, statement: str, task_ids: Sequence[str], *before: Any) -> list[tuple[Any, ...]]:
    values = [stamp(to.dialect, value) if isinstance(value, datetime) else value for value in before]
    if to.dialect != "sqlite":
        return to.run(marked(to, statement) + " = ANY(%s)", [*values, sorted(task_ids)])
    found: list[tuple[Any, ...]] = []
    for first in range(0, len(task_ids), 500):
        part = task_ids[first : first + 500]
        found += to.run(f"{statement} IN ({', '.join('?' * len(part))})", [*values, *part])
    return found


def unstamp(value: Any) -> datetime | None:
    """A time as the database gives it back, aware."""
    if value is None:
        return None
    parsed = datetime.fromisoformat(value) if isinstance(value, str) else value
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
