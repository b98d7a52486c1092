"""Vendors, and how well they kept their service levels in a period.

A period's name says what it spans: `2026-10` is a month, `2026-W47` an ISO week.
"""

from datetime import datetime

from sqlmodel import Field, SQLModel

from models.columns import UtcDateTime


class Vendor(SQLModel, table=True):
    """A company that works at the sites."""

    __tablename__ = "vendors"

    vendor_id: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=200)
    email: str = Field(max_length=254)
    is_active: bool = True


class SlaPeriod(SQLModel, table=True):
    """A span of time that figures are made for: from `starts_at` to before `ends_at`."""

    __tablename__ = "sla_periods"

    period: str = Field(primary_key=True, max_length=16)
    starts_at: datetime = Field(sa_type=UtcDateTime)
    ends_at: datetime = Field(sa_type=UtcDateTime)


class SlaFigure(SQLModel, table=True):
    """What a vendor did in a period."""

    __tablename__ = "sla_figures"

    period: str = Field(primary_key=True, max_length=16, foreign_key="sla_periods.period", ondelete="CASCADE")
    vendor_id: int = Field(primary_key=True, foreign_key="vendors.vendor_id", ondelete="CASCADE")
    target_percent: float
    """Of jobs and tickets that the contract wants in time."""
    jobs: int
    """Jobs that were due in the period."""
    jobs_in_time: int
    tickets: int
    """Tickets that were opened in the period."""
    tickets_in_time: int
    response_p50_s: float
    """From a ticket's opening to the first thing that was done about it: the median."""
    response_p95_s: float

    @property
    def attained_percent(self) -> float:
        """Jobs and tickets in time, of all; 100 where there were none."""
        total = self.jobs + self.tickets
        return 100.0 * (self.jobs_in_time + self.tickets_in_time) / total if total else 100.0

    @property
    def is_met(self) -> bool:
        """Whether the target was reached."""
        return self.attained_percent >= self.target_percent
