"""The statements about the rows of worker processes (models.task_tables.WorkerProcess): who is alive.

Each takes a `models.direct` connection and is one statement, that may be made again. Must not: read the clock.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from models.direct import Direct, marked, stamp

_BEAT: Final = (
    "INSERT INTO workers (worker_id, hostname, pid, threads, queues, started_at, heartbeat_at)"
    " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (worker_id) DO UPDATE SET heartbeat_at = excluded.heartbeat_at,"
    " started_at = excluded.started_at, queues = excluded.queues"
)
_STOP: Final = "UPDATE workers SET stopped_at = ? WHERE worker_id = ?"
_IS_ALIVE: Final = "SELECT 1 FROM workers WHERE worker_id = ? AND heartbeat_at >= ? AND stopped_at IS NULL"
_COUNT_ALIVE: Final = "SELECT count(*) FROM workers WHERE heartbeat_at >= ? AND stopped_at IS NULL"


def beat(
    to: Direct,
    *,
    worker_id: str,
    hostname: str,
    pid: int,
    threads: int,
    queues: Sequence[str] | None,
    started_at: datetime,
    at: datetime,
) -> None:
    """Write that a worker process is alive at `at` (aware UTC), the first time its row too.

    Args:
        queues: those that it serves; None: not known.
    """
    served = None if queues is None else json.dumps(list(queues))
    times = (stamp(to.dialect, started_at), stamp(to.dialect, at))
    to.run_counted(marked(to, _BEAT), (worker_id, hostname, pid, threads, served, *times))


def stop(to: Direct, worker_id: str, at: datetime) -> None:
    """Write that it has stopped."""
    to.run_counted(marked(to, _STOP), (stamp(to.dialect, at), worker_id))


def is_alive(to: Direct, worker_id: str, since: datetime) -> bool:
    """Whether it has not stopped and was heard of at `since` or later."""
    return bool(to.run(marked(to, _IS_ALIVE), (worker_id, stamp(to.dialect, since))))


def count_alive(to: Direct, since: datetime) -> int:
    """How many have not stopped and were heard of at `since` or later."""
    return int(to.run(marked(to, _COUNT_ALIVE), (stamp(to.dialect, since),))[0][0])
