"""Every so much elapsed time."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from models.triggers.errors import TriggerError
from models.triggers.trigger import Trigger

MAX_INTERVAL_S = 366 * 24 * 3600
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS_S = {"weeks": 604_800, "days": 86_400, "hours": 3600, "minutes": 60, "seconds": 1}


@dataclass(frozen=True)
class Interval(Trigger):
    """Every sum of its arguments (whole numbers, 1 s to 366 days in all) of elapsed time, whatever clocks do.

    Counted from `start_at`, which is the first due time, else from the Unix epoch: so every process agrees. A day is
    24 hours; for a time of day in a zone take Cron.
    """

    kind: ClassVar[str] = "interval"
    _names_its_zone: ClassVar[bool] = False
    seconds: int = 0
    minutes: int = 0
    hours: int = 0
    days: int = 0
    weeks: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, unit_s in _UNITS_S.items():
            value, most = getattr(self, name), MAX_INTERVAL_S // unit_s
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
                raise TriggerError(name, value, f"a whole number, 0–{most}")
        if not 1 <= self.period_s <= MAX_INTERVAL_S:
            expected = "at least one of weeks, days, hours, minutes, seconds, 1 s to 366 days in all"
            raise TriggerError("interval", f"{self.period_s} s", expected)

    @property
    def period_s(self) -> int:
        """The whole interval."""
        return sum(int(getattr(self, name)) * unit_s for name, unit_s in _UNITS_S.items())

    def arguments(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in _UNITS_S if getattr(self, name)}

    def _next_after(self, moment: datetime) -> datetime | None:
        anchor, period = self.start_at or _EPOCH, timedelta(seconds=self.period_s)
        try:
            return anchor + ((moment - anchor) // period + 1) * period
        except OverflowError:  # why: the end of the calendar, year 9999.
            return None

    def _in_words(self) -> str:
        rest, parts = self.period_s, []
        for name, unit_s in _UNITS_S.items():
            if name == "weeks" and rest % unit_s:
                continue  # "10 days", not "1 week 3 days"
            count, rest = divmod(rest, unit_s)
            if count:
                parts.append(f"{count} {name}" if count > 1 else f"1 {name[:-1]}")
        words = " ".join(parts)
        return f"every {words.removeprefix('1 ') if len(parts) == 1 else words}"
