"""Maintenance jobs and the plans that make them."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from models.job import Job, JobAssignee, MaintenancePlan, PlanAssignee
from tests.factories.people import build_site, hire
from tests.factories.storing import NOW, id_of, store, store_links


def plan_maintenance(*, assignees: Sequence[str] = ("Anita Das",), **changes: Any) -> MaintenancePlan:
    """Store a plan that is due daily at 08:00 of the site's time, and is made three days before.

    Args:
        assignees: names of people, who are hired for it.
    """
    columns = {
        "title": "Check the diesel set",
        "trigger": {"kind": "cron", "hour": 8, "minute": 0},
        "starts_at": NOW - timedelta(days=30),
        "horizon_s": 3 * 86_400,
        "remind_before_s": 3_600,
        "expires_after_s": 7_200,
        "grace_s": 1_800,
    }
    if "site_id" not in changes:
        columns["site_id"] = build_site()
    plan = store(MaintenancePlan, columns, changes)
    store_links(PlanAssignee, {"plan_id": id_of(plan.plan_id)}, tuple(map(hire, assignees)))
    return plan


def assign_job(*, assignees: Sequence[str] = ("Anita Das",), **changes: Any) -> Job:
    """Store a job that was due an hour ago, has not expired, and is to be reminded of.

    Args:
        assignees: names of people, who are hired for it.
        changes: other columns; a `due_at` that is given takes the other times along.
    """
    due_at = changes.get("due_at", NOW - timedelta(hours=1))
    columns = {
        "title": "Check the diesel set",
        "due_at": due_at,
        "remind_at": due_at - timedelta(hours=1),
        "expires_at": due_at + timedelta(hours=2),
        "closes_at": due_at + timedelta(hours=2, minutes=30),
        "created_at": due_at - timedelta(days=1),
    }
    if "site_id" not in changes:
        columns["site_id"] = build_site()
    job = store(Job, columns, changes)
    store_links(JobAssignee, {"job_id": id_of(job.job_id)}, tuple(map(hire, assignees)))
    return job


def overdue_job(**changes: Any) -> Job:
    """Store a job that nobody did, past its expiry and grace."""
    return assign_job(**{"due_at": NOW - timedelta(days=1), **changes})
