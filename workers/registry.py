"""Actors by name: canonical names, aliases, types, default priorities, and the decorator that declares them.

    @actor(task_type=TaskType.EMAIL, aliases=("afirgen_tasks.email.send_confirmation",))
    def send_confirmation(fir_id: str, recipient_email: str) -> dict[str, str]: ...

declares `email.send_confirmation` when it stands in a module `email`. An actor declared with plain `@dramatiq.actor`
is registered and tracked as well, under the name that it has there, with priority 5.

Two actors or aliases with one name are an error at import that names both places.
"""

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, cast

import dramatiq
from dramatiq import Message
from dramatiq.broker import Broker, MessageProxy
from dramatiq.middleware import MiddlewareError

from models.redaction import secrets_in
from models.task import DEFAULT_PRIORITY, MAX_PRIORITY, MIN_PRIORITY, TaskType, new_task_id
from models.text import clean_text
from workers.errors import CallboardError, InvalidTask, UnknownActor
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

SEND_OPTIONS = frozenset(
    {"priority", "correlation_id", "tags", "max_retries", "time_limit", "min_backoff", "max_backoff"}
    | {"on_success", "on_failure", "pipe_target", "pipe_ignore", "schedule_id", "idempotency_key", "unique_for"}
)
"""What a caller in Python may set on one message: Dramatiq's own names, and what Callboard adds."""
IN_SECONDS: dict[str, tuple[str, int]] = {
    "time_limit_s": ("time_limit", 1000),
    "min_backoff_s": ("min_backoff", 1000),
    "max_backoff_s": ("max_backoff", 1000),
    "unique_for_s": ("unique_for", 1),
}
"""The same durations under the names that `actor` has for them → (the option, how many of its units a second has)."""
_SENDABLE = SEND_OPTIONS | IN_SECONDS.keys()


MAX_CONCURRENCY = 100_000
MAX_RATE = 10_000
MAX_RATE_WINDOW_S = 31 * 24 * 3600
_RATE = re.compile(r"(\d{1,9})/([smh])", re.ASCII)
_UNIT_S = {"s": 1.0, "m": 60.0, "h": 3600.0}
MAX_DELAY = timedelta(days=10 * 366)
CORRELATION_ID_MAX_CHARS = 100
IDEMPOTENCY_KEY_MAX_CHARS = 200
MAX_UNIQUE_FOR_S = 366 * 24 * 3600


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value == clean_text(value, CORRELATION_ID_MAX_CHARS)


def _is_key(value: Any) -> bool:
    return isinstance(value, str) and value != "" and value == clean_text(value, IDEMPOTENCY_KEY_MAX_CHARS)


def _is_whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


_WEEK_MS = 7 * 24 * 3600 * 1000
_MAX_MEMORY_MB = 1024 * 1024
_OPTION_VALUES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "correlation_id": (_is_text, f"printable text of at most {CORRELATION_ID_MAX_CHARS} characters"),
    "idempotency_key": (_is_key, f"1–{IDEMPOTENCY_KEY_MAX_CHARS} storable characters"),
    "unique_for": (
        lambda value: isinstance(value, int | float) and 0 < value <= MAX_UNIQUE_FOR_S,
        f"a timedelta or seconds, above 0 and at most {MAX_UNIQUE_FOR_S}",
    ),
    "tags": (lambda value: isinstance(value, (list, tuple)) and all(map(_is_text, value)), "a list of short texts"),
    "max_retries": (lambda value: _is_whole(value, 0, 1_000), "a whole number, 0–1000"),
    "time_limit": (lambda value: _is_whole(value, 1, _WEEK_MS), f"whole milliseconds, 1–{_WEEK_MS}"),
    "min_backoff": (lambda value: _is_whole(value, 0, _WEEK_MS), f"whole milliseconds, 0–{_WEEK_MS}"),
    "max_backoff": (lambda value: _is_whole(value, 0, _WEEK_MS), f"whole milliseconds, 0–{_WEEK_MS}"),
}
"""Option → (whether a value is allowed, what is); the rest of SEND_OPTIONS is Dramatiq's own."""


def _in_own_units(options: dict[str, Any], name: str) -> None:
    """Replace an option in seconds by the one that it stands for."""
    (own, units), seconds = IN_SECONDS[name], options.pop(name)
    if own in options:
        raise InvalidTask(f"{name}: expected it or {own}, got both", field=name)
    bound_s = MAX_UNIQUE_FOR_S if own == "unique_for" else _WEEK_MS // 1000
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= bound_s:
        raise InvalidTask(f"{name}: expected seconds, above 0 and at most {bound_s}, got {seconds!r:.100}", field=name)
    options[own] = seconds if units == 1 else max(1, round(seconds * units))


class DuplicateActor(CallboardError, MiddlewareError):
    """Two actors or aliases have one name; the message names both places.

    A MiddlewareError, because Dramatiq logs and swallows any other that a `before_declare_actor` hook raises.
    """

    def __init__(self, name: str, declared: dramatiq.Actor[..., Any], other: dramatiq.Actor[..., Any]) -> None:
        super().__init__(f"{name!r} is declared at {source_of(declared)} and at {source_of(other)}: rename one of them")


class InvalidLimit(InvalidTask, MiddlewareError):
    """An actor's `concurrency` or `rate_limit` is none; a MiddlewareError for the reason of DuplicateActor."""


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
            options = self._checked(options)
        return Message(self.queue_name, self.actor_name, args, kwargs or {}, options, new_task_id())

    @staticmethod
    def _checked(options: dict[str, Any]) -> dict[str, Any]:
        for name in options:
            if name not in _SENDABLE:
                near = difflib.get_close_matches(name, _SENDABLE | {"delay", "eta"}, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(sorted(_SENDABLE))}"
                raise InvalidTask(f"{name!r} is no option of a send: {hint}", field=name)
        options = {name: value for name, value in options.items() if value is not None}
        for name in options.keys() & IN_SECONDS.keys():
            _in_own_units(options, name)
        if "priority" in options:
            check_priority(options["priority"])
        if isinstance(options.get("unique_for"), timedelta):
            options["unique_for"] = options["unique_for"].total_seconds()
        if "unique_for" in options and "idempotency_key" not in options:
            raise InvalidTask(
                "unique_for: expected an idempotency_key with it, which says among what", field="unique_for"
            )
        for name in ("on_success", "on_failure"):
            if isinstance(options.get(name), dramatiq.Actor):
                options[name] = options[name].actor_name
            elif not isinstance(options.get(name, ""), str):
                raise InvalidTask(f"{name}: expected an actor or its name, got {options[name]!r:.100}", field=name)
        for name in options.keys() & _OPTION_VALUES.keys():
            is_allowed, expected = _OPTION_VALUES[name]
            if not is_allowed(options[name]):
                raise InvalidTask(f"{name}: expected {expected}, got {options[name]!r:.100}", field=name)
        return options

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
        delay_ms = _delay_of(delay, eta)
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
        delay_ms = _delay_of(delay, eta)
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
        return cast("list[Message[Any]]", cast("Any", self.broker).enqueue_many(messages, delay=_delay_of(delay, None)))


def is_duplicate(message: Message[Any]) -> bool:
    """Whether a send returned an earlier task, which has the same idempotency key, and sent nothing."""
    return bool(message.options.get("duplicate"))


def _delay_of(delay: timedelta | int | None, eta: datetime | None) -> int | None:
    if eta is not None:
        if delay is not None:
            raise InvalidTask("eta: expected either delay= or eta=, got both", field="eta")
        if eta.tzinfo is None:
            raise InvalidTask(
                f"eta: expected an aware time, as datetime.now(UTC) + …; {eta} has no tzinfo", field="eta"
            )
        delay = max(timedelta(0), eta - datetime.now(UTC))
    return None if delay is None else _delay_ms(delay)


def _delay_ms(delay: timedelta | int) -> int:
    """Milliseconds from 0 to MAX_DELAY; raises InvalidTask for anything else."""
    if isinstance(delay, timedelta):
        delay = round(delay.total_seconds() * 1000)
    longest_ms = round(MAX_DELAY.total_seconds() * 1000)
    if not _is_whole(delay, 0, longest_ms):
        raise InvalidTask(
            f"delay: expected whole milliseconds, 0–{longest_ms}, or a timedelta; got {delay!r:.100}", field="delay"
        )
    return delay


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
    options |= _run_options(
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


def _run_options(
    *,
    isolated: bool,
    time_limit_s: float | None,
    hard_time_limit_s: float | None,
    memory_limit_mb: int | None,
    on_lost: str,
) -> dict[str, Any]:
    """The options of an actor that say how it runs; raises InvalidTask for what cannot be."""
    if on_lost not in ("rerun", "fail"):
        raise InvalidTask(f"on_lost: expected 'rerun' or 'fail', got {on_lost!r:.100}", field="on_lost")
    for field_name, value in {"hard_time_limit_s": hard_time_limit_s, "memory_limit_mb": memory_limit_mb}.items():
        if value is not None and not isolated:
            raise InvalidTask(
                f"{field_name} needs isolated=True: only a child process can be limited so", field=field_name
            )
    if hard_time_limit_s is not None:
        least_s = time_limit_s or 0.0
        if not least_s < hard_time_limit_s <= _WEEK_MS / 1000:
            raise InvalidTask(
                f"hard_time_limit_s: expected more than {f'time_limit_s ({least_s:g})' if time_limit_s else 0} and at "
                f"most {_WEEK_MS // 1000}, got {hard_time_limit_s!r:.100}",
                field="hard_time_limit_s",
            )
    if memory_limit_mb is not None and not _is_whole(memory_limit_mb, 1, _MAX_MEMORY_MB):
        raise InvalidTask(
            f"memory_limit_mb: expected a whole number of MiB, 1–{_MAX_MEMORY_MB}, got {memory_limit_mb!r:.100}",
            field="memory_limit_mb",
        )
    chosen: dict[str, Any] = {"isolated": True} if isolated else {}
    chosen |= {} if on_lost == "rerun" else {"on_lost": on_lost}
    chosen |= {} if memory_limit_mb is None else {"memory_limit_mb": memory_limit_mb}
    return chosen | ({} if hard_time_limit_s is None else {"hard_time_limit": round(hard_time_limit_s * 1000)})


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


def check_priority(priority: object) -> int:
    """The priority if it is an integer from 1 to 10; raises InvalidTask if not."""
    if isinstance(priority, bool) or not isinstance(priority, int) or not MIN_PRIORITY <= priority <= MAX_PRIORITY:
        raise InvalidTask(
            f"priority: expected a whole number from {MIN_PRIORITY} (last) to {MAX_PRIORITY} (first), got {priority!r}",
            field="priority",
        )
    return priority


def check_concurrency(concurrency: object) -> int:
    """The concurrency if it is a whole number, 1–100,000; raises InvalidLimit if not."""
    if not _is_whole(concurrency, 1, MAX_CONCURRENCY):
        raise InvalidLimit(
            f"concurrency: expected a whole number, 1–{MAX_CONCURRENCY}, got {concurrency!r}", field="concurrency"
        )
    return cast("int", concurrency)


def check_rate(rate_limit: object) -> tuple[int, float]:
    """(starts, seconds) of "10/s", "100/m", "5/h" or (10, 1.0); raises InvalidLimit for anything else."""
    match rate_limit:
        case str() if found := _RATE.fullmatch(rate_limit):
            rate, seconds = int(found[1]), _UNIT_S[found[2]]
        case (int() as rate, int() | float() as seconds):
            pass
        case _:
            rate, seconds = 0, 0.0
    if not (_is_whole(rate, 1, MAX_RATE) and 0 < seconds <= MAX_RATE_WINDOW_S):
        raise InvalidLimit(
            f'rate_limit: expected "10/s", "100/m", "5/h" or (starts, seconds) with 1–{MAX_RATE} starts in at most '
            f"{MAX_RATE_WINDOW_S} seconds, got {rate_limit!r}; for more starts take a shorter time",
            field="rate_limit",
        )
    return rate, float(seconds)


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
