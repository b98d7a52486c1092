"""Figures of how well vendors kept their service levels."""

from datetime import UTC, datetime
from typing import Any

from models import database
from models.vendor import SlaFigure, SlaPeriod
from tests.factories.people import sign_vendor
from tests.factories.storing import store

OCTOBER = "2026-10"


def measure_vendor(vendor_id: int | None = None, *, period: str = OCTOBER, **changes: Any) -> SlaFigure:
    """Store a vendor's figures of a period, and the period if it is not there."""
    with database.writing() as session:
        if session.get(SlaPeriod, period) is None:
            starts_at, ends_at = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
            session.add(SlaPeriod(period=period, starts_at=starts_at, ends_at=ends_at))
    columns = {
        "period": period,
        "vendor_id": sign_vendor() if vendor_id is None else vendor_id,
        "target_percent": 95.0,
        "jobs": 40,
        "jobs_in_time": 37,
        "tickets": 10,
        "tickets_in_time": 9,
        "response_p50_s": 1_380.0,
        "response_p95_s": 7_260.0,
    }
    return store(SlaFigure, columns, changes)
