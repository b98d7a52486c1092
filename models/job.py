"""Maintenance jobs, and the plans that make them.

    assigned → in_progress    somebody begins
    assigned, in_progress → completed     it is done
    assigned, in_progress → autoclosed    nobody did it by `closes_at`: with who, why and perhaps a ticket, at once
    assigned, in_progress → cancelled     a person says so

Every move is a compare-and-set on `state`. What makes effects happen once: plan + due time of a job is unique, a job
has at most one ticket (models.ticket), and a reminder's task is written on the job in the transaction that sends it.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from models.columns import JsonDocument, UtcDateTime


class JobState(StrEnum):
    """`jobs.state`."""

    ASSIGNED = "assigned"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    AUTOCLOSED = "autoclosed"
    CANCELLED = "cancelled"


JOB_MOVES: Final[dict[JobState, frozenset[JobState]]] = {
    JobState.ASSIGNED: frozenset(
        {JobState.IN_PROGRESS, JobState.COMPLETED, JobState.AUTOCLOSED, JobState.CANCELLED}
    ),
    JobState.IN_PROGRESS: frozenset({JobState.COMPLETED, JobState.AUTOCLOSED, JobState.CANCELLED}),
    JobState.COMPLETED: frozenset(),
    JobState.AUTOCLOSED: frozenset(),
    JobState.CANCELLED: frozenset(),
}  # fmt: skip
"""The allowed moves."""

IS_OPEN = text("state IN ('assigned', 'in_progress')")
IS_TO_BE_REMINDED = text("state IN ('assigned', 'in_progress') AND remind_at IS NOT NULL AND reminder_task_id IS NULL")
"""The words of the partial indexes: a query that wants one repeats them; a bound value proves nothing to a planner."""


class MaintenancePlan(SQLModel, table=True):
    """A job that comes again and again."""

    __tablename__ = "maintenance_plans"

    plan_id: int | None = Field(default=None, primary_key=True)
    title: str = Field(max_length=200)
    site_id: int = Field(foreign_key="sites.site_id")
    vendor_id: int | None = Field(default=None, foreign_key="vendors.vendor_id")
    is_enabled: bool = True
    trigger: dict[str, Any] = Field(sa_type=JsonDocument)
    """When its jobs are due, in the site's time zone: as models.triggers.row.to_row writes it."""
    starts_at: datetime = Field(sa_type=UtcDateTime)
    """No job is due before."""
    ends_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """No job is due after; None: it goes on."""
    horizon_s: int = 7 * 86_400
    """How long before it is due a job is made."""
    remind_before_s: int | None = 86_400
    """How long before it is due the assignees are reminded; None: they are not."""
    expires_after_s: int = 86_400
    """From the due time to the expiry."""
    grace_s: int = 3_600
    """From the expiry to the time from which the job is closed unless somebody was quicker."""
    opens_ticket: bool = False
    """Whether a job that nobody did becomes a ticket."""


class PlanAssignee(SQLModel, table=True):
    """Who gets the jobs of a plan."""

    __tablename__ = "maintenance_plan_assignees"

    plan_id: int = Field(primary_key=True, foreign_key="maintenance_plans.plan_id", ondelete="CASCADE")
    person_id: int = Field(primary_key=True, foreign_key="people.person_id", ondelete="CASCADE")


class Job(SQLModel, table=True):
    """Something that has to be done at a site by a time."""

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("plan_id", "due_at", name="uq_jobs_plan_id_due_at"),
        Index("ix_jobs_to_close", "closes_at", sqlite_where=IS_OPEN, postgresql_where=IS_OPEN),
        Index(
            "ix_jobs_to_remind", "remind_at", sqlite_where=IS_TO_BE_REMINDED, postgresql_where=IS_TO_BE_REMINDED
        ),
    )  # fmt: skip

    job_id: int | None = Field(default=None, primary_key=True)
    title: str = Field(max_length=200)
    site_id: int = Field(foreign_key="sites.site_id")
    vendor_id: int | None = Field(default=None, foreign_key="vendors.vendor_id")
    plan_id: int | None = Field(default=None, foreign_key="maintenance_plans.plan_id", ondelete="SET NULL")
    """None: a person made it."""
    state: str = Field(default=JobState.ASSIGNED, max_length=16)
    due_at: datetime = Field(sa_type=UtcDateTime)
    remind_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """From when on the assignees are to be reminded; None: they are not."""
    reminder_task_id: str | None = Field(default=None, max_length=64)
    """The task that reminds them; None: nobody has sent it."""
    expires_at: datetime = Field(sa_type=UtcDateTime)
    closes_at: datetime = Field(sa_type=UtcDateTime)
    """`expires_at` and the grace: from then on it is closed."""
    opens_ticket: bool = False
    """Whether it becomes a ticket if nobody did it."""
    closed_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When it was completed, closed or cancelled."""
    closed_by: str | None = Field(default=None, max_length=200)
    """A person's name, or the actor's."""
    closed_reason: str | None = Field(default=None, max_length=500)
    created_at: datetime = Field(sa_type=UtcDateTime)


class JobAssignee(SQLModel, table=True):
    """Who is to do a job."""

    __tablename__ = "job_assignees"

    job_id: int = Field(primary_key=True, foreign_key="jobs.job_id", ondelete="CASCADE")
    person_id: int = Field(primary_key=True, foreign_key="people.person_id", ondelete="CASCADE")
