"""SLA figures: of a period, of a vendor in it, and which period was the last full one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlmodel import Session, col, select

from models.vendor import SlaFigure, SlaPeriod, Vendor

_MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


@dataclass(frozen=True)
class SlaView:
    """A period and the figures of its vendors, by name."""

    period: SlaPeriod
    rows: tuple[tuple[Vendor, SlaFigure], ...]

    @property
    def met(self) -> int:
        """How many vendors reached their target."""
        return sum(figure.is_met for _, figure in self.rows)


def period_name(period: str) -> str:
    """For people: `2026-10` → October 2026, `2026-W47` → week 47 of 2026."""
    year, _, part = period.partition("-")
    return f"week {int(part[1:])} of {year}" if part.startswith("W") else f"{_MONTHS[int(part) - 1]} {year}"


def last_full_period(session: Session, now: datetime) -> str | None:
    """The period that ended last, of all kinds; None if none has. Of a week and a month that end together the month."""
    ended = select(SlaPeriod).where(col(SlaPeriod.ends_at) <= now)
    found = session.exec(ended.order_by(col(SlaPeriod.ends_at).desc(), col(SlaPeriod.starts_at)).limit(1)).first()
    return None if found is None else found.period


def view(session: Session, period: str, *, vendor_id: int | None = None) -> SlaView | None:
    """The figures of a period, or of one vendor in it; None if there is no such period."""
    found = session.get(SlaPeriod, period)
    if found is None:
        return None
    wanted = select(Vendor, SlaFigure).where(
        col(Vendor.vendor_id) == col(SlaFigure.vendor_id), col(SlaFigure.period) == period
    )
    if vendor_id is not None:
        wanted = wanted.where(col(SlaFigure.vendor_id) == vendor_id)
    rows: Sequence[tuple[Vendor, SlaFigure]] = session.exec(
        wanted.order_by(col(Vendor.name), col(Vendor.vendor_id))
    ).all()
    return SlaView(found, tuple((vendor, figure) for vendor, figure in rows))
