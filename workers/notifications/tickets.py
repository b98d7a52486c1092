"""Tickets: the people on one are told of its latest change."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, or_, select

from models.person import Person
from models.site import Site
from models.ticket import Ticket, TicketHistory, TicketRecipient
from workers.notifications.notification import Notification, Recipient, missing, person


@dataclass(frozen=True)
class ChangedTicket:
    """A ticket, its site, what changed last, and who is on it: whoever has it first."""

    ticket: Ticket
    site: Site
    change: TicketHistory | None
    assignee: Person | None
    people: tuple[Person, ...]


def _find(session: Session, ticket_id: int) -> ChangedTicket:
    ticket = session.get(Ticket, ticket_id)
    if ticket is None:
        raise missing("ticket", ticket_id)
    change = session.exec(
        select(TicketHistory)
        .where(col(TicketHistory.ticket_id) == ticket_id)
        .order_by(col(TicketHistory.version).desc())
        .limit(1)
    ).first()
    others = select(col(TicketRecipient.person_id)).where(col(TicketRecipient.ticket_id) == ticket_id)
    people = session.exec(
        select(Person)
        .where(or_(col(Person.person_id) == ticket.assignee_id, col(Person.person_id).in_(others)))
        .order_by(col(Person.person_id))
    ).all()
    assignee = next((one for one in people if one.person_id == ticket.assignee_id), None)
    return ChangedTicket(ticket, session.get_one(Site, ticket.site_id), change, assignee, tuple(people))


def _people(of: ChangedTicket) -> Iterator[Recipient]:
    for who in of.people:
        yield from person(who)


def _shown(of: ChangedTicket) -> Mapping[str, Any]:
    return {"ticket": of.ticket, "site": of.site, "change": of.change, "assignee": of.assignee}


CHANGED = Notification(template="ticket", find=_find, recipients=_people, context=_shown)
