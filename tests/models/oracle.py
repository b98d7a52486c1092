"""When cron fields are due, by looking at every minute (or second) of a window: plain, and nothing of ours in it.

Two looks know nothing of each other: at each date of a calendar and at each unit of a day, a byte each, 1 where its
fields match; and at the zone's clock, which stretches of wall time it shows, one after another. A window is then the
bytes of its units, 1 where the fields are due, day by day; two years of seconds are 63 million, so days that are alike
are the same bytes.

Two readings, stated without reference to offsets:
  - by elapsed time: due whenever the clock shows a wall time that matches;
  - at times of a day: due when the clock has reached a wall time that matches, for the first time. So a time that is
    skipped is due when the clock has jumped over it, and one that comes twice is due once.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

_MARGIN_DAYS = 2
_LOOK_S = 900
"""No clock is changed twice within a quarter of an hour."""
_OF_A_DATE = ("year", "month", "day", "week", "day_of_week")
_OF_A_DAY = ("hour", "minute", "second")


class _Piece(NamedTuple):
    """Some of a window's units, from number `at` on: bytes `first` to `end` of `marks`."""

    at: int
    marks: bytes
    first: int
    end: int


class Window:
    """What is due from `start` until before `end`.

    Args:
        pieces: in order; units that are in none are not due.
    """

    def __init__(self, start: datetime, end: datetime, unit: timedelta, pieces: Iterable[_Piece]) -> None:
        self.start, self.end, self._unit = start, end, unit
        self._pieces = list(pieces)
        self._last_of = [piece.at + piece.end - piece.first - 1 for piece in self._pieces]

    def after(self, moment: datetime) -> datetime | None:
        """The first due time after a moment; None if it is not in the window."""
        at = max(0, (moment - self.start) // self._unit + 1)
        for number in range(bisect_left(self._last_of, at), len(self._pieces)):
            piece = self._pieces[number]
            found = piece.marks.find(1, piece.first + max(0, at - piece.at), piece.end)
            if found >= 0:
                return self.start + (piece.at + found - piece.first) * self._unit
        return None


@dataclass(frozen=True)
class _Stretch:
    """Units `first` to `end` of the window, throughout which the clock shows `offset` units more than UTC."""

    first: int
    end: int
    offset: int


class Clock:
    """A clock in a zone, looked at through a window.

    Args:
        zone: IANA name.
        start: aware UTC, at midnight.
        days: length of the window.
        unit_s: 60 or 1.
    """

    def __init__(self, zone: str, start: datetime, days: int, unit_s: int) -> None:
        self.zone, self._start, self._unit = zone, start, timedelta(seconds=unit_s)
        self._end = start + timedelta(days=days)
        self._a_day = 86_400 // unit_s
        self._of_dates = _dates(start, days)
        self._of_a_day = _day(unit_s)
        self._stretches = list(_stretches(ZoneInfo(zone), start, days, unit_s))

    @property
    def changes(self) -> list[datetime]:
        """When the zone's offset changes."""
        return [self._start + stretch.first * self._unit for stretch in self._stretches[1:]]

    def window(self, fields: Mapping[str, Collection[int]], *, fixed: bool, either: bool = False) -> Window:
        """Where fields are due.

        Args:
            fields: name → values; those not named match always.
            fixed: at times of a day; else by elapsed time.
            either: day or day_of_week is enough.
        """
        dates = _matching(self._of_dates, fields, _OF_A_DATE, either=either)
        times = _matching(self._of_a_day, fields, _OF_A_DAY)
        walk = self._fixed if fixed else self._elapsed
        return Window(self._start, self._end, self._unit, walk(dates, times))

    def _elapsed(self, dates: bytes, times: bytes) -> Iterator[_Piece]:
        for stretch in self._stretches:
            yield from self._shown(dates, times, stretch, stretch.first + stretch.offset)

    def _fixed(self, dates: bytes, times: bytes) -> Iterator[_Piece]:
        reached = self._stretches[0].first + self._stretches[0].offset
        """The first wall time that the clock has not shown yet."""
        for stretch in self._stretches:
            skipped = self._walls(dates, times, reached, stretch.first + stretch.offset)
            if any(1 in marks[first:end] for _, marks, first, end in skipped):
                yield _Piece(stretch.first, b"\x01", 0, 1)
            yield from self._shown(dates, times, stretch, reached)
            reached = max(reached, stretch.end + stretch.offset)

    def _shown(self, dates: bytes, times: bytes, stretch: _Stretch, least: int) -> Iterator[_Piece]:
        """What the clock shows throughout a stretch, from the wall time `least` on."""
        first, end = max(least, stretch.first + stretch.offset), stretch.end + stretch.offset
        return (piece._replace(at=piece.at - stretch.offset) for piece in self._walls(dates, times, first, end))

    def _walls(self, dates: bytes, times: bytes, first: int, end: int) -> Iterator[_Piece]:
        """A run of wall times, numbered in units from the window's first date on; dates that do not match left out."""
        while first < end:
            day, since_midnight = divmod(first, self._a_day)
            until = min(self._a_day, since_midnight + end - first)
            if dates[day + _MARGIN_DAYS]:
                yield _Piece(first, times, since_midnight, until)
            first += until - since_midnight


def _stretches(zone: ZoneInfo, start: datetime, days: int, unit_s: int) -> Iterator[_Stretch]:
    begin = round(start.timestamp())

    def offset(index: int) -> int:
        shown = datetime.fromtimestamp(begin + index * unit_s, zone).utcoffset()
        assert shown is not None  # a ZoneInfo always knows it
        return shown // timedelta(seconds=unit_s)

    length, look, first = days * 86_400 // unit_s, _LOOK_S // unit_s, 0
    for index in (*range(look, length, look), length - 1):
        if offset(index) != offset(first):
            change = next(at for at in range(index - look, index + 1) if offset(at) != offset(first))
            yield _Stretch(first, change, offset(first))
            first = change
    yield _Stretch(first, length, offset(first))


def _matching(
    called: Mapping[str, bytes], fields: Mapping[str, Collection[int]], names: Collection[str], *, either: bool = False
) -> bytes:
    """A byte for each thing of a calendar, 1 where all of its fields match."""
    size = len(called[next(iter(names))])
    tables = {name: bytes(value in fields[name] for value in range(256)) for name in names if name in fields}
    marks = {name: int.from_bytes(called[name].translate(table)) for name, table in tables.items()}
    if either:
        marks["day"] |= marks.pop("day_of_week")
    matching = int.from_bytes(b"\x01" * size)
    for mark in marks.values():
        matching &= mark
    return matching.to_bytes(size)


def _dates(start: datetime, days: int) -> dict[str, bytes]:
    """What the dates of a window and a few around it are called; years as years since 1970."""
    dates = [(start + timedelta(days=number)).date() for number in range(-_MARGIN_DAYS, days + _MARGIN_DAYS)]
    return {
        "year": bytes(one.year - 1970 for one in dates),
        "month": bytes(one.month for one in dates),
        "day": bytes(one.day for one in dates),
        "week": bytes(one.isocalendar().week for one in dates),
        "day_of_week": bytes(one.isoweekday() % 7 for one in dates),
    }


def _day(unit_s: int) -> dict[str, bytes]:
    """What the units of a day are called."""
    seconds = range(0, 86_400, unit_s)
    return {
        "hour": bytes(second // 3600 for second in seconds),
        "minute": bytes(second // 60 % 60 for second in seconds),
        "second": bytes(second % 60 for second in seconds),
    }


def utc(text: str) -> datetime:
    """An aware UTC time from ISO text."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
