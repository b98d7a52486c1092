"""Groups with completion callbacks: which are complete. Counted from the rows of their members, each once.

    begun ──all `size` members completed──→ completed, in one transaction with the rows of its callbacks

A member that ran twice is one row, and so counts once; one that failed or was cancelled leaves its group open until an
explicit retry completes it. `complete` made again, or by two at once, gives each group to one of them only.

Must not: know callbacks, messages or the bus.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from models.direct import Direct, marked, stamp
from models.task_moves import unstamp


class CompleteGroup(msgspec.Struct, frozen=True):
    """A group all of whose members are completed. options: of one of its members."""

    group_id: str
    parent_id: str | None
    correlation_id: str | None
    created_at: datetime
    options: dict[str, Any]


_BEGIN: Final = (
    "INSERT INTO task_groups (group_id, size, parent_id, correlation_id, created_at) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (group_id) DO NOTHING"
)
_COMPLETE: Final = (
    "UPDATE task_groups SET completed_at = ? WHERE group_id = ? AND completed_at IS NULL AND size <="
    " (SELECT count(*) FROM background_tasks AS t WHERE t.group_id = task_groups.group_id AND t.status = 'completed')"
    " RETURNING parent_id, correlation_id, created_at"
)
_OPTIONS: Final = "SELECT options FROM background_tasks WHERE group_id = ? LIMIT 1"


def begin(
    to: Direct, group_id: str, size: int, *, parent_id: str | None, correlation_id: str | None, now: datetime
) -> bool:
    """Remember a group; False if it is there already."""
    values = (group_id, size, parent_id, correlation_id, stamp(to.dialect, now))
    return to.run_counted(marked(to, _BEGIN), values) == 1


def complete(to: Direct, group_ids: Sequence[str], now: datetime) -> list[CompleteGroup]:
    """begun → completed: of these, those that are complete and were not before."""
    done = []
    for group_id in group_ids:
        for parent_id, correlation_id, created in to.run(marked(to, _COMPLETE), (stamp(to.dialect, now), group_id)):
            created_at = unstamp(created)
            assert created_at is not None
            found: Any = next((row[0] for row in to.run(marked(to, _OPTIONS), (group_id,))), {})
            options = json.loads(found) if isinstance(found, str) else found
            done.append(CompleteGroup(group_id, parent_id, correlation_id, created_at, options))
    return done


def open_groups(to: Direct, *, after_id: str, limit: int) -> list[str]:
    """Groups that are not completed, in the order of their ids, a page."""
    sql = "SELECT group_id FROM task_groups WHERE completed_at IS NULL AND group_id > ? ORDER BY group_id LIMIT ?"
    return [row[0] for row in to.run(marked(to, sql), (after_id, limit))]
