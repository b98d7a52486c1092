"""What all triggers share: a time zone, the time from which and until which they are due, and how they are asked."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Self
from zoneinfo import ZoneInfo

from models.triggers.errors import TriggerError
from models.triggers.zone import instant_of, zone_of

_TICK = timedelta(microseconds=1)
_OWN_COLUMNS = ("time_zone", "start_at", "end_at")


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """Something that says when it is next due. Pure, frozen, comparable; made only of what can be.

    Args:
        time_zone: IANA name; what wall times are read in. Default UTC.
        start_at, end_at: the first and last moments at which it may be due, both included; aware, or ISO text, which
            without an offset is meant in the zone. Default unbounded.

    Raises:
        TriggerError: naming the argument, what came and what is expected.
    """

    kind: ClassVar[str]
    _names_its_zone: ClassVar[bool] = True
    time_zone: str = "UTC"
    start_at: datetime | None = None
    end_at: datetime | None = None

    def __post_init__(self) -> None:
        zone = zone_of(self.time_zone)
        for name in ("start_at", "end_at"):
            moment = getattr(self, name)
            if moment is not None:
                object.__setattr__(self, name, aware_utc(name, moment, zone))
        if self.start_at is not None and self.end_at is not None and self.end_at < self.start_at:
            raise TriggerError("end_at", str(self.end_at), f"no time before start_at {self.start_at}")

    def next_after(self, moment: datetime) -> datetime | None:
        """The first due time strictly after an aware moment, as aware UTC; None if there is no more."""
        if moment.tzinfo is None:
            raise ValueError("moment: expected an aware datetime, got a naive one; give it tzinfo=UTC")
        if self.start_at is not None and moment < self.start_at:
            moment = self.start_at - _TICK
        due = self._next_after(moment)
        return None if due is None or (self.end_at is not None and due > self.end_at) else due

    def in_words(self) -> str:
        """The trigger for people, for instance `at 09:10 and 09:50 every day (Europe/Berlin)`."""
        words, bounds = self._in_words(), (("from", self.start_at), ("until", self.end_at))
        known = [f"{name} {written(moment.astimezone(self.zone))}" for name, moment in bounds if moment is not None]
        if not known:
            return words
        return f"{words}, {' '.join(known)}" + ("" if self._names_its_zone else f" ({self.time_zone})")

    def arguments(self) -> dict[str, Any]:
        """Its own arguments, as JSON values: all that were given, without zone, start and end."""
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in _OWN_COLUMNS}
        return {name: value for name, value in own.items() if value is not None}

    @property
    def zone(self) -> ZoneInfo:
        """The time zone."""
        return zone_of(self.time_zone)

    @classmethod
    def of(cls, arguments: Mapping[str, Any], **common: Any) -> Self:
        """A trigger of this kind from arguments of anyone's making.

        Raises:
            TriggerError: an argument that it does not have, or one that cannot be.
        """
        names = [field.name for field in fields(cls)]
        for name in arguments:
            if name not in names:
                raise TriggerError(name if isinstance(name, str) and len(name) <= 40 else "arguments", name,
                                   f"an argument of {cls.kind}: {', '.join(names)}")  # fmt: skip
        return cls(**{**common, **arguments})

    def _next_after(self, moment: datetime) -> datetime | None:
        raise NotImplementedError

    def _in_words(self) -> str:
        raise NotImplementedError


def aware_utc(name: str, given: object, zone: ZoneInfo) -> datetime:
    """A moment in UTC, from an aware datetime, or from ISO text, which without an offset is meant in the zone."""
    moment = given
    if isinstance(given, str) and len(given) <= 40:
        with suppress(ValueError):
            moment = datetime.fromisoformat(given.strip())
    if isinstance(moment, datetime) and 1970 <= moment.year <= 9998:
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
        if isinstance(given, str):
            return instant_of(moment, zone)
    shown = given.isoformat() if isinstance(given, datetime) else given
    expected = "2026-12-24 18:00:00 (in time_zone) or 2026-12-24T18:00:00+01:00"
    raise TriggerError(name, shown, f"a time from 1970 on such as {expected}; a datetime needs its tzinfo")


def written(moment: datetime) -> str:
    """A moment for people: without what is zero."""
    return moment.replace(tzinfo=None).isoformat(" ", "minutes" if not moment.second else "seconds")
