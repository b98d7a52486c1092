"""What serves tasks, for people and programs outside: worker processes, actors, locks, and the groups of tasks.

Must not: know the web or the terminal, or change anything.
"""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

import dramatiq

from models import database, system_query
from models.task import Task
from workers import callboard
from workers.broker.lock import LockMetrics
from workers.params import model_of
from workers.registry import aliases_of, default_priority_of, function_of, source_of, type_of

SELF_TEST: Final = "diagnostics.run_self_test"
"""The actor that proves that a worker works."""
PAGE_MAX: Final = 1_000
RUNNING_MAX: Final = 10_000
"""Running tasks that are shown with their workers."""
ASK_TIMEOUT_S: Final = 1.0


def list_workers(*, alive: bool | None = None, limit: int = 100, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Worker processes, last heard of first, and how many there are.

    Args:
        alive: True: only those that are; else also those that have stopped or died in the last days.
        limit: 1–1000.

    Returns:
        Of each `worker_id`, `hostname`, `pid`, `threads`, `queues` (None: not known), `started_at`, `heartbeat_at`,
        `stopped_at` (None: it did not say so), `alive`, and `tasks`, those that run there.

    Raises:
        DatabaseError: it cannot be said.
    """
    since = callboard.ledger.presence.alive_since(datetime.now(UTC))
    with database.reading() as session:
        only = since if alive else None
        found = system_query.workers(session, limit=limit, offset=offset, alive_since=only)
        total = system_query.count_workers(session, alive_since=only)
        running = system_query.running(session, [one.worker_id for one in found], limit=RUNNING_MAX)
    rows = [
        {
            **one.model_dump(),
            "alive": one.stopped_at is None and one.heartbeat_at >= since,
            "tasks": [_brief(task) for task in running if task.worker_id == one.worker_id],
        }
        for one in found
    ]
    return rows, total


def list_actors() -> list[dict[str, Any]]:
    """Every actor of this code, by name; see `describe_actor`."""
    return [describe_actor(actor) for _, actor in sorted(callboard.registry.actors.items())]


def describe_actor(actor: dramatiq.Actor[..., Any]) -> dict[str, Any]:
    """An actor: `name`, `aliases` (legacy names), `type`, `queue`, `priority` (1–10), `source` (module:line), `doc`,
    `params` (JSON Schema of its parameters), and `limits`, those that it sets itself (durations in seconds)."""
    function = function_of(actor)
    options = actor.options
    limits: dict[str, Any] = {
        name: options[name]
        for name in ("max_retries", "concurrency", "memory_limit_mb", "isolated", "on_lost")
        if options.get(name) is not None
    }
    for name in ("time_limit", "hard_time_limit", "min_backoff", "max_backoff"):
        if options.get(name) is not None:
            limits[f"{name}_s"] = options[name] / 1000
    if options.get("rate_limit") is not None:
        limits["rate_limit"] = f"{options['rate_limit'][0]} in {options['rate_limit'][1]:g} s"
    if options.get("exclusive") is not None:
        limits["exclusive"] = options["exclusive"].name
    return {
        "name": actor.actor_name,
        "aliases": list(aliases_of(actor)),
        "type": type_of(actor),
        "queue": actor.queue_name,
        "priority": default_priority_of(actor),
        "source": source_of(actor),
        "doc": (function.__doc__ or "").strip(),
        "limits": limits,
        "params": model_of(function).model_json_schema(),
    }


def list_locks() -> list[dict[str, Any]]:
    """Every lock that was ever taken since Redis's data began, by name.

    Returns:
        Of each its `name`; `holder`: None, or task_id, token and expires_in_s (unless renewed); and what was counted:
        times `acquired`, tasks that found it held (`contended`), times `lost`, and `waited_s`, all waiting together.

    Raises:
        BusUnavailable, BusFull, BusRefused: it cannot be said.
    """
    locks = callboard.broker.locks
    holdings = {one.name: one for one in locks.held(timeout_s=ASK_TIMEOUT_S)}
    counted = locks.metrics()
    rows = []
    for name in sorted(holdings.keys() | counted.keys()):
        of, holding = counted.get(name, LockMetrics()), holdings.get(name)
        holder = None if holding is None else {key: value for key, value in asdict(holding).items() if key != "name"}
        counters = {"acquired": of.acquired, "contended": of.held, "lost": of.lost, "waited_s": of.waited_s}
        rows.append({"name": name, "holder": holder, **counters})
    return rows


def get_group(group_id: str, *, limit: int = 100, offset: int = 0) -> dict[str, Any] | None:
    """A group of tasks; None if there is none.

    Args:
        limit: 1–1000 members, oldest first.

    Returns:
        `group_id`; `size` (members that have to complete; of a group without callbacks, those that there are);
        `by_status`: counts; `parent_id`, `created_at` and `completed_at`, known of a group with callbacks;
        `tasks`: a page of its members.

    Raises:
        DatabaseError: it cannot be said.
    """
    with database.reading() as session:
        written, by_status = system_query.group(session, group_id)
        if written is None and not by_status:
            return None
        tasks = system_query.members(session, group_id, limit=limit, offset=offset)
    return {
        "group_id": group_id,
        "size": sum(by_status.values()) if written is None else written.size,
        "by_status": by_status,
        "parent_id": written and written.parent_id,
        "created_at": written and written.created_at,
        "completed_at": written and written.completed_at,
        "tasks": [_brief(task) for task in tasks],
    }


def _brief(task: Task) -> dict[str, Any]:
    names = ("task_id", "task_name", "queue", "priority", "status", "attempt", "progress", "created_at", "started_at")
    return {name: getattr(task, name) for name in names}
