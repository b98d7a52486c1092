"""The statements about the rows of worker processes (models.task_tables.WorkerProcess): who is alive.

Each takes a `models.direct` connection and is one statement, that may be made again. Must not: read the clock.
"""

from datetime import datetime
from typing import Final

from models.direct import Direct, stamp

_BEAT: Final = (
    "INSERT INTO workers (worker_id, hostname, pid, threads, started_at, heartbeat_at) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (worker_id) DO UPDATE SET heartbeat_at = excluded.heartbeat_at, started_at = excluded.started_at"
)
_STOP: Final = "UPDATE workers SET stopped_at = ? WHERE worker_id = ?"
_IS_ALIVE: Final = "SELECT 1 FROM workers WHERE worker_id = ? AND heartbeat_at >= ? AND stopped_at IS NULL"


def beat(to: Direct, *, worker_id: str, hostname: str, pid: int, threads: int, started_at: datetime, at: datetime
         ) -> None:  # fmt: skip
    """Write that a worker process is alive at `at` (aware UTC), the first time its row too."""
    times = (stamp(to.dialect, started_at), stamp(to.dialect, at))
    to.run_counted(_sql(to, _BEAT), (worker_id, hostname, pid, threads, *times))


def stop(to: Direct, worker_id: str, at: datetime) -> None:
    """Write that it has stopped."""
    to.run_counted(_sql(to, _STOP), (stamp(to.dialect, at), worker_id))


def is_alive(to: Direct, worker_id: str, since: datetime) -> bool:
    """Whether it has not stopped and was heard of at `since` or later."""
    return bool(to.run(_sql(to, _IS_ALIVE), (worker_id, stamp(to.dialect, since))))


def _sql(to: Direct, statement: str) -> str:
    return statement if to.dialect == "sqlite" else statement.replace("?", "%s")
