"""Tickets with their rules, people and history."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from models.ticket import EscalationRule, Ticket, TicketChange, TicketHistory, TicketRecipient, TicketState
from tests.factories.people import build_site, hire
from tests.factories.storing import NOW, id_of, store, store_links


def open_ticket(
    *, assignee: str | None = "Lena Fischer", recipients: Sequence[str] = ("Omar Aziz",), **changes: Any
) -> Ticket:
    """Store a ticket that was opened two hours ago, with its first line of history.

    Args:
        assignee: name of a person, who is hired for it; None: nobody has it.
        recipients: names of others who are told.
    """
    opened_at = changes.get("opened_at", NOW - timedelta(hours=2))
    columns = {
        "title": "Water under the pump room's door",
        "description": "About two centimetres <clear> & rising since six.",
        "category": "plumbing",
        "level_since_at": opened_at,
        "opened_at": opened_at,
        "updated_at": opened_at,
    }
    if "site_id" not in changes:
        columns["site_id"] = build_site()
    if assignee is not None and "assignee_id" not in changes:
        columns["assignee_id"] = hire(assignee)
    ticket = store(Ticket, columns, changes)
    store_links(TicketRecipient, {"ticket_id": id_of(ticket.ticket_id)}, tuple(map(hire, recipients)))
    note_change(ticket)
    return ticket


def note_change(ticket: Ticket, **changes: Any) -> TicketHistory:
    """Store a line of a ticket's history; without changes, that it was opened."""
    columns = {
        "ticket_id": id_of(ticket.ticket_id),
        "version": ticket.version,
        "change": TicketChange.OPENED,
        "level": ticket.level,
        "assignee_id": ticket.assignee_id,
        "state": TicketState(ticket.state),
        "by": "Front desk",
        "at": ticket.updated_at,
    }
    return store(TicketHistory, columns, changes)


def rule_escalation(category: str = "plumbing", level: int = 0, **changes: Any) -> EscalationRule:
    """Store a rule: after an hour at this level, somebody else has the ticket.

    `assignee_id` is made unless given.
    """
    columns = {"category": category, "level": level, "after_s": 3_600}
    if "assignee_id" not in changes:
        columns["assignee_id"] = hire(f"Manager L{level + 1}")
    return store(EscalationRule, columns, changes)
