"""Many tasks at once: enqueue; cancel, retry or delete by ids or by a filter; prune what is old.

Each call acts on at most MAX_TASKS, in batches of BATCH that are committed one by one: a crash, or a database that goes
away, leaves whole batches done and the rest as it was, and the same call again does the rest. Which tasks are meant is
read before the first is touched, so that what is done does not change it; a task that moves meanwhile is decided by its
own compare-and-set.

Must not: act on everything by mistake; a filter with nothing in it is refused.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Literal

from dramatiq import Message

from models import database, direct, task_changes, task_query
from models.database import DatabaseError
from models.retention import Retention
from models.task import TaskStatus
from models.task_moves import NewTask
from models.task_query import Count, TaskFilter
from workers import callboard
from workers.errors import InvalidTask, LedgerUnavailable, OutcomeUnknown
from workers.ledger.cancel import cancel_many
from workers.ledger.reopen import retry_many
from workers.registry import is_duplicate
from workers.tasks import message_of

MAX_TASKS: Final = 10_000
"""Tasks of one call; `more` says that others match."""
BATCH: Final = 500
_CHUNK: Final = 1_000


class Action(StrEnum):
    """What can be done to many."""

    CANCEL = "cancel"
    RETRY = "retry"
    DELETE = "delete"


_STATUSES: Final = {
    Action.CANCEL: (TaskStatus.PENDING, TaskStatus.RUNNING),
    Action.RETRY: (TaskStatus.FAILED,),
    Action.DELETE: (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED),
}
"""What an action is for, where nothing else is said."""


@dataclass(frozen=True)
class Done:
    """What became of a bulk action.

    matched: how many tasks were meant. outcomes: how many of them came to what: for CANCEL `cancelled`, `requested`,
    `ended`, `unknown`; for RETRY `reopened`, `refused`, `key_taken`, `unknown`; for DELETE `deleted`, `kept`. more:
    others match, and the same call again goes on with them.
    """

    action: Action
    matched: int
    outcomes: dict[str, int]
    more: bool = False


@dataclass(frozen=True)
class Item:
    """What became of one task of a bulk enqueue: `accepted`, `duplicate` (task_id is the earlier one's), `invalid`
    (with the field and what was expected) or `unavailable` (the database went away before its turn)."""

    outcome: Literal["accepted", "duplicate", "invalid", "unavailable"]
    task_id: str | None = None
    field: str | None = None
    detail: str | None = None


def count(action: Action, wanted: TaskFilter) -> Count:
    """How many tasks a bulk action would be about; raises InvalidTask for a filter with nothing in it."""
    with database.reading() as session:
        counts = [task_query.counted(session, one) for one in _meant(action, wanted)]
    return Count(sum(one.number for one in counts), any(one.is_estimate for one in counts))


def act(
    action: Action,
    wanted: TaskFilter,
    *,
    by: str = "application",
    on_batch: Callable[[int], None] = lambda _tasks: None,
) -> Done:
    """Cancel, retry or delete the tasks that a filter means, newest first, up to MAX_TASKS.

    Args:
        wanted: where it says neither status nor ids, a cancel is for pending and running tasks, a retry for failed
            ones (not for those that somebody cancelled), and a delete for all that have ended.
        by: who asks, for the rows and their logs.
        on_batch: told after each batch of how many tasks it was.

    Raises:
        InvalidTask: a filter with nothing in it.
        LedgerUnavailable, BusUnavailable: batches before may have been done.
    """
    ids: list[str] = []
    with database.reading() as session:
        for one in _meant(action, wanted):
            ids += task_query.select_ids(session, one, limit=MAX_TASKS + 1 - len(ids))
    more, ids = len(ids) > MAX_TASKS, ids[:MAX_TASKS]
    outcomes: dict[str, int] = {}
    for first in range(0, len(ids), BATCH):
        batch = ids[first : first + BATCH]
        for outcome, number in _ACTIONS[action](batch, by).items():
            outcomes[outcome] = outcomes.get(outcome, 0) + number
        on_batch(len(batch))
    return Done(action, len(ids), outcomes, more)


def prune(*, result_days: int, task_days: int, on_turn: Callable[[int], None] = lambda _tasks: None) -> dict[str, int]:
    """Do at once what upkeep does little by little (models.retention): forget what has ended long ago.

    Args:
        result_days, task_days: how long after its end a task keeps its result, and is kept; 1 or more.
        on_turn: told after each second or so how many tasks went in it.

    Returns:
        How many tasks, results, groups, workers' rows, runs of schedules, samples and alerts went (see Retention.turn).
    """
    if min(result_days, task_days) < 1:
        raise InvalidTask(f"days: expected 1 or more, got {min(result_days, task_days)}", field="days")
    audit_days = callboard.settings.audit_retention_days
    retention = Retention(result_days=result_days, task_days=task_days, audit_days=audit_days)
    total: dict[str, int] = {}
    while True:
        found = retention.turn(datetime.now(UTC))
        more = found.pop("more")
        total = {name: total.get(name, 0) + number for name, number in found.items()}
        on_turn(found["tasks"])
        if not more:
            return total


def _meant(action: Action, wanted: TaskFilter) -> list[TaskFilter]:
    if not wanted.given():
        raise InvalidTask("filter: expected ids, or at least one filter, for instance a status", field="filter")
    if wanted.status is not None or wanted.ids is not None:
        return [wanted]
    return [replace(wanted, status=status) for status in _STATUSES[action]]


def _tally(outcomes: Mapping[str, StrEnum]) -> dict[str, int]:
    found: dict[str, int] = {}
    for outcome in outcomes.values():
        found[outcome.value] = found.get(outcome.value, 0) + 1
    return found


def _delete(ids: Sequence[str], _by: str) -> dict[str, int]:
    try:
        with direct.transaction() as to:
            deleted = task_changes.delete_ended(to, ids, datetime.now(UTC))
    except DatabaseError as error:
        raise LedgerUnavailable(f"not all were deleted: {error}") from error
    return {"deleted": deleted, "kept": len(ids) - deleted}


_ACTIONS: Final[dict[Action, Callable[[Sequence[str], str], dict[str, int]]]] = {
    Action.CANCEL: lambda ids, by: _tally(cancel_many(callboard.broker, ids, by=by)),
    Action.RETRY: lambda ids, by: _tally(retry_many(callboard.broker, ids, by=by)),
    Action.DELETE: _delete,
}


def enqueue_many(items: Sequence[Mapping[str, Any]]) -> list[Item]:
    """Send up to MAX_TASKS tasks; the wrong ones are left out, and each item says what became of it.

    Args:
        items: of each the arguments of `workers.tasks.enqueue` by name, `task_name` at least.

    Raises:
        InvalidTask: no or too many items.
        LedgerUnavailable, OutcomeUnknown: of the first thousand already; after that, items say `unavailable`.
    """
    if not 1 <= len(items) <= MAX_TASKS:
        raise InvalidTask(f"tasks: expected 1–{MAX_TASKS}, got {len(items)}", field="tasks")
    found: dict[int, Item] = {}
    ready: list[tuple[int, Message[Any], int | None, NewTask]] = []
    broker, now = callboard.broker, datetime.now(UTC)
    sent_at_once = broker.is_bus_up
    for index, item in enumerate(items):
        try:
            message, delay_ms = message_of(**{"task_type": None, "params": None, **item})
            row = callboard.ledger.row_of(broker, message, delay_ms=delay_ms, now=now, sent=sent_at_once)
            ready.append((index, message, delay_ms, row))
        except InvalidTask as error:
            found[index] = Item("invalid", field=error.field, detail=str(error))
    for first in range(0, len(ready), _CHUNK):
        part = ready[first : first + _CHUNK]
        try:
            _, messages, delays, rows = zip(*part, strict=True)
            sent = broker.enqueue_many(messages, delays=delays, rows=rows)
        except (LedgerUnavailable, OutcomeUnknown) as error:
            if first == 0:
                raise
            found |= {index: Item("unavailable", detail=str(error)) for index, *_ in ready[first:]}
            break
        for (index, *_), message in zip(part, sent, strict=True):
            found[index] = Item("duplicate" if is_duplicate(message) else "accepted", message.message_id)
    return [found[index] for index in range(len(items))]
