"""How both vendors kept their service levels last month: one did, one did not."""

from datetime import datetime, timedelta

from sqlmodel import SQLModel

from models.vendor import SlaFigure, SlaPeriod
from workers.sample.people import COOL_AIR, LIFT_AND_HOIST


def rows(now: datetime) -> list[SQLModel]:
    """The month before the present one."""
    ends_at = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    starts_at = (ends_at - timedelta(days=1)).replace(day=1)
    period = f"{starts_at:%Y-%m}"
    return [
        SlaPeriod(period=period, starts_at=starts_at, ends_at=ends_at),
        SlaFigure(
            period=period, vendor_id=LIFT_AND_HOIST, target_percent=95.0, jobs=40, jobs_in_time=39, tickets=10,
            tickets_in_time=10, response_p50_s=1_380.0, response_p95_s=4_260.0,
        ),
        SlaFigure(
            period=period, vendor_id=COOL_AIR, target_percent=95.0, jobs=22, jobs_in_time=19, tickets=7,
            tickets_in_time=5, response_p50_s=5_400.0, response_p95_s=31_200.0,
        ),
    ]  # fmt: skip
