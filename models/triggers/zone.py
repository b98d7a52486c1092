"""Time zones: names to zones, and wall times to instants at the changes of daylight saving.

Rules, as Debian's cron has them: a wall time that does not exist stands for the first instant after the gap; one that
comes twice stands for its first pass.
"""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from models.triggers.errors import TriggerError

MAX_NAME_CHARS = 64
_SECOND = timedelta(seconds=1)
# why: `right/` counts leap seconds, which Python's offsets do not; the others mean another zone on each machine.
_NOT_PORTABLE = ("right/", "posix/", "posixrules", "localtime", "Factory")


def zone_of(name: object) -> ZoneInfo:
    """The zone of an IANA name.

    Raises:
        TriggerError: no text, or no such zone.
    """
    if isinstance(name, str) and 1 <= len(name) <= MAX_NAME_CHARS and not name.startswith(_NOT_PORTABLE):
        found = _zone(name)
        if found is not None:
            return found
    raise TriggerError("time_zone", name, "an IANA name such as Europe/Berlin or UTC")


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def instant_of(wall: datetime, zone: ZoneInfo) -> datetime:
    """The first instant, as aware UTC, at which a clock in the zone has reached a naive wall time."""
    before, after = (_offset(wall.replace(tzinfo=zone, fold=fold)) for fold in (0, 1))
    if before >= after:
        return (wall - before).replace(tzinfo=UTC)
    # In a gap (PEP 495: the offset before the change is the smaller one) the change is between the two readings.
    return change_between((wall - after).replace(tzinfo=UTC), (wall - before).replace(tzinfo=UTC), zone)


def change_between(low: datetime, high: datetime, zone: ZoneInfo) -> datetime:
    """The first whole second after `low`, at most `high`, at which the zone's offset is not what it was at `low`."""
    offset = _offset(low.astimezone(zone))
    while high - low > _SECOND:
        middle = low + (high - low) // _SECOND // 2 * _SECOND
        if _offset(middle.astimezone(zone)) == offset:
            low = middle
        else:
            high = middle
    return high


def _offset(moment: datetime) -> timedelta:
    offset = moment.utcoffset()
    assert offset is not None  # a ZoneInfo always knows it
    return offset
