"""Why a pending task is not running yet, in words for people. Must not: change anything.

The first of these that holds: somebody wants it cancelled; its time has not come; Redis is away; its message is not on
the bus; its queue is paused; no worker is alive, or none that serves its queue; this code does not have its actor; its
actor is at its limit; the lock that it needs is held. Else it waits for its turn. The bus is asked only about a task
that is due.
"""

from datetime import datetime
from typing import Final

from models import chore_query, database, task_query
from models.task import Task, TaskStatus
from models.task_query import TaskFilter
from workers import callboard
from workers.broker import BusFull, BusRefused, BusUnavailable

_ASK_TIMEOUT_S: Final = 1.0
"""A person waits for the answer, and with Redis away the answer is just that."""
_TIME: Final = "%Y-%m-%d %H:%M:%S UTC"


def waiting_on(task: Task, now: datetime) -> str | None:
    """What a task waits for at `now` (aware UTC); None if it runs or has ended. Raises DatabaseError."""
    if task.status != TaskStatus.PENDING:
        return None
    try:
        return _its_own_time(task, now) or _the_bus(task) or _a_worker(task, now) or _its_turn(task)
    except (BusUnavailable, BusFull, BusRefused):
        return "Redis, which does not answer: the task goes out by itself when it is back"


def _its_own_time(task: Task, now: datetime) -> str | None:
    if task.cancel_requested_at is not None:
        return "its cancellation, which was requested and is carried out within seconds once Redis is there"
    if task.eta is None or task.eta <= now:
        return None
    if task.retry_count:
        return f"its retry {task.retry_count} of {task.max_retries}, due at {task.eta:{_TIME}}"
    return f"its time: it is delayed until {task.eta:{_TIME}}"


def _the_bus(task: Task) -> str | None:
    is_paused = callboard.broker.depth(task.queue, timeout_s=_ASK_TIMEOUT_S).paused
    if task.enqueued_at is None:
        with database.reading() as session:
            failed = next((chore.error for chore in chore_query.chores(session) if chore.name == "relay"), None)
        return f"the relay, which {'puts it on the bus within seconds' if failed is None else f'fails: {failed}'}"
    return f"its queue {task.queue!r}, which is paused" if is_paused else None


def _a_worker(task: Task, now: datetime) -> str | None:
    with database.reading() as session:
        alive = task_query.live_workers(session, callboard.ledger.presence.alive_since(now))
    if not alive:
        return "a worker: none is alive, start one with `callboard worker`"
    if not any(one.serves(task.queue) for one in alive):
        return f"a worker that serves queue {task.queue!r}: none of the {len(alive)} that are alive does"
    return None


def _its_turn(task: Task) -> str:
    actor = callboard.registry.find(task.task_name)
    if actor is None:
        return f"a worker whose code has the actor {task.task_name!r}; the code here does not"
    concurrency, rate = actor.options.get("concurrency"), actor.options.get("rate_limit")
    if concurrency is not None:
        with database.reading() as session:
            running = task_query.count(session, TaskFilter(status=TaskStatus.RUNNING, task_name=task.task_name))
        if running >= concurrency:
            return f"its actor's limit: {running} of {concurrency} run"
    lock = actor.options.get("exclusive")
    if lock is not None:
        for one in callboard.broker.locks.held(timeout_s=_ASK_TIMEOUT_S):
            if one.name == lock.name and one.task_id != task.task_id:
                return f"lock {one.name}, which task {one.task_id} holds"
    limits = [] if concurrency is None else [f"{concurrency} at a time"]
    limits += [] if rate is None else [f"{rate[0]} starts in {rate[1]:g} s"]
    limited = f" and its actor's limit of {' and '.join(limits)}" if limits else ""
    return f"its turn in queue {task.queue!r} at a worker that serves it{limited}"
