"""A work permit with everything that is said of it: site, vendor, requester, those who decide, files."""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlmodel import Session, col, select

from models.permit import Decision, PartyRole, PermitAttachment, PermitParty, WorkPermit
from models.person import Person
from models.site import Site
from models.vendor import Vendor


@dataclass(frozen=True)
class Member:
    """A person in a role of a permit."""

    party: PermitParty
    person: Person


@dataclass(frozen=True)
class PermitView:
    """A permit as it is at one moment."""

    permit: WorkPermit
    site: Site
    vendor: Vendor
    requester: Person
    members: tuple[Member, ...]
    files: tuple[PermitAttachment, ...]

    def in_role(self, role: PartyRole) -> list[Member]:
        """Those who are in a role, in the order in which they were named."""
        return [member for member in self.members if member.party.role == role]

    def undecided(self, role: PartyRole) -> list[Member]:
        """Those of a role who have not decided yet."""
        return [member for member in self.in_role(role) if member.party.decision == Decision.PENDING]


def view(session: Session, permit_id: int, *, lock: bool = False) -> PermitView | None:
    """The permit, or None.

    Args:
        lock: whether nobody else may move it until the transaction ends.
    """
    permit = session.get(WorkPermit, permit_id, with_for_update=lock)
    if permit is None:
        return None
    return PermitView(
        permit=permit,
        site=session.get_one(Site, permit.site_id),
        vendor=session.get_one(Vendor, permit.vendor_id),
        requester=session.get_one(Person, permit.requester_id),
        members=tuple(_members(session, permit_id)),
        files=tuple(
            session.exec(
                select(PermitAttachment)
                .where(col(PermitAttachment.permit_id) == permit_id)
                .order_by(col(PermitAttachment.attachment_id))
            )
        ),
    )


def _members(session: Session, permit_id: int) -> Iterator[Member]:
    rows = session.exec(
        select(PermitParty, Person)
        .where(col(PermitParty.person_id) == col(Person.person_id), col(PermitParty.permit_id) == permit_id)
        .order_by(col(PermitParty.party_id))
    )
    for party, person in rows:
        yield Member(party, person)
