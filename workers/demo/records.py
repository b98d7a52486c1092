"""What happens on the day of the demo: new rows at each run, of the sample's people and sites."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlmodel import Session, col, update

from models import database
from models.alert_event import AlertEvent
from models.job import Job, JobAssignee
from models.permit import PartyRole, PermitParty, WorkPermit
from models.provider import Provider, ProviderKind
from models.ticket import Ticket, TicketChange, TicketHistory, TicketRecipient, TicketState
from workers.sample import events, people

_DOOR = "door-"


@dataclass(frozen=True)
class Records:
    """Ids of what was stored, and the name of the service that will fail.

    Args:
        permit_id: one that is submitted, with a verifier and two approvers.
        overdue_id, soon_id: jobs, of which the first becomes a ticket, and the second is to be reminded of.
        ticket_id: one that has stood at its level for too long.
        event_id: something that a device reported.
        provider: its name.
    """

    permit_id: int
    overdue_id: int
    soon_id: int
    ticket_id: int
    event_id: int
    provider: str


def name_of(began_at: datetime) -> str:
    """What people read of a run: later ones are greater."""
    return f"{began_at:%y%m%d-%H%M%S}"


def store(now: datetime, *, name: str, provider_url: str) -> Records:
    """Store them. name: of this run, part of what people read."""
    with database.writing() as session:
        permit = _permit(session, now, name)
        overdue = _job(session, f"Empty the grease trap, {name}", now - timedelta(days=1), now)
        soon = _job(session, f"Read the meters, {name}", now + timedelta(minutes=30), now)
        ticket = _ticket(session, now, name)
        event = AlertEvent(
            rule_id=events.GENERATOR_FAULT, site_id=people.HARBOUR_TOWER, source=f"DG set 2, {name}",
            message="Coolant at 104 °C, above 98 °C", occurred_at=now - timedelta(minutes=4),
        )  # fmt: skip
        provider = Provider(
            provider=_DOOR + name, kind=ProviderKind.HTTP, target=provider_url, is_enabled=True, timeout_s=2.0
        )
        session.add_all([event, provider])
        session.flush()
        return Records(
            permit_id=permit.permit_id or 0,
            overdue_id=overdue.job_id or 0,
            soon_id=soon.job_id or 0,
            ticket_id=ticket.ticket_id or 0,
            event_id=event.event_id or 0,
            provider=provider.provider,
        )


def forget_provider(name: str) -> None:
    """Probe it no longer: the service of the demo is gone with the demo."""
    with database.writing() as session:
        session.get_one(Provider, name).is_enabled = False


def forget_providers(*, begun_before: datetime) -> None:
    """Those of runs that were killed as well: else each probe would find them down, for ever."""
    of_a_demo = col(Provider.provider).startswith(_DOOR), col(Provider.provider) < _DOOR + name_of(begun_before)
    with database.writing() as session:
        session.execute(update(Provider).where(*of_a_demo).values(is_enabled=False))


def _permit(session: Session, now: datetime, name: str) -> WorkPermit:
    permit = WorkPermit(
        reference=f"WP-{name}", site_id=people.HARBOUR_TOWER, vendor_id=people.LIFT_AND_HOIST,
        requester_id=people.RAVI, title="Replace the ropes of lift 3", place="Shaft 3, all floors",
        work="Hoist ropes are replaced & tested; lift 3 stands still for a day.",
        starts_at=now + timedelta(days=1), ends_at=now + timedelta(days=2), created_at=now, state_since_at=now,
    )  # fmt: skip
    session.add(permit)
    session.flush()
    parties = (
        (PartyRole.VERIFIER, people.VERA),
        (PartyRole.APPROVER, people.ASHA),
        (PartyRole.APPROVER, people.ARUN),
        (PartyRole.SECURITY, people.GATE),
    )
    session.add_all(PermitParty(permit_id=permit.permit_id or 0, role=role, person_id=who) for role, who in parties)
    return permit


def _job(session: Session, title: str, due_at: datetime, now: datetime) -> Job:
    job = Job(
        title=title, site_id=people.HARBOUR_TOWER, due_at=due_at, remind_at=due_at - timedelta(hours=1),
        expires_at=due_at + timedelta(hours=4), closes_at=due_at + timedelta(hours=5), opens_ticket=True,
        created_at=now - timedelta(days=2),
    )  # fmt: skip
    session.add(job)
    session.flush()
    session.add(JobAssignee(job_id=job.job_id or 0, person_id=people.ANITA))
    return job


def _ticket(session: Session, now: datetime, name: str) -> Ticket:
    opened_at = now - timedelta(hours=2)
    ticket = Ticket(
        title=f"Water under the pump room's door, {name}", description="About two centimetres & rising since six.",
        site_id=people.HARBOUR_TOWER, category="plumbing", assignee_id=people.ANITA, level_since_at=opened_at,
        opened_at=opened_at, updated_at=opened_at,
    )  # fmt: skip
    session.add(ticket)
    session.flush()
    session.add(TicketRecipient(ticket_id=ticket.ticket_id or 0, person_id=people.LENA))
    session.add(
        TicketHistory(
            ticket_id=ticket.ticket_id or 0, version=1, change=TicketChange.OPENED, level=0,
            assignee_id=people.ANITA, state=TicketState.OPEN, by="Front desk", at=opened_at,
        )
    )  # fmt: skip
    return ticket
