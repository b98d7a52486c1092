"""Sites: the places where permits, jobs and tickets are."""

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlmodel import Field, SQLModel


class Site(SQLModel, table=True):
    """A building or a yard."""

    __tablename__ = "sites"

    site_id: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=200)
    address: str = Field(default="", max_length=300)
    time_zone: str = Field(default="UTC", max_length=64)
    """IANA name, in which times are shown to its people and its plans fall due."""

    def local(self, moment: datetime) -> str:
        """The moment as its people read it, `24 November 2026, 15:30 IST`; in UTC where the zone is none."""
        zone: tzinfo
        try:
            zone = ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError):
            zone = UTC
        local = moment.astimezone(zone)
        name = local.tzname() or ""
        return f"{local:%d %B %Y, %H:%M} {name if name.isalpha() else f'UTC{name}'}"
