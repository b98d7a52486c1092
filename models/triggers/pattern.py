"""Wall times that match a cron's fields, and when they are due: the arithmetic that Cron and Crontab share.

Two rules (those of Debian's cron), chosen by minute and hour:
  - fixed (neither begins with `*`): the times of a day. One that daylight saving skips is due at the first instant
    after the gap, one that comes twice is due the first time only;
  - a wildcard or step (either begins with `*`): every instant whose wall time matches, so that `0 * * * *` runs in
    both of the hours that autumn repeats, an hour apart.

Nothing is walked through second by second: a field that does not match jumps to its next value, days by month.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from models.triggers.days import Days
from models.triggers.field import MAX_YEAR, Field
from models.triggers.zone import change_between, instant_of

_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)
_FIRST = datetime(1970, 1, 2, tzinfo=UTC)
_LAST = datetime(MAX_YEAR, 12, 30, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Pattern:
    """Days, and times of the day."""

    days: Days
    hour: Field
    minute: Field
    second: Field

    @property
    def is_fixed(self) -> bool:
        """Whether it means times of a day, not elapsed time."""
        return not (self.minute.is_wildcard or self.hour.is_wildcard)

    def can_match(self) -> bool:
        """Whether any date matches at all: 30 February never does."""
        return self.days.at_or_after(date(1970, 1, 1)) is not None

    def next_after(self, moment: datetime, zone: ZoneInfo) -> datetime | None:
        """The first due time strictly after an aware moment, as aware UTC; None if there is none up to MAX_YEAR."""
        moment = max(moment.astimezone(UTC), _FIRST)
        if moment > _LAST:
            return None
        return self._fixed_after(moment, zone) if self.is_fixed else self._elapsed_after(moment, zone)

    def _fixed_after(self, moment: datetime, zone: ZoneInfo) -> datetime | None:
        wall = moment.astimezone(zone).replace(tzinfo=None, fold=0)
        while (found := self._wall_at_or_after(wall.replace(microsecond=0) + _SECOND)) is not None:
            due = instant_of(found, zone)
            if due > moment:
                return due
            # In a second pass, and this minute was due in the first; the repeated hours have at most 180 minutes.
            wall = found.replace(second=59)
        return None

    def _elapsed_after(self, moment: datetime, zone: ZoneInfo) -> datetime | None:
        at = moment.replace(microsecond=0) + _SECOND
        while True:
            here = at.astimezone(zone)
            wall = here.replace(tzinfo=None, fold=0)
            found = self._wall_at_or_after(wall)
            if found is None:
                return None
            # why: at most two days at once, as a clock changed within them may repeat a part of a day that matches.
            near = min(found, datetime.combine(wall.date(), time()) + 2 * _DAY)
            due = at + (near - wall)
            if due.astimezone(zone).utcoffset() != here.utcoffset():
                at = change_between(at, due, zone)
            elif near == found:
                return due
            else:
                at = instant_of(datetime.combine(found.date(), time()), zone)

    def _wall_at_or_after(self, wall: datetime) -> datetime | None:
        day = self.days.at_or_after(wall.date())
        if day == wall.date():
            found = self._time_at_or_after(wall.hour, wall.minute, wall.second)
            if found is not None:
                return datetime.combine(day, found)
            day = self.days.at_or_after(day + _DAY)
        if day is None:
            return None
        found = self._time_at_or_after(0, 0, 0)
        assert found is not None  # no field is empty
        return datetime.combine(day, found)

    def _time_at_or_after(self, hour: int, minute: int, second: int) -> time | None:
        found_hour = self.hour.at_or_after(hour)
        if found_hour == hour:
            found_minute = self.minute.at_or_after(minute)
            if found_minute == minute:
                found_second = self.second.at_or_after(second)
                if found_second is not None:
                    return time(hour, minute, found_second)
                found_minute = self.minute.at_or_after(minute + 1)
            if found_minute is not None:
                return time(hour, found_minute, self.second.at_or_after(0) or 0)
            found_hour = self.hour.at_or_after(hour + 1)
        if found_hour is None:
            return None
        return time(found_hour, self.minute.at_or_after(0) or 0, self.second.at_or_after(0) or 0)
