"""Maintenance jobs: made from their plans, reminded of, and closed when nobody did them.

Idempotency keys: a job of a plan is its due time (unique); a reminder is noted on the job together with the task that
sends it; a closed job is closed by a compare-and-set, and its ticket is unique on the job. Each of these is one
transaction, in which the task that follows is sent as well: a worker that dies between two of them leaves whole ones,
and three that run at once share the work.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dramatiq.middleware import SkipMessage

from models.task import TaskType
from workers.actors.email import RecordId, send_reminder
from workers.actors.tickets import send_ticket_email, ticket_escalation
from workers.errors import PermanentError
from workers.registry import actor
from workers.runner.current import current_task

if TYPE_CHECKING:
    from collections.abc import Sequence

BATCH = 200
"""Jobs looked for at a time."""
MOST_A_SWEEP = 1_000
"""Tasks of a kind that one sweep sends; the next one, a minute later, sends more."""
CLOSER = "jobs.autoclose_job"


def close_job(job_id: int, now: datetime) -> "tuple[bool, int | None]":
    """Close a job that nobody did, and open its ticket where its policy wants one: one transaction.

    Returns:
        Whether it was closed here, and the ticket's id.
    """
    from models import database, job_moves, ticket_moves

    with database.writing() as session:
        job = job_moves.close(session, job_id, by=CLOSER, now=now)
        if job is None:
            return False, None
        if not job.opens_ticket:
            return True, None
        ticket = ticket_moves.open_for_job(session, job, by=CLOSER, task_id=current_task().id, now=now)
        if ticket_moves.has_people(session, ticket):
            send_ticket_email.send_in(session, ticket_id=ticket.ticket_id)
        return True, ticket.ticket_id


def close_all(now: datetime) -> "tuple[list[int], list[int]]":
    """Close all jobs that nobody did in time; returns the ids of jobs and of tickets."""
    from models import database, job_moves

    closed: list[int] = []
    tickets: list[int] = []
    while True:  # why it ends: whatever was found is closed then, here or by another, and not found again.
        with database.reading() as session:
            due = job_moves.to_close(session, now, limit=BATCH)
        for job_id in due:
            current_task().checkpoint()
            is_closed, ticket_id = close_job(job_id, now)
            closed += [job_id] * is_closed
            tickets += [] if ticket_id is None else [ticket_id]
        if len(due) < BATCH:
            return closed, tickets


@actor(task_type=TaskType.JOB, aliases=("autoclose_job",))
def autoclose_job(job_id: RecordId | None = None) -> dict[str, Any]:
    """Close jobs that nobody did by their expiry and grace, with a ticket where a job's policy asks for one.

    Args:
        job_id: of the table `jobs`; by default all that are due. Skipped if it is not to be closed.
    """
    now = datetime.now(UTC)
    if job_id is None:
        closed, tickets = close_all(now)
        return {"closed": closed, "tickets": tickets}
    is_closed, ticket_id = close_job(job_id, now)
    if not is_closed:
        _explain(job_id)
    return {"closed": [job_id] * is_closed, "tickets": [] if ticket_id is None else [ticket_id]}


def _explain(job_id: int) -> None:
    """Raise what keeps a job from being closed; nothing if it is closed already, perhaps by this task."""
    from models import database
    from models.job import Job, JobState

    with database.reading() as session:
        job = session.get(Job, job_id)
    if job is None:
        raise PermanentError(f"there is no job {job_id}: it was deleted, or the id is wrong")
    if job.state == JobState.AUTOCLOSED:
        return
    why = f"is {job.state}" if job.closed_at else f"is not to be closed before {job.closes_at:%Y-%m-%d %H:%M:%S} UTC"
    raise SkipMessage(f"job {job_id} {why}")


def make_jobs(plan_id: int, now: datetime) -> "Sequence[int]":
    """Make the jobs of a plan that fall due within its horizon and are not there yet; returns their ids.

    Raises:
        PermanentError: there is no such plan, or its trigger cannot be understood.
        SkipMessage: it is disabled.
    """
    from models import database, job_moves
    from models.site import Site
    from models.triggers import TriggerError, from_row

    with database.writing() as session:
        plan = job_moves.locked_plan(session, plan_id)
        if plan is None:
            raise PermanentError(f"there is no maintenance plan {plan_id}: it was deleted, or the id is wrong")
        if not plan.is_enabled:
            raise SkipMessage(f"maintenance plan {plan_id} is disabled")
        site = session.get_one(Site, plan.site_id)
        try:
            trigger = from_row(plan.trigger, site.time_zone, plan.starts_at, plan.ends_at)
        except TriggerError as error:
            raise PermanentError(
                f"maintenance plan {plan_id} can never be due: correct its trigger: {error}"
            ) from error
        return [job.job_id or 0 for job in job_moves.make(session, plan, trigger, now)]


@actor(task_type=TaskType.JOB, aliases=("create_ppm_job",), max_retries=3, time_limit_s=600.0)
def create_ppm_job(plan_id: RecordId | None = None) -> dict[str, Any]:
    """Make the planned-maintenance jobs that fall due within their plan's horizon, once each.

    Args:
        plan_id: of the table `maintenance_plans`; by default all that are enabled. A plan that is wrong does not hold
            up the others: the task makes their jobs, and fails then.
    """
    from models import database, job_moves

    now = datetime.now(UTC)
    if plan_id is not None:
        return {"created": list(make_jobs(plan_id, now))}
    with database.reading() as session:
        plans = job_moves.enabled_plans(session)
    created: list[int] = []
    wrong: list[str] = []
    for number, one in enumerate(plans, start=1):
        task = current_task()
        task.checkpoint()
        try:
            created += make_jobs(one, now)
        except SkipMessage:
            continue  # why: somebody has disabled it since we looked.
        except PermanentError as error:
            wrong.append(str(error))
        task.progress(number, len(plans), f"{len(created)} jobs made")
    if wrong:
        raise PermanentError(f"{len(created)} jobs were made; {len(wrong)} plans are wrong. {'; '.join(wrong)}"[:2_000])
    return {"created": created}


def send_reminders(now: datetime) -> int:
    """Send the reminders that are due, each once; returns how many."""
    from models import database, job_moves

    sent = 0
    with database.writing() as session:
        for job_id in job_moves.to_remind(session, now, limit=MOST_A_SWEEP):
            reminder = send_reminder.message(job_id=job_id)
            if job_moves.claim_reminder(session, job_id, reminder.message_id):
                send_reminder.broker.send_in(session, reminder)  # type: ignore[attr-defined]  # ours has it
                sent += 1
    return sent


def send_closings(now: datetime) -> int:
    """Send a task for each job that is to be closed, unless one is on its way; returns how many."""
    from models import database, job_moves

    with database.writing() as session:
        due = job_moves.to_close(session, now, limit=MOST_A_SWEEP)
        for job_id in due:
            autoclose_job.send_in_with_options(
                session, kwargs={"job_id": job_id}, idempotency_key=f"{CLOSER}:{job_id}"
            )  # fmt: skip
    return len(due)


def send_escalation(now: datetime) -> int:
    """Send the walk over tickets if one of them is due, unless it is on its way; returns 1, or 0."""
    from models import database, ticket_moves

    with database.writing() as session:
        if not any(ticket_moves.to_escalate(session, rule, now, limit=1) for rule in ticket_moves.rules(session)):
            return 0
        ticket_escalation.send_in_with_options(session, idempotency_key="tickets.ticket_escalation")
    return 1


@actor(task_type=TaskType.JOB, aliases=("task_every_min",), max_retries=0, time_limit_s=50.0)
def task_every_min() -> dict[str, int]:
    """The sweep of every minute: due reminders, jobs to close and tickets to escalate, each as its own task."""
    now = datetime.now(UTC)
    return {"reminders": send_reminders(now), "closings": send_closings(now), "escalations": send_escalation(now)}
