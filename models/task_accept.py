"""The move that begins a task's life: → pending. For one row, for thousands, and for one that has an idempotency key.

Must not: be called but through models.task_moves, which says what all moves have in common.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from models import totals
from models.batch import columns_of, unnested
from models.direct import Direct, marked, run_for_ids, stamp
from models.task import DEFAULT_PRIORITY


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
    unnested({name: _POSTGRES_TYPES[name] for name in _COLUMNS})
    + f" {_INTO_TASKS} SELECT v.*, 'pending', 0, 0 FROM v ON CONFLICT (task_id) DO NOTHING"
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
    run_for_ids(to, "UPDATE background_tasks SET enqueued_at = ? WHERE status = 'pending' AND task_id", task_ids, at)
