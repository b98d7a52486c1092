"""The moves of a maintenance job, and what is due of them; each is a compare-and-set.

    `make`             the jobs of a plan that it has not yet: unique on plan + due time
    `claim_reminder`   nobody has reminded → reminded, by a task that is named
    `close`            assigned, in_progress → autoclosed, once its time has passed

The caller's transaction is all of it: what is sent because of a move is sent in the same one (`actor.send_in`).

Must not: send anything.
"""

from datetime import datetime, timedelta
from typing import Any, Final, cast

from sqlalchemy import CursorResult, update
from sqlmodel import Session, col, select

from models.job import IS_OPEN, IS_TO_BE_REMINDED, Job, JobAssignee, JobState, MaintenancePlan, PlanAssignee
from models.triggers import Trigger

MOST_A_PLAN: Final = 500
"""Jobs that one run makes of one plan; the next run makes more."""


def to_close(session: Session, now: datetime, *, limit: int) -> list[int]:
    """Ids of jobs that nobody did in time, those first that have waited longest."""
    statement = (
        select(col(Job.job_id))
        .where(IS_OPEN, col(Job.closes_at) <= now)
        .order_by(col(Job.closes_at), col(Job.job_id))
        .limit(limit)
    )
    return [one for one in session.exec(statement) if one is not None]


def close(session: Session, job_id: int, *, by: str, now: datetime) -> Job | None:
    """Close a job that nobody did; None if it is not to be closed (any more)."""
    done = session.execute(
        update(Job)
        .where(col(Job.job_id) == job_id, IS_OPEN, col(Job.closes_at) <= now)
        .values(
            state=JobState.AUTOCLOSED,
            closed_at=now,
            closed_by=by,
            closed_reason="nobody did it before it expired, nor in the grace after that",
        )
    )
    if not cast("CursorResult[Any]", done).rowcount:
        return None
    return session.get_one(Job, job_id, populate_existing=True)


def to_remind(session: Session, now: datetime, *, limit: int) -> list[int]:
    """Ids of jobs whose assignees are to be reminded now, those that are due first before the others."""
    statement = (
        select(col(Job.job_id))
        .where(
            IS_TO_BE_REMINDED,
            col(Job.remind_at) <= now,
            col(Job.closes_at) > now,
        )
        .order_by(col(Job.remind_at), col(Job.job_id))
        .limit(limit)
    )
    return [one for one in session.exec(statement) if one is not None]


def claim_reminder(session: Session, job_id: int, task_id: str) -> bool:
    """Note the task that reminds; False if another does."""
    done = session.execute(
        update(Job)
        .where(col(Job.job_id) == job_id, col(Job.reminder_task_id).is_(None))
        .values(reminder_task_id=task_id)
    )
    return bool(cast("CursorResult[Any]", done).rowcount)


def locked_plan(session: Session, plan_id: int) -> MaintenancePlan | None:
    """A plan, which nobody else makes jobs of until the transaction ends."""
    return session.get(MaintenancePlan, plan_id, with_for_update=True)


def enabled_plans(session: Session) -> list[int]:
    """Ids of the plans that make jobs."""
    statement = (
        select(col(MaintenancePlan.plan_id))
        .where(col(MaintenancePlan.is_enabled))
        .order_by(col(MaintenancePlan.plan_id))
    )
    return [one for one in session.exec(statement) if one is not None]


def make(session: Session, plan: MaintenancePlan, trigger: Trigger, now: datetime) -> list[Job]:
    """Make the jobs of a plan, which is locked, that fall due within its horizon; returns those that are new.

    A due time that passed while nobody looked has its job too, until that would have expired.
    """
    assert plan.plan_id is not None
    begin = now - timedelta(seconds=plan.expires_after_s)
    horizon = now + timedelta(seconds=plan.horizon_s)
    there = set(
        session.exec(select(col(Job.due_at)).where(col(Job.plan_id) == plan.plan_id, col(Job.due_at) > begin)).all()
    )
    made: list[Job] = []
    due_at = trigger.next_after(begin)
    while due_at is not None and due_at <= horizon and len(made) < MOST_A_PLAN:
        if due_at not in there:
            made.append(_job_of(plan, due_at, now))
        due_at = trigger.next_after(due_at)
    session.add_all(made)
    session.flush()
    assignees = session.exec(select(col(PlanAssignee.person_id)).where(col(PlanAssignee.plan_id) == plan.plan_id)).all()
    session.add_all(JobAssignee(job_id=job.job_id or 0, person_id=who) for job in made for who in assignees)
    return made


def _job_of(plan: MaintenancePlan, due_at: datetime, now: datetime) -> Job:
    expires_at = due_at + timedelta(seconds=plan.expires_after_s)
    return Job(
        title=plan.title,
        site_id=plan.site_id,
        vendor_id=plan.vendor_id,
        plan_id=plan.plan_id,
        due_at=due_at,
        remind_at=None if plan.remind_before_s is None else due_at - timedelta(seconds=plan.remind_before_s),
        expires_at=expires_at,
        closes_at=expires_at + timedelta(seconds=plan.grace_s),
        opens_ticket=plan.opens_ticket,
        created_at=now,
    )
