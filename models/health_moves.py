"""A sample of this machine's health, kept without the ORM: every worker may run the health check, and SQLAlchemy takes
24 MB. The table is models.health.HealthSample.
"""

from datetime import datetime
from typing import Final

import msgspec

from models.direct import Direct, marked, stamp, unstamp


class Sample(msgspec.Struct, frozen=True):
    """A row to be; its columns are described there. sampled_at: aware UTC."""

    task_id: str
    sampled_at: datetime
    hostname: str
    cpu_percent: float
    memory_percent: float
    disk_percent: float
    database_ms: float
    redis_ms: float
    queue_age_s: float


_COLUMNS: Final = Sample.__struct_fields__
_KEEP: Final = (
    f"INSERT INTO health_samples ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
    f" ON CONFLICT (task_id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _COLUMNS[1:])}"
)
# The second condition is that of the index.
_OLDEST: Final = (
    "SELECT created_at FROM background_tasks WHERE status = 'pending' AND status <> 'completed' AND eta IS NULL"
    " ORDER BY task_id LIMIT 1"
)


def keep(to: Direct, sample: Sample) -> None:
    """Store it; one a task, the last counts."""
    values = [stamp(to.dialect, one) if isinstance(one, datetime) else one for one in msgspec.structs.astuple(sample)]
    to.run(marked(to, _KEEP), values)


def oldest_waiting_since(to: Direct) -> datetime | None:
    """When the pending task was accepted that has waited longest, delayed ones left out; None if nothing waits."""
    found = to.run(_OLDEST)
    return unstamp(found[0][0]) if found else None
