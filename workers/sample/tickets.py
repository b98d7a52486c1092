"""Tickets: one that has waited too long at its level, one that has not."""

from datetime import datetime, timedelta

from sqlmodel import SQLModel

from models.ticket import EscalationRule, Ticket, TicketChange, TicketHistory, TicketRecipient, TicketState
from workers.sample.people import ANITA, HARBOUR_TOWER, LAKE_YARD, LENA, OMAR

PUMP_ROOM, LAMP = 1, 2
"""Tickets."""


def rows(now: datetime) -> list[SQLModel]:
    """Two tickets, and rules by which the first goes up."""
    return [
        EscalationRule(category="plumbing", level=0, after_s=3_600, assignee_id=OMAR),
        EscalationRule(category="plumbing", level=1, after_s=4 * 3_600, assignee_id=LENA),
        EscalationRule(category="general", level=0, after_s=86_400, assignee_id=OMAR),
        *_ticket(
            PUMP_ROOM, "Water under the pump room's door", "About two centimetres & rising since six.",
            HARBOUR_TOWER, "plumbing", now - timedelta(hours=2),
        ),
        *_ticket(LAMP, "The lamp over gate 3 is out", "", LAKE_YARD, "general", now - timedelta(minutes=20)),
        TicketRecipient(ticket_id=PUMP_ROOM, person_id=LENA),
    ]  # fmt: skip


def _ticket(
    ticket_id: int, title: str, description: str, site_id: int, category: str, opened_at: datetime
) -> list[SQLModel]:
    ticket = Ticket(
        ticket_id=ticket_id, title=title, description=description, site_id=site_id, category=category,
        assignee_id=ANITA, level_since_at=opened_at, opened_at=opened_at, updated_at=opened_at,
    )  # fmt: skip
    opened = TicketHistory(
        ticket_id=ticket_id, version=1, change=TicketChange.OPENED, level=0, assignee_id=ANITA, state=TicketState.OPEN,
        by="Front desk", at=opened_at,
    )  # fmt: skip
    return [ticket, opened]
