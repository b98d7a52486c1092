"""Tickets: their people are told of a change, and those that have waited too long at a level go up.

Idempotency key of an escalation: ticket + level, by a compare-and-set; its line of history and the task that mails are
in the same transaction. Of a mail: task + recipient (workers.clients.mail).
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from models.task import TaskType
from workers.actors.email import MAIL_POLICY, RecordId
from workers.registry import actor
from workers.runner.current import current_task

if TYPE_CHECKING:
    from models.ticket import EscalationRule

BATCH = 200
"""Tickets looked for at a time."""


@actor(task_type=TaskType.TICKET, aliases=("send_ticket_email",), **MAIL_POLICY)
def send_ticket_email(ticket_id: RecordId) -> dict[str, Any]:
    """Mail the people on a ticket its latest change.

    Args:
        ticket_id: of the table `tickets`.
    """
    from workers.notifications import tickets

    return tickets.CHANGED.send(ticket_id)


@actor(task_type=TaskType.TICKET, aliases=("alert_sendmail",), **MAIL_POLICY)
def alert_sendmail(event_id: RecordId) -> dict[str, Any]:
    """Mail an alert event to the people whom its rule names; skipped where the rule is switched off.

    Args:
        event_id: of the table `alert_events`.
    """
    from workers.notifications import alert_events

    return alert_events.REPORTED.send(event_id)


def escalate(ticket_id: int, rule: "EscalationRule", now: datetime) -> bool:
    """Raise a ticket by one level, and send the mail of it: one transaction. False if that is not due (any more)."""
    from models import database, ticket_moves

    with database.writing() as session:
        by, task_id = "tickets.ticket_escalation", current_task().id
        ticket = ticket_moves.escalate(session, ticket_id, rule, by=by, task_id=task_id, now=now)
        if ticket is not None and ticket_moves.has_people(session, ticket):
            send_ticket_email.send_in(session, ticket_id=ticket_id)
        return ticket is not None


@actor(task_type=TaskType.TICKET, aliases=("ticket_escalation",))
def ticket_escalation() -> dict[str, list[int]]:
    """Raise each open ticket that has stood at its level for longer than its rule allows, by one level, once."""
    from models import database, ticket_moves

    now = datetime.now(UTC)
    escalated: list[int] = []
    with database.reading() as session:
        rules = ticket_moves.rules(session)
    for rule in rules:
        while True:  # why it ends: whatever was found is at another level then, and not found again.
            with database.reading() as session:
                due = ticket_moves.to_escalate(session, rule, now, limit=BATCH)
            for ticket_id in due:
                current_task().checkpoint()
                if escalate(ticket_id, rule, now):
                    escalated.append(ticket_id)
            if len(due) < BATCH:
                break
    return {"escalated": escalated}
