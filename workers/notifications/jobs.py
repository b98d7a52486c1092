"""Maintenance jobs: the assignees are reminded of one that is due."""

from dataclasses import dataclass

from dramatiq.middleware import SkipMessage
from sqlmodel import Session, col, select

from models.job import JOB_MOVES, Job, JobAssignee, JobState
from models.person import Person
from models.site import Site
from workers.notifications.notification import Notification, missing, people


@dataclass(frozen=True)
class AssignedJob:
    """A job, its site, and who is to do it."""

    job: Job
    site: Site
    assignees: tuple[Person, ...]


def _find(session: Session, job_id: int) -> AssignedJob:
    job = session.get(Job, job_id)
    if job is None:
        raise missing("job", job_id)
    if not JOB_MOVES[JobState(job.state)]:
        raise SkipMessage(f"job {job_id} is {job.state} by now")
    people = session.exec(
        select(Person)
        .where(col(Person.person_id) == col(JobAssignee.person_id), col(JobAssignee.job_id) == job_id)
        .order_by(col(Person.person_id))
    )
    return AssignedJob(job, session.get_one(Site, job.site_id), tuple(people))


REMINDER = Notification(
    template="job_reminder",
    find=_find,
    recipients=lambda of: people(of.assignees),
    context=lambda of: {"job": of.job, "site": of.site},
)
