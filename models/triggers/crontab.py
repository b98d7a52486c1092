"""A crontab line's time: five fields or an @alias, with cron's own rules."""

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import ClassVar

from models.triggers import words
from models.triggers.days import Days
from models.triggers.errors import TriggerError
from models.triggers.field import field_of
from models.triggers.pattern import Pattern
from models.triggers.trigger import Trigger

MAX_EXPRESSION_CHARS = 200
ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_FIELDS = ("minute", "hour", "day", "month", "day_of_week")


@dataclass(frozen=True)
class Crontab(Trigger):
    """`minute hour day-of-month month day-of-week`, or an alias such as `@daily`.

    Day of month and day of week are ORed, unless one of them begins with `*`, as cron does. No seconds: those are for
    Cron, by fields. For daylight saving see pattern.py.
    """

    kind: ClassVar[str] = "crontab"
    expression: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.expression, str) or len(self.expression) > MAX_EXPRESSION_CHARS:
            raise TriggerError("expression", self.expression, f"text of at most {MAX_EXPRESSION_CHARS} characters")
        _ = self._pattern  # why: what can never match is refused here, not when it is due.

    @property
    def _pattern(self) -> Pattern:
        return _pattern(self.expression)

    def _next_after(self, moment: datetime) -> datetime | None:
        return self._pattern.next_after(moment, self.zone)

    def _in_words(self) -> str:
        return f"{words.of(self._pattern)} ({self.time_zone})"


@lru_cache(maxsize=16_384)
def _pattern(expression: str) -> Pattern:
    text = expression.strip().lower()
    texts = ALIASES.get(text, text).split()
    if len(texts) != len(_FIELDS):
        expected = "five fields (minute hour day month weekday) or one of " + " ".join(ALIASES)
        if len(texts) == 6:
            expected += "; for seconds give cron's fields by name"
        raise TriggerError("expression", expression, expected)
    of = {name: field_of(name, text, called="expression") for name, text in zip(_FIELDS, texts, strict=True)}
    either = not (of["day"].is_wildcard or of["day_of_week"].is_wildcard)
    days = Days(field_of("year", "*"), of["month"], of["day"], field_of("week", "*"), of["day_of_week"], either)
    pattern = Pattern(days, of["hour"], of["minute"], field_of("second", "0"))
    if not pattern.can_match():
        raise TriggerError("expression", expression, "a day that some month has")
    return pattern
