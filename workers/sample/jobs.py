"""Maintenance: two plans, a job that is due soon, and one that nobody did."""

from datetime import datetime, timedelta

from sqlmodel import SQLModel

from models.job import Job, JobAssignee, MaintenancePlan, PlanAssignee
from workers.sample.people import ANITA, COOL_AIR, HARBOUR_TOWER, LAKE_YARD, OMAR

DIESEL, FILTERS = 1, 2
"""Plans."""
DUE_SOON, FORGOTTEN = 1, 2
"""Jobs."""


def rows(now: datetime) -> list[SQLModel]:
    """Plans whose jobs fall due within their horizon, and two jobs that people made."""
    return [
        MaintenancePlan(
            plan_id=DIESEL, title="Run the diesel set for ten minutes", site_id=HARBOUR_TOWER,
            trigger={"kind": "cron", "hour": 8, "minute": 0}, starts_at=now - timedelta(days=90),
            horizon_s=3 * 86_400, remind_before_s=3_600, expires_after_s=4 * 3_600, grace_s=1_800, opens_ticket=True,
        ),
        MaintenancePlan(
            plan_id=FILTERS, title="Change the filters of the air handlers", site_id=LAKE_YARD, vendor_id=COOL_AIR,
            trigger={"kind": "cron", "day_of_week": "mon", "hour": 10, "minute": 0},
            starts_at=now - timedelta(days=90),
        ),
        PlanAssignee(plan_id=DIESEL, person_id=ANITA),
        PlanAssignee(plan_id=FILTERS, person_id=OMAR),
        _job(DUE_SOON, "Read the meters of the ground floor", now + timedelta(minutes=30), now),
        _job(FORGOTTEN, "Empty the grease trap", now - timedelta(days=1), now, opens_ticket=True),
        JobAssignee(job_id=DUE_SOON, person_id=ANITA),
        JobAssignee(job_id=FORGOTTEN, person_id=OMAR),
    ]  # fmt: skip


def _job(job_id: int, title: str, due_at: datetime, now: datetime, *, opens_ticket: bool = False) -> Job:
    return Job(
        job_id=job_id, title=title, site_id=HARBOUR_TOWER, due_at=due_at, remind_at=due_at - timedelta(hours=1),
        expires_at=due_at + timedelta(hours=4), closes_at=due_at + timedelta(hours=4, minutes=30),
        opens_ticket=opens_ticket, created_at=now - timedelta(days=2),
    )  # fmt: skip
