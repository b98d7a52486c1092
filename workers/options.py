"""What one message and one actor may be told: the names of the options, their bounds and their units.

Must not: know an actor, or a message.
"""

import difflib
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import dramatiq
from dramatiq.middleware import MiddlewareError

from models.task import MAX_PRIORITY, MIN_PRIORITY
from models.text import clean_text
from workers.errors import InvalidTask

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


class InvalidLimit(InvalidTask, MiddlewareError):
    """An actor's `concurrency` or `rate_limit` is none; a MiddlewareError for the reason of DuplicateActor."""


def checked(options: dict[str, Any]) -> dict[str, Any]:
    """The options of a send, durations in their own units; raises InvalidTask for one that cannot be."""
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
        raise InvalidTask("unique_for: expected an idempotency_key with it, which says among what", field="unique_for")
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


def delay_of(delay: timedelta | int | None, eta: datetime | None) -> int | None:
    """Milliseconds of either; raises InvalidTask for both, and for what none can be."""
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


def run_options(
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
