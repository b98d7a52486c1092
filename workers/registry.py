"""Actors by name: canonical names, aliases, types, default priorities, and the decorator that declares them.

    @actor(task_type=TaskType.EMAIL, aliases=("afirgen_tasks.email.send_confirmation",))
    def send_confirmation(fir_id: str, recipient_email: str) -> dict[str, str]: ...

declares `email.send_confirmation` when it stands in a module `email`. An actor declared with plain `@dramatiq.actor`
is registered and tracked as well, under the name that it has there, with priority 5.

Two actors or aliases with one name are an error at import that names both places.
"""

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, cast

import dramatiq
from dramatiq import Message
from dramatiq.broker import Broker, MessageProxy
from dramatiq.middleware import MiddlewareError

from models.redaction import secrets_in
from models.task import DEFAULT_PRIORITY, MAX_PRIORITY, TaskType, new_task_id
from workers.errors import CallboardError, InvalidTask, UnknownActor
from workers.options import check_concurrency, check_priority, check_rate, checked, delay_of, run_options
from workers.params import secret_values

TYPE_DEFAULTS: dict[TaskType, tuple[str, int]] = {
    TaskType.EMAIL: ("email", 3),
    TaskType.REPORT: ("reports", 5),
    TaskType.ANALYTICS: ("analytics", 2),
    TaskType.CLEANUP: ("cleanup", 1),
    TaskType.INTEGRATION: ("external_api", 5),
    TaskType.NETWORK: ("network", 5),
    TaskType.MEDIA: ("media", 4),
    TaskType.TICKET: ("tickets", 7),
    TaskType.JOB: ("jobs", 6),
    TaskType.HEALTH: ("health", 8),
}
"""Type → (queue, default priority); spec/inventory.md."""


class DuplicateActor(CallboardError, MiddlewareError):
    """Two actors or aliases have one name; the message names both places.

    A MiddlewareError, because Dramatiq logs and swallows any other that a `before_declare_actor` hook raises.
    """

    def __init__(self, name: str, declared: dramatiq.Actor[..., Any], other: dramatiq.Actor[..., Any]) -> None:
        super().__init__(f"{name!r} is declared at {source_of(declared)} and at {source_of(other)}: rename one of them")


class CallboardActor(dramatiq.Actor[..., Any]):
    """Dramatiq's actor with time-ordered ids, checked options, and `eta=` and `priority=` on each send.

    Called directly it runs its function in place, untracked.
    """

    def __init__(self, fn: Callable[..., Any], **declared: Any) -> None:
        self.function = fn
        """The function as it was written, also where Dramatiq wraps an `async def`."""
        taken = declared["broker"].actors.get(declared["actor_name"])
        if taken is not None:  # why: Dramatiq's own error would name neither place.
            raise DuplicateActor(declared["actor_name"], self, taken)
        super().__init__(fn, **declared)

    def message_with_options(
        self, *, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None, **options: Any
    ) -> Message[Any]:
        """Build a message with a UUIDv7 as its id; raises InvalidTask for an option that does not exist."""
        if options:
            options = checked(options)
        return Message(self.queue_name, self.actor_name, args, kwargs or {}, options, new_task_id())

    def send(self, *args: Any, **kwargs: Any) -> Message[Any]:
        """Send; returns and raises as `send_with_options`."""
        return self.broker.enqueue(self.message_with_options(args=args, kwargs=kwargs))

    def send_with_options(
        self,
        *,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        delay: timedelta | int | None = None,
        eta: datetime | None = None,
        **options: Any,
    ) -> Message[Any]:
        """Send, with options for this one message.

        Args:
            delay: not before this many milliseconds from now, or a timedelta.
            eta: not before this aware time; instead of delay.
            options: those of SEND_OPTIONS, for instance priority=1–10, correlation_id="…", idempotency_key="…" (while a
                task with this key is pending or running, no second one is sent) and with it unique_for_s= (nor for so
                long after the first was sent, ended or not). Durations are in seconds under the names of IN_SECONDS,
                as in `actor`; Dramatiq's own time_limit=, min_backoff= and max_backoff= are milliseconds.

        Returns:
            The message. Where another task has the idempotency key: the message under that task's id, with the option
            `duplicate` (see `is_duplicate`); nothing was sent.

        Raises:
            InvalidTask: parameters or options do not fit; nothing was sent.
            LedgerUnavailable: nothing was sent.
            OutcomeUnknown: neither can be said.
            (Redis away or full is no error: the task goes out when it is back.)
        """
        delay_ms = delay_of(delay, eta)
        message = self.message_with_options(args=args, kwargs=kwargs, **options)
        return self.broker.enqueue(message, delay=delay_ms)

    def send_in(self, session: Any, *args: Any, **kwargs: Any) -> Any:
        """Send with the caller's transaction: commit, and the task goes out at once; roll back, and it never existed.

        A rolled-back savepoint drops its sends. If the process dies after the commit, the relay sends the task.

        Args:
            session: SQLModel's or SQLAlchemy's Session, or an AsyncSession (then: `await actor.send_in(…)`), on
                Callboard's own database. On SQLite, keep its transaction short: all other writers wait for it.

        Returns, raises: as `send_in_with_options`.
        """
        return self.send_in_with_options(session, args=args, kwargs=kwargs)

    def send_in_with_options(
        self,
        session: Any,
        *,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        delay: timedelta | int | None = None,
        eta: datetime | None = None,
        **options: Any,
    ) -> Any:
        """As `send_in`, with the options of `send_with_options`.

        Returns:
            The message, as `send_with_options` does; of an AsyncSession an awaitable of it.

        Raises:
            InvalidTask: parameters or options do not fit, or the session is on another database.
        """
        delay_ms = delay_of(delay, eta)
        message = self.message_with_options(args=args, kwargs=kwargs, **options)
        return cast("Any", self.broker).send_in(session, message, delay_ms=delay_ms)

    def send_many(
        self, many: Iterable[Mapping[str, Any] | Sequence[Any]], *, delay: timedelta | int | None = None, **options: Any
    ) -> list[Message[Any]]:
        """Send many tasks: a transaction and a call of the bus for each thousand.

        Args:
            many: the arguments of each: a mapping of named ones, or a tuple or list.
            delay, options: as `send_with_options`, for all of them.

        Returns:
            Their messages, in order.

        Raises:
            InvalidTask: the arguments of one do not fit; nothing was sent.
            LedgerUnavailable, OutcomeUnknown: whole thousands were sent before.
        """
        messages = [
            self.message_with_options(kwargs=dict(one), **options)
            if isinstance(one, Mapping)
            else self.message_with_options(args=tuple(one), **options)
            for one in many
        ]
        return cast("list[Message[Any]]", cast("Any", self.broker).enqueue_many(messages, delay=delay_of(delay, None)))


def is_duplicate(message: Message[Any]) -> bool:
    """Whether a send returned an earlier task, which has the same idempotency key, and sent nothing."""
    return bool(message.options.get("duplicate"))


@dataclass(frozen=True)
class ImportFailure:
    """A domain module that could not be imported."""

    module: str
    error: str


@dataclass
class Registry:
    """All actors of this process; filled by the registry middleware as actors are declared."""

    actors: dict[str, dramatiq.Actor[..., Any]] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    failures: list[ImportFailure] = field(default_factory=list)

    def add(self, declared: dramatiq.Actor[..., Any]) -> None:
        """Register an actor and its aliases; raises DuplicateActor if one of the names is taken."""
        for name in (declared.actor_name, *aliases_of(declared)):
            other = self.actors.get(self.aliases.get(name, name))
            if other is not None:
                raise DuplicateActor(name, declared, other)
        self.actors[declared.actor_name] = declared
        self.aliases.update(dict.fromkeys(aliases_of(declared), declared.actor_name))

    def find(self, name: str) -> dramatiq.Actor[..., Any] | None:
        """The actor of a canonical name or alias, or None."""
        return self.actors.get(name) or self.actors.get(self.aliases.get(name, name))

    def resolve(self, name: str) -> dramatiq.Actor[..., Any]:
        """As `find`, but raises UnknownActor with the nearest names."""
        found = self.find(name)
        if found is None:
            near = difflib.get_close_matches(name[:200], [*self.actors, *self.aliases], n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else "see `callboard actors` for the names"
            raise UnknownActor(f"there is no actor {name[:200]!r}: {hint}", field="task_name")
        return found


def actor(
    *,
    task_type: TaskType,
    name: str | None = None,
    queue: str | None = None,
    priority: int | None = None,
    aliases: Iterable[str] = (),
    max_retries: int | None = None,
    min_backoff_s: float | None = None,
    max_backoff_s: float | None = None,
    time_limit_s: float | None = None,
    throws: tuple[type[BaseException], ...] = (),
    retry_when: Callable[[int, BaseException], bool] | None = None,
    concurrency: int | None = None,
    rate_limit: str | tuple[int, float] | None = None,
    jitter: bool = True,
    isolated: bool = False,
    hard_time_limit_s: float | None = None,
    memory_limit_mb: int | None = None,
    on_lost: Literal["rerun", "fail"] = "rerun",
) -> Callable[[Callable[..., Any]], CallboardActor]:
    """Declare an actor.

    Args:
        task_type: decides queue and priority where they are not given.
        name: canonical name; by default `<module>.<function>`, the module without its package.
        priority: 1–10, higher starts first.
        aliases: other exact names that messages, schedules and imports still carry.
        max_retries, min_backoff_s, max_backoff_s, time_limit_s: by default those of the settings.
        throws: exceptions besides PermanentError that are not retried.
        retry_when: (retries so far, exception) → whether to retry; replaces max_retries.
        concurrency: at most so many of its tasks run at a time, in all workers together, 1–100,000.
        rate_limit: at most so many of its tasks start in any such time: "10/s", "100/m", "5/h", or (10, seconds).
            The others wait on the bus: that uses up no retry and no thread, and nothing else waits behind them.
        jitter: whether back-off times are spread by chance.
        isolated: each run has a child process of its own, which can be killed and may die without harm to others.
        hard_time_limit_s: after which the child is killed; more than time_limit_s. By default 30 s after time_limit_s.
        memory_limit_mb: MiB that the function may take beyond what the process has, 1–1,048,576; address space, so that
            each thread that it starts counts with some. Linux only.
        on_lost: what becomes of a task whose worker died in mid-run: `rerun`, or `fail` for what must not run twice.

    Raises:
        DuplicateActor: a name is taken.
        InvalidTask: a priority outside 1–10, or an option that cannot be; InvalidLimit, one of them: a concurrency or
            a rate that is none.
    """
    type_queue, type_priority = TYPE_DEFAULTS[task_type]
    default_priority = type_priority if priority is None else priority
    check_priority(default_priority)
    options: dict[str, Any] = {
        "task_type": str(task_type),
        "default_priority": default_priority,
        "aliases": tuple(aliases),
    }
    options |= {"throws": throws} if throws else {}
    options |= run_options(
        isolated=isolated,
        time_limit_s=time_limit_s,
        hard_time_limit_s=hard_time_limit_s,
        memory_limit_mb=memory_limit_mb,
        on_lost=on_lost,
    )
    options |= {} if jitter else {"jitter": False}
    milliseconds = {"min_backoff": min_backoff_s, "max_backoff": max_backoff_s, "time_limit": time_limit_s}
    options |= {option: round(seconds * 1000) for option, seconds in milliseconds.items() if seconds is not None}
    options |= {} if max_retries is None else {"max_retries": max_retries}
    options |= {} if retry_when is None else {"retry_when": retry_when}
    options |= {} if concurrency is None else {"concurrency": concurrency}
    options |= {} if rate_limit is None else {"rate_limit": rate_limit}

    def declare(function: Callable[..., Any]) -> CallboardActor:
        canonical = name or f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
        return CallboardActor(
            function,
            broker=dramatiq.get_broker(),
            actor_name=canonical,
            queue_name=queue or type_queue,
            priority=MAX_PRIORITY - default_priority,  # why: Dramatiq's own counts the other way.
            options=options,
        )

    return declare


class RegistryMiddleware(dramatiq.Middleware):
    """Puts every declared actor into a registry, and declares the options that actors may have."""

    actor_options = {"task_type", "default_priority", "aliases", "periodic", "concurrency", "rate_limit"}  # noqa: RUF012 - Dramatiq's own form

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def before_declare_actor(self, broker: Broker, actor: dramatiq.Actor[..., Any]) -> None:
        """Check the limits and register; an error here ends the import."""
        for name, check in (("concurrency", check_concurrency), ("rate_limit", check_rate)):
            if actor.options.get(name) is not None:
                actor.options[name] = check(actor.options[name])
        self.registry.add(actor)


def check_type(task_type: str) -> TaskType:
    """The TaskType of this name; raises InvalidTask with the list."""
    try:
        return TaskType(task_type)
    except ValueError:
        expected = ", ".join(TaskType)
        raise InvalidTask(f"task_type: expected one of {expected}; got {task_type!r}", field="task_type") from None


def aliases_of(declared: dramatiq.Actor[..., Any]) -> tuple[str, ...]:
    """Its legacy names."""
    return tuple(declared.options.get("aliases", ()))


def default_priority_of(declared: dramatiq.Actor[..., Any]) -> int:
    """1–10; 5 where the actor says nothing."""
    return int(declared.options.get("default_priority", DEFAULT_PRIORITY))


def type_of(declared: dramatiq.Actor[..., Any]) -> str | None:
    """The TaskType's name; None for an actor without."""
    return cast("str | None", declared.options.get("task_type"))


def secrets_of(registry: "Registry", message: Message[Any] | MessageProxy) -> frozenset[str]:
    """The secret values among a message's arguments; those of an actor that is not known by their names alone."""
    declared = registry.find(message.actor_name)
    if declared is None:
        return secrets_in(dict(message.kwargs))
    return secret_values(function_of(declared), tuple(message.args), message.kwargs)


def function_of(declared: dramatiq.Actor[..., Any]) -> Callable[..., Any]:
    """The function as it was written."""
    return declared.function if isinstance(declared, CallboardActor) else inspect.unwrap(declared.fn)


def source_of(declared: dramatiq.Actor[..., Any]) -> str:
    """`module:line` of its function."""
    function = function_of(declared)
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None or not Path(code.co_filename).is_file():  # why: of what was made in memory a line says nothing.
        return function.__module__
    return f"{function.__module__}:{code.co_firstlineno}"
