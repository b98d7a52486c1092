"""Once."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

from models.triggers.errors import TriggerError
from models.triggers.field import MAX_YEAR
from models.triggers.trigger import Trigger, written
from models.triggers.zone import instant_of

MAX_DATE_CHARS = 40


@dataclass(frozen=True)
class Date(Trigger):
    """Once, at `run_date`: text such as `2024-12-25 00:00:00` in the time zone, or an aware datetime or its ISO text.

    A time that daylight saving skips is due at the end of the gap; one that comes twice, the first time.
    """

    kind: ClassVar[str] = "date"
    run_date: str | datetime

    def __post_init__(self) -> None:
        super().__post_init__()
        moment = self._read()
        object.__setattr__(self, "run_date", moment.isoformat(" " if moment.tzinfo is None else "T"))
        if (self.start_at and self.due_at < self.start_at) or (self.end_at and self.due_at > self.end_at):
            raise TriggerError(
                "run_date", str(self.due_at), f"a time from {self.start_at} (start_at) to {self.end_at} (end_at)"
            )

    def _read(self) -> datetime:
        """The text as a datetime, naive where it has no offset."""
        given: object = self.run_date
        moment = given if isinstance(given, datetime) and given.tzinfo is not None else None
        if isinstance(given, str) and len(given) <= MAX_DATE_CHARS:
            with suppress(ValueError):
                moment = datetime.fromisoformat(given.strip())
        if moment is None or not 1970 <= moment.year <= MAX_YEAR:
            raise TriggerError(
                "run_date",
                given,
                f"a time such as 2026-12-24 18:00:00 (in time_zone) or 2026-12-24T18:00:00+01:00, 1970–{MAX_YEAR}",
            )
        return moment

    @property
    def due_at(self) -> datetime:
        """The moment, in UTC."""
        moment = self._read()
        return instant_of(moment, self.zone) if moment.tzinfo is None else moment.astimezone(UTC)

    def _next_after(self, moment: datetime) -> datetime | None:
        due = self.due_at
        return due if due > moment else None

    def _in_words(self) -> str:
        return f"once, at {written(self.due_at.astimezone(self.zone))} ({self.time_zone})"
