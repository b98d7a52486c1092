"""The moves of a ticket that the system makes; each is a compare-and-set with its line of history beside it.

    `open_for_job`   a job that nobody did → a ticket for its people; unique on the job
    `escalate`       open at a level for longer than its rule allows → the next level, with whom the rule names

Must not: send anything.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, update
from sqlmodel import Session, col, select

from models.job import Job, JobAssignee
from models.site import Site
from models.text import span
from models.ticket import IS_OPEN, EscalationRule, Ticket, TicketChange, TicketHistory, TicketRecipient

JOBS_CATEGORY = "maintenance"
"""Of tickets that come from jobs: its rules escalate them."""


def open_for_job(session: Session, job: Job, *, by: str, task_id: str | None, now: datetime) -> Ticket:
    """Open the ticket of a job that nobody did; the job's assignees are told of it."""
    # why local: its people read it beside the mail's other times.
    due = session.get_one(Site, job.site_id).local(job.due_at)
    ticket = Ticket(
        title=f"Not done: {job.title}"[:200],
        description=f"Job {job.job_id} was due on {due} and was closed: {job.closed_reason}.",
        site_id=job.site_id,
        category=JOBS_CATEGORY,
        level_since_at=now,
        job_id=job.job_id,
        opened_at=now,
        updated_at=now,
    )
    session.add(ticket)
    session.flush()
    people = session.exec(select(col(JobAssignee.person_id)).where(col(JobAssignee.job_id) == job.job_id)).all()
    session.add_all(TicketRecipient(ticket_id=ticket.ticket_id or 0, person_id=who) for who in people)
    _note(session, ticket, TicketChange.OPENED, f"job {job.job_id} was not done in time", by=by, task_id=task_id)
    return ticket


def rules(session: Session) -> Sequence[EscalationRule]:
    """All rules, the higher levels first: a ticket goes up by one in a walk."""
    return session.exec(
        select(EscalationRule).order_by(col(EscalationRule.level).desc(), col(EscalationRule.category))
    ).all()


def to_escalate(session: Session, rule: EscalationRule, now: datetime, *, limit: int) -> list[int]:
    """Ids of tickets that have stood at a rule's level for too long, those first that have waited longest."""
    statement = (
        select(col(Ticket.ticket_id))
        .where(*_is_due(rule, now))
        .order_by(col(Ticket.level_since_at), col(Ticket.ticket_id))
        .limit(limit)
    )
    return [one for one in session.exec(statement) if one is not None]


def escalate(
    session: Session, ticket_id: int, rule: EscalationRule, *, by: str, task_id: str | None, now: datetime
) -> Ticket | None:
    """Raise a ticket by one level and give it to whom the rule names; None if that is not due (any more)."""
    assignee = Ticket.assignee_id if rule.assignee_id is None else rule.assignee_id
    done = session.execute(
        update(Ticket)
        .where(col(Ticket.ticket_id) == ticket_id, *_is_due(rule, now))
        .values(
            level=rule.level + 1,
            level_since_at=now,
            assignee_id=assignee,
            version=Ticket.version + 1,
            updated_at=now,
        )
    )
    if not cast("CursorResult[Any]", done).rowcount:
        return None
    ticket = session.get_one(Ticket, ticket_id, populate_existing=True)
    said = f"it stood at level {rule.level} for more than {span(rule.after_s)}"
    _note(session, ticket, TicketChange.ESCALATED, said, by=by, task_id=task_id)
    return ticket


def has_people(session: Session, ticket: Ticket) -> bool:
    """Whether anybody is to be told of it."""
    if ticket.assignee_id is not None:
        return True
    other = select(col(TicketRecipient.person_id)).where(col(TicketRecipient.ticket_id) == ticket.ticket_id).limit(1)
    return session.exec(other).first() is not None


def _is_due(rule: EscalationRule, now: datetime) -> tuple[Any, ...]:
    return (
        IS_OPEN,
        col(Ticket.category) == rule.category,
        col(Ticket.level) == rule.level,
        col(Ticket.level_since_at) <= now - timedelta(seconds=rule.after_s),
    )


def _note(session: Session, ticket: Ticket, change: TicketChange, note: str, *, by: str, task_id: str | None) -> None:
    assert ticket.ticket_id is not None
    session.add(
        TicketHistory(
            ticket_id=ticket.ticket_id,
            version=ticket.version,
            change=change,
            note=note,
            level=ticket.level,
            assignee_id=ticket.assignee_id,
            state=ticket.state,
            by=by,
            task_id=task_id,
            at=ticket.updated_at,
        )
    )
