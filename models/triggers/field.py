"""One field of a cron: its text, checked, as the set of values that it means.

    *   */n   a   a-b   a-b/n   a/n   lists of these   names   L LW (day)   fri#2 friL (weekday)

Sets are bit masks (bit 5 is value 5), because the next value at or after another is then one shift.
Terms as crontab(5) has them; L, LW, # as cronsim has them. A field that begins with `*` is a wildcard field, which
decides about daylight saving and about day-of-month against day-of-week.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from models.triggers.errors import TriggerError

MAX_TEXT_CHARS = 200
MAX_YEAR = 2199
LAST = -1
"""In `Field.nth`: the last such weekday of the month."""

MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")


@dataclass(frozen=True)
class Kind:
    """What a field may hold: its name, its values from `low` to `high`, and the names of some."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()

    @property
    def expected(self) -> str:
        """The range in words."""
        words = f"{self.low}–{self.high}"
        if self.name == "day_of_week":
            words += " (0 and 7 are Sunday) or sun … sat"
        elif self.names:
            words += f" or {self.names[0][:3].lower()} … {self.names[-1][:3].lower()}"
        return words + ", as *, */n, a, a-b, a-b/n or a list of these with commas"

    def number(self, text: str) -> int | None:
        """A number or a name as its value; None if it is neither or out of range."""
        if text.isdigit():
            value = int(text)
            return value if self.low <= value <= self.high else None
        for index, name in enumerate(self.names):
            if text in {name.lower(), name[:3].lower()}:
                return self.low + index
        return None


KINDS = {
    kind.name: kind
    for kind in (
        Kind("year", 1970, MAX_YEAR),
        Kind("month", 1, 12, MONTHS),
        Kind("day", 1, 31),
        Kind("week", 1, 53),
        Kind("day_of_week", 0, 7, WEEKDAYS),
        Kind("hour", 0, 23),
        Kind("minute", 0, 59),
        Kind("second", 0, 59),
    )
}
_TERM = re.compile(
    r"(?:(?P<star>\*)|(?P<first>[0-9]{1,4}|[a-z]{3,9})(?:-(?P<last>[0-9]{1,4}|[a-z]{3,9}))?)(?:/(?P<step>[0-9]{1,4}))?"
)
_NTH = re.compile(r"(?P<weekday>[0-9]|[a-z]{3,9}?)(?:#(?P<nth>[1-5])|(?P<last>l))")


@dataclass(frozen=True, slots=True)
class Field:
    """The values that a field's text means."""

    text: str
    mask: int
    nth: tuple[tuple[int, int], ...] = ()
    """Weekdays (0 is Sunday) and which of the month: 1–5 or LAST."""
    last_day: bool = False
    last_workday: bool = False

    @property
    def is_any(self) -> bool:
        """Whether it is `*`."""
        return self.text == "*"

    @property
    def is_wildcard(self) -> bool:
        """Whether it begins with `*`."""
        return self.text.startswith("*")

    def at_or_after(self, value: int) -> int | None:
        """The smallest of its values that is not below another; None if there is none."""
        return lowest_bit(self.mask >> value, value)


def lowest_bit(mask: int, above: int = 0) -> int | None:
    """The number of the lowest bit set, plus `above`; None for 0."""
    return (mask & -mask).bit_length() - 1 + above if mask else None


def field_of(name: str, value: object, called: str | None = None) -> Field:
    """The field of a name, from text or a whole number.

    Args:
        called: the name in errors, where it differs (`expression`).

    Raises:
        TriggerError: anything that is not such a field; nothing in it is ever counted up to.
    """
    kind = KINDS[name]
    if isinstance(value, int) and not isinstance(value, bool) and kind.low <= value <= kind.high:
        value = str(value)
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_TEXT_CHARS:
        raise TriggerError(called or name, value, f"{name} {kind.expected}; at most {MAX_TEXT_CHARS} characters")
    try:
        return _parsed(kind, value)
    except TriggerError as error:
        if called is None:
            raise
        raise TriggerError(called, value, f"{name} {error.expected}") from None


@lru_cache(maxsize=4096)
def _parsed(kind: Kind, text: str) -> Field:
    lowered = text.strip().lower()
    mask, nth, flags = 0, list[tuple[int, int]](), set[str]()
    for term in lowered.split(","):
        if kind.name == "day" and term in {"l", "lw"}:
            flags.add(term)
        elif kind.name == "day_of_week" and (found := _NTH.fullmatch(term)):
            weekday = kind.number(found["weekday"])
            if weekday is None:
                raise TriggerError(kind.name, text, kind.expected)
            nth.append((weekday % 7, int(found["nth"] or LAST)))
        else:
            mask |= _mask(kind, term, text)
    if kind.name == "day_of_week":
        mask = (mask | mask >> 7) & 0b1111111
    return Field(lowered, mask, tuple(nth), "l" in flags, "lw" in flags)


def _mask(kind: Kind, term: str, text: str) -> int:
    parts = _TERM.fullmatch(term)
    if parts is None:
        raise TriggerError(kind.name, text, kind.expected)
    first, last = (kind.low, kind.high) if parts["star"] else (kind.number(parts["first"]), None)
    if parts["last"]:
        last = kind.number(parts["last"])
        if last == 0 and first and kind.name == "day_of_week" and not parts["last"].isdigit():
            last = 7  # fri-sun
        if last is None:
            first = None
    elif parts["star"] is None:
        last = kind.high if parts["step"] else first
    if first is None or last is None:
        raise TriggerError(kind.name, text, kind.expected)
    if last < first:
        raise TriggerError(kind.name, text, "ranges that begin with the lower value; write two, with a comma")
    step = int(parts["step"] or 1)
    if not 1 <= step <= kind.high:
        raise TriggerError(kind.name, text, f"a step of 1–{kind.high} (for longer ones, an interval)")
    return sum(1 << value for value in range(first, last + 1, step))
