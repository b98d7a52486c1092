"""The Python interface besides actors: enqueue by name, look up, list, count, cancel, retry, change. (Many at once:
workers.bulk.)

REST, CLI and dashboard act through these functions too, so what one can do the others can, with the same words.
"""

import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from dramatiq import Message

from models import database, task_query
from models.redaction import redact, secrets_in
from models.task import Task, TaskStatus, TaskType
from models.task_filter import MAX_IDS, Q_MAX_CHARS
from models.task_query import Count, InvalidQuery, Page, TaskFilter
from models.text import clean_text
from workers import callboard, waiting
from workers.errors import InvalidTask, SendError, TaskRefused
from workers.ledger.cancel import CancelOutcome, cancel
from workers.ledger.change import ChangeOutcome, change
from workers.ledger.reopen import RetryOutcome, retry_many
from workers.options import check_priority
from workers.params import bind, secret_parameters, validate
from workers.registry import check_type, function_of, is_duplicate, type_of

__all__ = [
    "CancelOutcome",
    "TaskFilter",
    "TaskStatus",
    "TaskType",
    "attempts",
    "cancel_task",
    "change_task",
    "count_tasks",
    "enqueue",
    "enqueue_task",
    "find_and_count",
    "find_tasks",
    "get_task",
    "get_task_count",
    "get_task_status",
    "is_duplicate",
    "list_tasks",
    "logs",
    "make_filter",
    "request_cancel",
    "retry_task",
    "send_many",
    "waiting_on",
]

MAX_RETRIES_BOUND = 1_000
KILLED_WITHIN_S: Final = 3.0
"""A worker looks for cancellations each second."""
MAX_DELAY_S = 10 * 366 * 24 * 3600.0


def enqueue_task(
    task_name: str,
    task_type: str | None = None,
    params: Mapping[str, Any] | None = None,
    priority: int | None = None,
    max_retries: int | None = None,
    *,
    delay_s: float | None = None,
    eta: datetime | None = None,
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
        eta=eta,
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
    eta: datetime | None = None,
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
        eta: not before this aware time; instead of delay_s. One that has passed is now.
        idempotency_key: while a task with this key is pending or running, no second one is sent.
        unique_for_s: nor for this many seconds after the first was sent.

    Returns:
        The message; `is_duplicate(message)`: it is that of the earlier task with the same key, and nothing was sent.

    Raises:
        InvalidTask: with `field`, what was expected, and the mend.
        LedgerUnavailable, OutcomeUnknown: see workers.errors. With Redis away the task goes out when it is back.
    """
    message, delay_ms = message_of(
        task_name,
        task_type,
        params,
        delay_s=delay_s,
        eta=eta,
        priority=priority,
        max_retries=max_retries,
        tags=tags,
        correlation_id=correlation_id,
        idempotency_key=idempotency_key,
        unique_for=unique_for_s,
    )
    return callboard.broker.enqueue(message, delay=delay_ms)


def message_of(
    task_name: str,
    task_type: str | None,
    params: Mapping[str, Any] | None,
    *,
    delay_s: float | None = None,
    eta: datetime | None = None,
    **options: Any,
) -> tuple[Message[Any], int | None]:
    """What `enqueue` sends: the message, and its delay in milliseconds. Raises InvalidTask."""
    actor = callboard.registry.resolve(task_name)
    if task_type is not None and check_type(task_type) != type_of(actor):
        raise InvalidTask(f"task_type: {actor.actor_name} is of type {type_of(actor)}, got {str(task_type)!r}: "
                          "leave it out or correct it", field="task_type")  # fmt: skip
    max_retries = options.get("max_retries")
    if max_retries is not None and not 0 <= max_retries <= MAX_RETRIES_BOUND:
        raise InvalidTask(f"max_retries: expected 0–{MAX_RETRIES_BOUND}, got {max_retries}", field="max_retries")
    if eta is not None:
        if delay_s is not None:
            raise InvalidTask("eta: expected either eta or delay_s, got both", field="eta")
        delay_s = max(0.0, (_aware(eta, "eta") - datetime.now(UTC)).total_seconds())
        if delay_s > MAX_DELAY_S:
            raise InvalidTask(f"eta: expected a time within the next ten years, got {eta.isoformat()}", field="eta")
    if delay_s is not None and not 0 <= delay_s <= MAX_DELAY_S:
        raise InvalidTask(f"delay_s: expected 0–{MAX_DELAY_S:.0f} seconds, got {delay_s}", field="delay_s")
    given = {name: value for name, value in options.items() if value is not None}
    message = actor.message_with_options(kwargs=validate(function_of(actor), params or {}), **given)
    return message, round(delay_s * 1000) if delay_s else None


def _aware(at: datetime, field: str) -> datetime:
    if at.tzinfo is None:
        raise InvalidTask(f"{field}: expected a time with its offset, for instance {at.isoformat()}Z", field=field)
    if not 1970 < at.year < 9000:  # why: near its ends the calendar has no room for an offset or a delay.
        raise InvalidTask(f"{field}: expected a year from 1971 to 8999, got {at.year}", field=field)
    return at.astimezone(UTC)


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
    return [as_dict(task) for task in find_tasks(make_filter(status, task_type), limit=limit, offset=offset).rows]


def find_tasks(
    wanted: TaskFilter | None = None,
    *,
    limit: int = 100,
    offset: int = 0,
    sort: str = "-created_at",
    cursor: str | None = None,
) -> Page:
    """A page of tasks; see models.task_query.search. Raises InvalidTask naming what is wrong."""
    try:
        with database.reading() as session:
            return task_query.search(
                session, wanted or TaskFilter(), limit=limit, offset=offset, sort=sort, cursor=cursor
            )
    except InvalidQuery as error:
        raise InvalidTask(str(error), field=error.field) from None


def find_and_count(
    wanted: TaskFilter | None = None, *, limit: int = 100, offset: int = 0, sort: str = "-created_at"
) -> tuple[Page, Count]:
    """A page of tasks, and how many match, as exactly as can be said while somebody waits for the page: see
    models.task_query.search_and_count. Raises InvalidTask naming what is wrong."""
    try:
        with database.reading() as session:
            return task_query.search_and_count(session, wanted or TaskFilter(), limit=limit, offset=offset, sort=sort)
    except InvalidQuery as error:
        raise InvalidTask(str(error), field=error.field) from None


def count_tasks(wanted: TaskFilter | None = None) -> Count:
    """How many tasks match, and whether that is an estimate: above 100,000, or where a second does not do to count."""
    with database.reading() as session:
        return task_query.counted(session, wanted or TaskFilter())


def get_task_count(status: TaskStatus | str | None = None, task_type: TaskType | str | None = None) -> int:
    """How many rows match; above 100,000 about how many (see `count_tasks`)."""
    return count_tasks(make_filter(status, task_type)).number


def attempts(task_id: str) -> list[dict[str, Any]]:
    """A task's attempts, first to last: number, worker_id, started_at, finished_at, outcome (None: it runs),
    error_type, error_message, traceback."""
    with database.reading() as session:
        return [one.model_dump(exclude={"task_id"}) for one in task_query.attempts(session, task_id)]


def logs(task_id: str, *, after_id: int = 0, limit: int = 1_000) -> list[dict[str, Any]]:
    """A task's log lines in order: id, attempt, logged_at, level, message. after_id: only those after that one."""
    with database.reading() as session:
        lines = task_query.logs(session, task_id, after_id=after_id, limit=limit)
        return [line.model_dump(exclude={"task_id"}) for line in lines]


def cancel_task(task_id: str, *, by: str = "application") -> bool:
    """Cancel a task; True if it is cancelled or its worker has been asked to end it (`request_cancel` says which)."""
    return request_cancel(task_id, by=by) not in (CancelOutcome.ENDED, CancelOutcome.UNKNOWN)


def request_cancel(task_id: str, *, by: str = "application") -> CancelOutcome:
    """Cancel a task in whatever state it is.

    Returns:
        CANCELLED: it will not run (again). REQUESTED: a worker has it and ends it, or the bus is down and upkeep does
        it later. KILLED: it ran `isolated`, and its process was killed; for that this waits up to KILLED_WITHIN_S.
        ENDED, UNKNOWN: nothing to cancel.

    Raises:
        LedgerUnavailable: nothing was asked.
    """
    task_id = clean_text(task_id, 1_000)
    outcome = cancel(callboard.broker, task_id, by=by)
    return CancelOutcome.KILLED if outcome is CancelOutcome.REQUESTED and _is_killed(task_id) else outcome


def _is_killed(task_id: str) -> bool:
    """Whether a task that is to be cancelled runs in a process of its own, and that is killed for it within a time."""
    until_s = time.monotonic() + KILLED_WITHIN_S
    while (task := get_task(task_id)) is not None and time.monotonic() < until_s:
        actor = callboard.registry.find(task.task_name)
        if actor is None or not actor.options.get("isolated") or task.status == TaskStatus.PENDING:
            return False
        if task.status != TaskStatus.RUNNING:
            return task.status == TaskStatus.CANCELLED
        time.sleep(0.05)
    return False


def retry_task(task_id: str, *, by: str = "application") -> None:
    """Have a failed or cancelled task run again, under its own id: retries counted anew, attempts numbered on.

    Raises:
        TaskRefused: it has another status, or another task has its idempotency key.
        InvalidTask: there is no such task.
        LedgerUnavailable, BusUnavailable: nothing was changed.
    """
    task_id = clean_text(task_id, 1_000)
    outcome = retry_many(callboard.broker, [task_id], by=by)[task_id]
    if outcome is RetryOutcome.UNKNOWN:
        raise _unknown(task_id)
    if outcome is RetryOutcome.KEY_TAKEN:
        raise TaskRefused(f"task {task_id} cannot be retried: another task has its idempotency key: cancel that one, "
                          "or wait for its end")  # fmt: skip
    if outcome is RetryOutcome.REFUSED:
        raise TaskRefused(f"task {task_id} is {_status_of(task_id)}: only failed and cancelled tasks can be retried; "
                          "to run it again, enqueue it anew")  # fmt: skip


UNCHANGED: Final = object()


def change_task(task_id: str, *, priority: int | None = None, eta: datetime | object | None = UNCHANGED) -> None:
    """Change a task that waits; one that is delayed, or waits for a retry, too.

    Args:
        priority: 1–10; None leaves it.
        eta: not before this aware time; None: at once.

    Raises:
        TaskRefused: a worker has it, or it has ended.
        InvalidTask: there is no such task, or no such priority or time.
        LedgerUnavailable, BusUnavailable: nothing was changed.
    """
    task_id = clean_text(task_id, 1_000)
    changes: dict[str, Any] = {}
    if priority is not None:
        changes["priority"] = check_priority(priority)
    if eta is not UNCHANGED:
        changes["eta"] = _aware(eta, "eta") if isinstance(eta, datetime) else None
        if changes["eta"] is not None and changes["eta"] > datetime.now(UTC) + timedelta(seconds=MAX_DELAY_S):
            raise InvalidTask("eta: expected a time within the next ten years", field="eta")
    if not changes:
        raise InvalidTask("expected priority or eta, got neither", field="priority")
    match change(callboard.broker, task_id, changes):
        case ChangeOutcome.UNKNOWN:
            raise _unknown(task_id)
        case ChangeOutcome.BUSY:
            raise TaskRefused(f"task {task_id} is just being sent: try again in some seconds")
        case ChangeOutcome.STARTED:
            raise TaskRefused(f"task {task_id} has been handed to a worker: only one that waits can be changed")
        case ChangeOutcome.ENDED:
            raise TaskRefused(f"task {task_id} has ended or is being cancelled: only one that waits can be changed")


def _unknown(task_id: str) -> InvalidTask:
    return InvalidTask(f"there is no task {task_id[:100]!r}: see `callboard tasks list`", field="task_id")


def _status_of(task_id: str) -> str:
    task = get_task(task_id)
    return "gone" if task is None else task.status


def waiting_on(task_id: str) -> str | None:
    """Why a pending task is not running yet, in words; None if it runs, has ended, or is not there (see waiting)."""
    task = get_task(task_id)
    return None if task is None else waiting.waiting_on(task, datetime.now(UTC))


def send_many(messages: Iterable[Message[Any]], *, delay: timedelta | None = None) -> list[str]:
    """Send messages made by `actor.message(...)`: one transaction of the ledger and one call of the bus a thousand.

    Returns:
        Their ids, in order.

    Raises:
        InvalidTask: one of them is wrong; nothing was sent.
        LedgerUnavailable: the ids before the error's chunk are sent, sending all again is safe.
    """
    delay_ms = None if delay is None else round(delay.total_seconds() * 1000)
    return [message.message_id for message in callboard.broker.enqueue_many(list(messages), delay=delay_ms)]


def make_filter(
    status: TaskStatus | str | None = None,
    task_type: TaskType | str | None = None,
    task_name: str | None = None,
    **fields: Any,
) -> TaskFilter:
    """A filter from what people give.

    Args:
        task_name: an alias stands for its actor.
        fields: the others of TaskFilter; an empty text is none.

    Raises:
        InvalidTask: with `field`: a status, type, priority or time that cannot be, too long a text or list.
    """
    try:
        checked_status = None if status is None else TaskStatus(status)
    except ValueError:
        expected = ", ".join(TaskStatus)
        raise InvalidTask(f"status: expected one of {expected}; got {status!r}", field="status") from None
    if fields.get("priority") is not None:
        check_priority(fields["priority"])
    for name in ("since", "until"):
        if fields.get(name) is not None:
            fields[name] = _aware(fields[name], name)
    ids, q = fields.get("ids"), fields.get("q")
    if ids is not None:
        fields["ids"] = tuple(dict.fromkeys(ids))
        if not 1 <= len(fields["ids"]) <= MAX_IDS:
            raise InvalidTask(f"ids: expected 1–{MAX_IDS}, got {len(fields['ids'])}", field="ids")
    if q is not None and len(q) > Q_MAX_CHARS:
        raise InvalidTask(f"q: expected at most {Q_MAX_CHARS} characters, got {len(q)}", field="q")
    return TaskFilter(
        status=checked_status,
        task_type=None if task_type is None else check_type(task_type),
        task_name=task_name and callboard.registry.aliases.get(task_name, task_name),
        **{name: value for name, value in fields.items() if value != ""},
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
