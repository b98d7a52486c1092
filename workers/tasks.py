"""The Python interface besides actors: enqueue by name, look up, list, count, cancel.

REST, CLI and dashboard act through these functions too, so what one can do the others can, with the same words.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from dramatiq import Message

from models import database, task_query
from models.redaction import redact, secrets_in
from models.task import Task, TaskStatus, TaskType
from models.task_query import TaskFilter
from models.text import clean_text
from workers import callboard, waiting
from workers.errors import InvalidTask, SendError
from workers.ledger.cancel import CancelOutcome, cancel
from workers.params import bind, secret_parameters, validate
from workers.registry import check_priority, check_type, function_of, is_duplicate, type_of

__all__ = [
    "CancelOutcome",
    "TaskStatus",
    "TaskType",
    "cancel_task",
    "enqueue",
    "enqueue_task",
    "get_task",
    "get_task_count",
    "get_task_status",
    "is_duplicate",
    "list_tasks",
    "request_cancel",
    "send_many",
    "waiting_on",
]

MAX_RETRIES_BOUND = 1_000
MAX_DELAY_S = 10 * 366 * 24 * 3600.0


def enqueue_task(
    task_name: str,
    task_type: str | None = None,
    params: Mapping[str, Any] | None = None,
    priority: int | None = None,
    max_retries: int | None = None,
    *,
    delay_s: float | None = None,
    tags: list[str] | None = None,
    correlation_id: str | None = None,
    idempotency_key: str | None = None,
    unique_for_s: float | None = None,
) -> str:
    """Send a task by its actor's name or alias, with parameters from outside; see `enqueue`.

    Returns:
        The task's id; with an idempotency key that another task has, that one's.
    """
    return enqueue(
        task_name,
        task_type,
        params,
        priority,
        max_retries,
        delay_s=delay_s,
        tags=tags,
        correlation_id=correlation_id,
        idempotency_key=idempotency_key,
        unique_for_s=unique_for_s,
    ).message_id


def enqueue(
    task_name: str,
    task_type: str | None = None,
    params: Mapping[str, Any] | None = None,
    priority: int | None = None,
    max_retries: int | None = None,
    *,
    delay_s: float | None = None,
    tags: list[str] | None = None,
    correlation_id: str | None = None,
    idempotency_key: str | None = None,
    unique_for_s: float | None = None,
) -> Message[Any]:
    """Send a task by its actor's name or alias, with parameters from outside.

    Args:
        task_name: canonical or legacy name.
        task_type: if given, must be the actor's.
        params: named arguments; checked and converted by the actor's signature.
        priority: 1–10, higher first; by default the actor's.
        max_retries: 0–1000; by default the actor's.
        delay_s: not before this many seconds from now.
        idempotency_key: while a task with this key is pending or running, no second one is sent.
        unique_for_s: nor for this many seconds after the first was sent.

    Returns:
        The message; `is_duplicate(message)`: it is that of the earlier task with the same key, and nothing was sent.

    Raises:
        InvalidTask: with `field`, what was expected, and the mend.
        LedgerUnavailable, OutcomeUnknown: see workers.errors. With Redis away the task goes out when it is back.
    """
    actor = callboard.registry.resolve(task_name)
    if task_type is not None and check_type(task_type) != type_of(actor):
        raise InvalidTask(f"task_type: {actor.actor_name} is of type {type_of(actor)}, got {str(task_type)!r}: "
                          "leave it out or correct it", field="task_type")  # fmt: skip
    if priority is not None:
        check_priority(priority)
    if max_retries is not None and not 0 <= max_retries <= MAX_RETRIES_BOUND:
        raise InvalidTask(f"max_retries: expected 0–{MAX_RETRIES_BOUND}, got {max_retries}", field="max_retries")
    if delay_s is not None and not 0 <= delay_s <= MAX_DELAY_S:
        raise InvalidTask(f"delay_s: expected 0–{MAX_DELAY_S:.0f} seconds, got {delay_s}", field="delay_s")
    options: dict[str, Any] = {
        "priority": priority,
        "max_retries": max_retries,
        "tags": tags,
        "correlation_id": correlation_id,
        "idempotency_key": idempotency_key,
        "unique_for": unique_for_s,
    }
    return actor.send_with_options(
        kwargs=validate(function_of(actor), params or {}),
        delay=None if not delay_s else timedelta(seconds=delay_s),
        **{name: value for name, value in options.items() if value is not None},
    )


def get_task(task_id: str) -> Task | None:
    """The row, or None."""
    with database.reading() as session:
        return task_query.get(session, task_id)


def get_task_status(task_id: str) -> dict[str, Any] | None:
    """The row as a dict, its parameters by name; None if there is none."""
    task = get_task(task_id)
    return None if task is None else as_dict(task)


def list_tasks(
    status: TaskStatus | str | None = None,
    task_type: TaskType | str | None = None,
    limit: int = 100,
    offset: int = 0,
) -> list[dict[str, Any]]:
    """Rows as dicts, newest first.

    Args:
        limit: 1–1000.
        offset: rows to pass over.
    """
    with database.reading() as session:
        return [
            as_dict(task)
            for task in task_query.page(session, make_filter(status, task_type), limit=limit, offset=offset)
        ]


def get_task_count(status: TaskStatus | str | None = None, task_type: TaskType | str | None = None) -> int:
    """How many rows match."""
    with database.reading() as session:
        return task_query.count(session, make_filter(status, task_type))


def cancel_task(task_id: str, *, by: str = "application") -> bool:
    """Cancel a task; True if it is cancelled or its worker has been asked to end it (`request_cancel` says which)."""
    return request_cancel(task_id, by=by) in (CancelOutcome.CANCELLED, CancelOutcome.REQUESTED)


def request_cancel(task_id: str, *, by: str = "application") -> CancelOutcome:
    """Cancel a task in whatever state it is.

    Returns:
        CANCELLED: it will not run (again). REQUESTED: a worker has it and ends it, or the bus is down and upkeep does
        it later. ENDED, UNKNOWN: nothing to cancel.

    Raises:
        LedgerUnavailable: nothing was asked.
    """
    return cancel(callboard.broker, clean_text(task_id, 1_000), by=by)


def waiting_on(task_id: str) -> str | None:
    """Why a pending task is not running yet, in words; None if it runs, has ended, or is not there (see waiting)."""
    task = get_task(task_id)
    return None if task is None else waiting.waiting_on(task, datetime.now(UTC))


def send_many(messages: Sequence[Message[Any]], *, delay: timedelta | None = None) -> list[str]:
    """Send messages made by `actor.message(...)`: one transaction of the ledger and one call of the bus a thousand.

    Returns:
        Their ids, in order.

    Raises:
        InvalidTask: one of them is wrong; nothing was sent.
        LedgerUnavailable: the ids before the error's chunk are sent, sending all again is safe.
    """
    delay_ms = None if delay is None else round(delay.total_seconds() * 1000)
    return [message.message_id for message in callboard.broker.enqueue_many(messages, delay=delay_ms)]


def make_filter(
    status: TaskStatus | str | None = None,
    task_type: TaskType | str | None = None,
    task_name: str | None = None,
) -> TaskFilter:
    """A filter from text; raises InvalidTask for a status or type that does not exist."""
    try:
        checked_status = None if status is None else TaskStatus(status)
    except ValueError:
        expected = ", ".join(TaskStatus)
        raise InvalidTask(f"status: expected one of {expected}; got {status!r}", field="status") from None
    return TaskFilter(
        status=checked_status,
        task_type=None if task_type is None else check_type(task_type),
        task_name=task_name and callboard.registry.aliases.get(task_name, task_name),
    )


def as_dict(task: Task) -> dict[str, Any]:
    """A row for people and programs outside: all columns, `params` as one flat object of named arguments,
    secrets redacted."""
    shown = {name: getattr(task, name) for name in Task.model_fields if name != "options"}
    shown["params"], shown["result"] = _without_secrets(task)
    return shown


def _without_secrets(task: Task) -> tuple[dict[str, Any], Any]:
    params = _named_params(task)
    actor = callboard.registry.find(task.task_name)
    secret_names = frozenset() if actor is None else secret_parameters(function_of(actor))
    return redact(params, secret_names), redact(task.result, (), secrets_in(params, secret_names))


def _named_params(task: Task) -> dict[str, Any]:
    args, kwargs = task.params.get("args", []), task.params.get("kwargs", {})
    actor = callboard.registry.find(task.task_name)
    if not args or actor is None:
        return {**{f"arg{index}": value for index, value in enumerate(args)}, **kwargs}
    try:
        return bind(function_of(actor), tuple(args), kwargs)
    except SendError:
        return {"args": args, **kwargs}
