"""The days of a cron: which dates of a month match, and the next one that does."""

from calendar import monthrange
from dataclasses import dataclass
from datetime import date

from models.triggers.field import LAST, MAX_YEAR, Field, lowest_bit

_EVERY_SEVENTH = sum(1 << day for day in range(0, 31, 7))
_SATURDAY, _SUNDAY = 5, 6


@dataclass(frozen=True, slots=True)
class Days:
    """Dates on which year, month and week match, and day of month and day of week: both, or for crontab either."""

    year: Field
    month: Field
    day: Field
    week: Field
    day_of_week: Field
    either: bool = False

    def at_or_after(self, first: date) -> date | None:
        """The next date that matches, `first` included; None if there is none up to MAX_YEAR."""
        year, month, day = first.year, first.month, first.day
        while year <= MAX_YEAR:
            next_year = self.year.at_or_after(year)
            if next_year is None:
                return None
            next_month = self.month.at_or_after(month) if next_year == year else self.month.at_or_after(1)
            if next_month is None:
                year, month, day = year + 1, 1, 1
                continue
            if (next_year, next_month) != (year, month):
                year, month, day = next_year, next_month, 1
            found = lowest_bit(self._in_month(year, month) >> day, day)
            if found is not None:
                return date(year, month, found)
            year, month, day = (year, month + 1, 1) if month < 12 else (year + 1, 1, 1)
        return None

    def _in_month(self, year: int, month: int) -> int:
        """The days of a month that match; bit 1 is the first."""
        first_weekday, length = monthrange(year, month)
        every = (2 << length) - 2
        days = self._days_of_month(first_weekday, length)
        weekdays = self._days_of_week(first_weekday, every)
        matching = (days | weekdays if self.either else days & weekdays) & every
        if matching and not self.week.is_any:
            matching &= self._days_of_weeks(year, month, first_weekday)
        return matching

    def _days_of_month(self, first_weekday: int, length: int) -> int:
        mask = self.day.mask
        if self.day.last_day:
            mask |= 1 << length
        if self.day.last_workday:
            last = (first_weekday + length - 1) % 7
            mask |= 1 << length - {_SATURDAY: 1, _SUNDAY: 2}.get(last, 0)
        return mask

    def _days_of_week(self, first_weekday: int, every: int) -> int:
        if self.day_of_week.mask == 0b1111111:
            return every
        matching = 0
        for weekday in range(7):
            if self.day_of_week.mask >> weekday & 1:
                matching |= _EVERY_SEVENTH << _first(weekday, first_weekday)
        for weekday, nth in self.day_of_week.nth:
            such = _EVERY_SEVENTH << _first(weekday, first_weekday) & every
            if nth == LAST:
                matching |= 1 << such.bit_length() - 1
            else:
                matching |= 1 << _first(weekday, first_weekday) + 7 * (nth - 1)
        return matching

    def _days_of_weeks(self, year: int, month: int, first_weekday: int) -> int:
        matching, start = 0, 1 - first_weekday  # the Monday of the week in which the month begins
        for monday in range(start, 32, 7):
            try:
                week = date(year, month, max(monday, 1)).isocalendar().week
            except ValueError:  # why: the month is over.
                break
            if self.week.mask >> week & 1:
                matching |= 0b1111111 << monday if monday >= 0 else 0b1111111 >> -monday
        return matching


def _first(weekday: int, first_weekday: int) -> int:
    """The first day of a month with a weekday (0 is Sunday), where its first day has one (0 is Monday)."""
    return (weekday - first_weekday - 1) % 7 + 1
