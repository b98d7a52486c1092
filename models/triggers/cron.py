"""Cron by fields: year, month, day, ISO week, weekday, hour, minute, second; a time must match all of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, ClassVar

from models.triggers import words
from models.triggers.days import Days
from models.triggers.errors import TriggerError
from models.triggers.field import KINDS, field_of
from models.triggers.pattern import Pattern
from models.triggers.trigger import Trigger

Value = str | int | None
_RANK = {"year": 0, "month": 1, "week": 2, "day": 3, "day_of_week": 3, "hour": 4, "minute": 5, "second": 6}
_LEAST = {"hour": "0", "minute": "0", "second": "0"}


@dataclass(frozen=True, kw_only=True)
class Cron(Trigger):
    """At times that match every field: `Cron(hour=9)`, `Cron(day_of_week="mon-fri", hour="9-17", minute="*/15")`.

    Each field is a whole number or text: `*`, `*/n`, `a`, `a-b`, `a-b/n`, a list of these with commas; names of months
    and weekdays. Weekday numbers are crontab's (0 and 7 are Sunday); names are preferred. Fields finer than the finest
    given take their minimum (`hour=9` is 09:00:00; `month=6` is 1 June; `week=10` its Monday), the others `*`.
    For daylight saving see pattern.py; an hour that was not given is a wildcard.
    """

    kind: ClassVar[str] = "cron"
    year: Value = None
    month: Value = None
    day: Value = None
    week: Value = None
    day_of_week: Value = None
    hour: Value = None
    minute: Value = None
    second: Value = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in KINDS:
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, field_of(name, value).text)
        if not self.arguments():
            raise TriggerError("cron", None, f"at least one of {', '.join(KINDS)}")
        _ = self._pattern  # why: what can never match is refused here, not when it is due.

    @classmethod
    def from_apscheduler(cls, fields: Mapping[str, Any], **common: Any) -> "Cron":
        """A cron trigger written for APScheduler, whose fields are these but for weekday numbers (0 is Monday there).

        Raises:
            TriggerError: weekdays as numbers, which would silently move by a day; or as any cron.
        """
        weekdays = fields.get("day_of_week")
        if weekdays is not None and any(map(str.isdigit, str(weekdays).partition("/")[0])):
            raise TriggerError(
                "day_of_week",
                weekdays,
                "names, mon … sun, on import: APScheduler's 0 is Monday, here as in crontab 0 is Sunday",
            )
        return cls.of(fields, **common)

    @property
    def _pattern(self) -> Pattern:
        return _pattern(tuple(getattr(self, name) for name in KINDS))

    def _next_after(self, moment: datetime) -> datetime | None:
        return self._pattern.next_after(moment, self.zone)

    def _in_words(self) -> str:
        return f"{words.of(self._pattern)} ({self.time_zone})"


@lru_cache(maxsize=16_384)
def _pattern(values: tuple[str | None, ...]) -> Pattern:
    given = {name: value for name, value in zip(KINDS, values, strict=True) if value is not None}
    finest = max(_RANK[name] for name in given)
    defaults = {name: _LEAST.get(name, "*") if _RANK[name] > finest else "*" for name in KINDS}
    if finest == _RANK["week"]:
        defaults["day_of_week"] = "mon"
    elif finest <= _RANK["month"]:
        defaults["day"] = "1"
    if finest == _RANK["year"]:
        defaults["month"] = "1"
    year, month, day, week, day_of_week, hour, minute, second = (
        field_of(name, given.get(name, defaults[name])) for name in KINDS
    )
    pattern = Pattern(Days(year, month, day, week, day_of_week), hour, minute, second)
    if not pattern.can_match():
        text = " ".join(f"{name}={value}" for name, value in given.items())
        raise TriggerError("cron", text, "fields that some date can match together")
    return pattern
