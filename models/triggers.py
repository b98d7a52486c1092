"""When something is due: pure arithmetic on time, no clock, no table.

A trigger answers one question, `next_after(moment)`. Two kinds so far:
  - `Interval`: every so many seconds of elapsed time, counted from the Unix epoch, so that every process agrees;
  - `Crontab`: five fields or `@hourly` …, in a time zone. cronsim does the arithmetic (Debian cron's rules, also at
    daylight-saving changes); periodiq's own cron must not be used (spec/traps.md 17).
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

_ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MAX_EXPRESSION_CHARS = 200
MAX_INTERVAL_S = 366 * 24 * 3600


class TriggerError(ValueError):
    """A trigger that cannot be; the message names the field, the value and what is expected."""


class Trigger(Protocol):
    """Anything that can say when it is next due."""

    def next_after(self, moment: datetime) -> datetime | None:
        """The first due time strictly after an aware moment, as aware UTC; None if there is no more."""
        ...

    def in_words(self) -> str:
        """The trigger for people, for instance `every 60 s`."""
        ...


@dataclass(frozen=True)
class Interval:
    """Every `seconds` (1 to 366 days) of elapsed time, aligned to the Unix epoch."""

    seconds: int

    def __post_init__(self) -> None:
        whole = isinstance(self.seconds, int) and not isinstance(self.seconds, bool)
        if not whole or not 1 <= self.seconds <= MAX_INTERVAL_S:
            raise TriggerError(f"seconds: expected a whole number, 1–{MAX_INTERVAL_S}, got {self.seconds!r}")

    def next_after(self, moment: datetime) -> datetime | None:
        elapsed_s = math.floor(moment.timestamp()) // self.seconds * self.seconds
        return datetime.fromtimestamp(elapsed_s, UTC) + timedelta(seconds=self.seconds)

    def in_words(self) -> str:
        return f"every {self.seconds} s"


@dataclass(frozen=True)
class Crontab:
    """A crontab line's time: `minute hour day-of-month month day-of-week`, or an `@alias`, in a zone."""

    expression: str
    time_zone: str = "UTC"

    def __post_init__(self) -> None:
        if not isinstance(self.expression, str) or len(self.expression) > _MAX_EXPRESSION_CHARS:
            raise TriggerError(
                f"expression: expected text of at most {_MAX_EXPRESSION_CHARS} characters, got {self.expression!r:.100}"
            )
        if len(self._fields().split()) != 5:
            expected = "five fields (minute hour day month weekday) or one of " + " ".join(_ALIASES)
            raise TriggerError(f"expression: expected {expected}, got {self.expression!r}")
        try:
            CronSim(self._fields(), datetime.now(self._zone()))
        except CronSimError as error:
            raise TriggerError(f"expression: {error} in {self.expression!r}") from None

    def next_after(self, moment: datetime) -> datetime | None:
        for due in CronSim(self._fields(), moment.astimezone(self._zone())):
            # why: in the hour that autumn repeats, cronsim answers with the first pass, which is over.
            if due.astimezone(UTC) > moment:
                return due.astimezone(UTC)
        return None

    def in_words(self) -> str:
        return CronSim(self._fields(), datetime.now(self._zone())).explain() + f" ({self.time_zone})"

    def _fields(self) -> str:
        return _ALIASES.get(self.expression.strip().lower(), self.expression)

    def _zone(self) -> ZoneInfo:
        try:
            return ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, TypeError, ValueError, OSError):
            raise TriggerError(
                f"time_zone: expected an IANA name such as Europe/Berlin, got {self.time_zone!r:.100}"
            ) from None


_KINDS: dict[str, Callable[..., Interval | Crontab]] = {"interval": Interval, "cron": Crontab}


def to_row(trigger: Interval | Crontab) -> dict[str, Any]:
    """The trigger as the JSON that a schedule's row keeps."""
    kind = next(name for name, made_by in _KINDS.items() if type(trigger) is made_by)
    return {"kind": kind, **asdict(trigger)}


def from_row(stored: dict[str, Any]) -> Interval | Crontab:
    """The trigger that `to_row` wrote.

    Raises:
        TriggerError: an unknown kind, or fields that do not fit it.
    """
    fields = dict(stored)
    kind = fields.pop("kind", None)
    if not isinstance(kind, str) or kind not in _KINDS:
        raise TriggerError(f"kind: expected one of {', '.join(_KINDS)}, got {kind!r}")
    try:
        return _KINDS[kind](**fields)
    except TypeError as error:
        raise TriggerError(f"{kind}: {error}") from None
