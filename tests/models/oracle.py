"""When cron fields are due, by looking at every minute (or second) of a window: slow, plain, and nothing of ours in it.

A clock is looked at once for each unit of the window. Wall times are numbered in units; a calendar says of each what
minute, hour, day … it is, as bytes, so that a million of them are compared with a set of values in one `translate`.

Two readings, stated without reference to offsets:
  - by elapsed time: due whenever the clock shows a wall time that matches;
  - at times of a day: due when the clock has reached a wall time that matches, for the first time. So a time that is
    skipped is due when the clock has jumped over it, and one that comes twice is due once.
"""

from array import array
from bisect import bisect_right
from collections.abc import Collection, Mapping
from datetime import UTC, date, datetime, timedelta
from itertools import compress, count
from operator import itemgetter
from zoneinfo import ZoneInfo

EVERY = range(256)
_MARGIN_DAYS = 2


class Clock:
    """A clock in a zone, looked at through a window.

    Args:
        zone: IANA name.
        start: aware UTC, at midnight.
        days: length of the window.
        unit_s: 60 or 1.

    Attributes:
        changes: when the zone's offset changes.
    """

    def __init__(self, zone: str, start: datetime, days: int, unit_s: int) -> None:
        self.zone = zone
        self._start, self._unit = start, timedelta(seconds=unit_s)
        self._a_day = 86_400 // unit_s
        self._calendar = _calendar(start.date() - timedelta(days=_MARGIN_DAYS), days + 2 * _MARGIN_DAYS, unit_s)
        tz, base = ZoneInfo(zone), _MARGIN_DAYS * self._a_day
        moments = (start + index * self._unit for index in range(days * self._a_day))
        offsets = [moment.astimezone(tz).utcoffset() // self._unit for moment in moments]  # type: ignore[operator]
        shown = [base + index + offset for index, offset in enumerate(offsets)]
        self._shown_of = itemgetter(*shown)
        self._first_wall = shown[0]
        self._reached = array("l")
        for index, wall in enumerate(shown):
            newly = wall + 1 - self._first_wall - len(self._reached)
            if newly > 0:
                self._reached.extend([index] * newly)
        indexes = range(1, len(offsets))
        self.changes = [self.moment(index) for index in indexes if offsets[index] != offsets[index - 1]]

    def moment(self, index: int) -> datetime:
        """The instant of a unit."""
        return self._start + index * self._unit

    def due(self, fields: Mapping[str, Collection[int]], *, fixed: bool, either: bool = False) -> list[int]:
        """The units at which fields are due.

        Args:
            fields: name → values; those not named match always.
            fixed: at times of a day; else by elapsed time.
            either: day or day_of_week is enough.
        """
        size = len(self._calendar["day"])
        marks = {name: self._marks(name, values) for name, values in fields.items()}
        if either:
            marks["day"] |= marks.pop("day_of_week")
        matching = int.from_bytes(b"\x01" * size, "little")
        for mark in marks.values():
            matching &= mark
        walls = matching.to_bytes(size, "little")
        if not fixed:
            return list(compress(count(), self._shown_of(walls)))
        seen = walls[self._first_wall : self._first_wall + len(self._reached)]
        return sorted(set(compress(self._reached, seen)))

    def next_after(self, due: list[int], moment: datetime) -> datetime | None:
        """The first of the due units after a moment; None if it is not in the window."""
        at = bisect_right(due, (moment - self._start) // self._unit)
        return self.moment(due[at]) if at < len(due) else None

    def _marks(self, name: str, values: Collection[int]) -> int:
        table = bytes(value in values for value in range(256))
        return int.from_bytes(self._calendar[name].translate(table), "little")


def _calendar(first: date, days: int, unit_s: int) -> dict[str, bytes]:
    """What each unit of a run of days is called; years as years since 1970."""
    dates = [first + timedelta(days=number) for number in range(days)]
    an_hour = 3600 // unit_s
    of_a_day = {
        "hour": b"".join(bytes([hour]) * an_hour for hour in range(24)),
        "minute": b"".join(bytes([minute]) * (an_hour // 60) for minute in range(60)) * 24,
        "second": bytes(range(60)) * 1440 if unit_s == 1 else bytes(1440),
    }
    of_days = {
        "year": [one.year - 1970 for one in dates],
        "month": [one.month for one in dates],
        "day": [one.day for one in dates],
        "week": [one.isocalendar().week for one in dates],
        "day_of_week": [one.isoweekday() % 7 for one in dates],
    }
    calendar = {name: of_day * days for name, of_day in of_a_day.items()}
    calendar |= {name: b"".join(bytes([value]) * 24 * an_hour for value in values) for name, values in of_days.items()}
    return calendar


def utc(text: str) -> datetime:
    """An aware UTC time from ISO text."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
