"""What people do with queues: look at them, pause, resume and purge them; for REST and CLI too.

The bus is asked for depths: what it has is what waits. A pause is on the bus only, and is lost with its data. Purging
cancels the pending rows one by one, as `tasks.request_cancel` does: each row says cancelled only when it is certain
that its task does not run. A crash in the middle leaves the rest as it was.

Must not: know the web or the terminal.
"""

import difflib
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from models import database, system_query, task_query
from models.task_tables import WorkerProcess
from workers import callboard
from workers.broker import QueueDepth
from workers.errors import InvalidTask, UnknownQueue
from workers.ledger.cancel import CancelOutcome, cancel

PURGE_MAX: Final = 1_000
"""Tasks that one call purges at most: it is to end within seconds."""
ASK_TIMEOUT_S: Final = 1.0
"""How long the bus is waited for: who looks at queues is told within this that Redis is away."""


def list_queues() -> list[dict[str, Any]]:
    """Every queue that an actor of this code has, by name.

    Returns:
        Of each `name`; `waiting`, `delayed`, `running` (with those that a worker has just taken) and `dead` messages;
        `oldest_age_s` of those that wait, `next_due_s` until the next delayed one (None: there is none); `paused`;
        `priorities`: waiting and oldest_age_s of each that has any, highest first; `workers`: how many live worker
        processes serve it.

    Raises:
        BusUnavailable, BusFull, BusRefused, DatabaseError: it cannot be said.
    """
    alive = _live_workers()
    return [_shown(_depth(name), alive) for name in sorted(callboard.broker.get_declared_queues())]


def get_queue(name: str) -> dict[str, Any]:
    """One of `list_queues`. Raises UnknownQueue, and as `list_queues`."""
    check_queue(name)
    return _shown(_depth(name), _live_workers())


def pause_queue(name: str) -> dict[str, Any]:
    """Hand out nothing of it until `resume_queue`; what runs goes on, and sending does. Returns as `get_queue`."""
    check_queue(name)
    callboard.broker.pause_queue(name)
    return get_queue(name)


def resume_queue(name: str) -> dict[str, Any]:
    """Hand it out again. Returns, raises: as `get_queue`."""
    check_queue(name)
    callboard.broker.resume_queue(name)
    return get_queue(name)


def purge_queue(name: str, *, by: str = "application", limit: int = PURGE_MAX) -> dict[str, Any]:
    """Cancel the pending tasks of a queue, oldest first, delayed ones too. What runs goes on.

    Args:
        by: who asks, for the tasks' reason.
        limit: 1–1000 tasks of this call; call again while something is `remaining`.

    Returns:
        {"queue", "cancelled": those that will not run, "requested": those that a worker has just taken and that are
        asked to end, or that upkeep cancels once Redis is back, "remaining": pending ones that were not looked at}

    Raises:
        UnknownQueue, InvalidTask: nothing was done.
        LedgerUnavailable, DatabaseError: some may have been cancelled.
    """
    check_queue(name)
    if isinstance(limit, bool) or not 1 <= limit <= PURGE_MAX:
        raise InvalidTask(f"limit: expected 1–{PURGE_MAX}, got {limit!r}", field="limit")
    with database.reading() as session:
        task_ids = system_query.to_purge(session, name, limit=limit)
    outcomes = [cancel(callboard.broker, task_id, by=by) for task_id in task_ids]
    with database.reading() as session:
        remaining = system_query.count_to_purge(session, name)
    counted = {one: outcomes.count(one) for one in (CancelOutcome.CANCELLED, CancelOutcome.REQUESTED)}
    return {"queue": name, **{str(one): count for one, count in counted.items()}, "remaining": remaining}


def check_queue(name: str) -> None:
    """Raises UnknownQueue, with the nearest names, if no actor of this code uses it."""
    known = callboard.broker.get_declared_queues()
    if name not in known:
        near = difflib.get_close_matches(name[:100], sorted(known), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(sorted(known))}"
        raise UnknownQueue(f"there is no queue {name[:100]!r}: {hint}")


def _depth(name: str) -> QueueDepth:
    return callboard.broker.depth(name, timeout_s=ASK_TIMEOUT_S)


def _live_workers() -> list[WorkerProcess]:
    with database.reading() as session:
        return task_query.live_workers(session, callboard.ledger.presence.alive_since(datetime.now(UTC)))


def _shown(depth: QueueDepth, alive: list[WorkerProcess]) -> dict[str, Any]:
    return {
        "name": depth.queue_name,
        "waiting": depth.waiting,
        "delayed": depth.delayed,
        "running": depth.leased,
        "dead": depth.dead,
        "oldest_age_s": depth.oldest_age_s,
        "next_due_s": depth.next_due_s,
        "paused": depth.paused,
        "priorities": [asdict(one) for one in depth.priorities],
        "workers": sum(worker.serves(depth.queue_name) for worker in alive),
    }
