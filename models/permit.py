"""Work permits: who asks, who decides, and what became of it.

    submitted → verified      when all verifiers have said yes
    verified  → approved      when all approvers have
    submitted, verified → rejected      when one of them has said no
    approved  → returned      the work is done
    submitted, verified, approved → cancelled

Every move is a compare-and-set on `state` and counts `version` up. A person's decision is a compare-and-set on
`decision` being pending.

Links in mails let a person decide without logging in. A link carries permit, party, decision, time of expiry and a
nonce, all signed; what it may do once is ensured by the primary key of `used_links`: the row of the nonce and the
decision are one transaction, so that a crash leaves both or neither. The links to approve and to reject that one mail
holds share their nonce: who used one has used the other.
"""

from datetime import datetime
from enum import StrEnum
from typing import Final

from sqlalchemy import Index, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

from models.columns import UtcDateTime


class PermitState(StrEnum):
    """`work_permits.state`."""

    SUBMITTED = "submitted"
    VERIFIED = "verified"
    APPROVED = "approved"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    RETURNED = "returned"


PERMIT_MOVES: Final[dict[PermitState, frozenset[PermitState]]] = {
    PermitState.SUBMITTED: frozenset({PermitState.VERIFIED, PermitState.REJECTED, PermitState.CANCELLED}),
    PermitState.VERIFIED: frozenset({PermitState.APPROVED, PermitState.REJECTED, PermitState.CANCELLED}),
    PermitState.APPROVED: frozenset({PermitState.RETURNED, PermitState.CANCELLED}),
    PermitState.REJECTED: frozenset(),
    PermitState.CANCELLED: frozenset(),
    PermitState.RETURNED: frozenset(),
}
"""The allowed moves."""


class PermitSource(StrEnum):
    """Where a permit was raised. From a phone, mails have a deep link and no attachment."""

    WEB = "web"
    MOBILE = "mobile"


class PartyRole(StrEnum):
    """What a person has to do with a permit."""

    VERIFIER = "verifier"
    APPROVER = "approver"
    SECURITY = "security"
    """Is told who will come; decides nothing."""


class Decision(StrEnum):
    """What a verifier or approver said."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"


class WorkPermit(SQLModel, table=True):
    """A permit for a vendor's people to do some work at a site."""

    __tablename__ = "work_permits"

    permit_id: int | None = Field(default=None, primary_key=True)
    reference: str = Field(max_length=64, unique=True)
    """What people quote, as `WP-2026-000042`."""
    version: int = 1
    """Counts up with every change; a document belongs to one version."""
    site_id: int = Field(foreign_key="sites.site_id")
    vendor_id: int = Field(foreign_key="vendors.vendor_id")
    requester_id: int = Field(foreign_key="people.person_id")
    title: str = Field(max_length=200)
    work: str = Field(default="", sa_type=Text)
    """What will be done, in the requester's words."""
    place: str = Field(default="", max_length=300)
    """Where at the site."""
    source: str = Field(default=PermitSource.WEB, max_length=16)
    state: str = Field(default=PermitState.SUBMITTED, max_length=16)
    reason: str | None = Field(default=None, max_length=500)
    """Why it was rejected, cancelled or returned; None in other states."""
    starts_at: datetime = Field(sa_type=UtcDateTime)
    ends_at: datetime = Field(sa_type=UtcDateTime)
    created_at: datetime = Field(sa_type=UtcDateTime)
    state_since_at: datetime = Field(sa_type=UtcDateTime)


class PermitParty(SQLModel, table=True):
    """A person in a role of a permit, once."""

    __tablename__ = "work_permit_parties"
    __table_args__ = (
        UniqueConstraint("permit_id", "role", "person_id", name="uq_work_permit_parties_permit_id_role_person_id"),
    )

    party_id: int | None = Field(default=None, primary_key=True)
    permit_id: int = Field(foreign_key="work_permits.permit_id", ondelete="CASCADE")
    role: str = Field(max_length=16)
    person_id: int = Field(foreign_key="people.person_id")
    decision: str = Field(default=Decision.PENDING, max_length=16)
    """Of a verifier or approver; security's stays pending."""
    note: str | None = Field(default=None, max_length=500)
    decided_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class PermitAttachment(SQLModel, table=True):
    """A file that the requester added. (The permit as PDF is a models.document.)"""

    __tablename__ = "work_permit_attachments"
    __table_args__ = (Index("ix_work_permit_attachments_permit_id", "permit_id"),)

    attachment_id: int | None = Field(default=None, primary_key=True)
    permit_id: int = Field(foreign_key="work_permits.permit_id", ondelete="CASCADE")
    file_name: str = Field(max_length=200)
    """As the requester named it: shown, never used as a path."""
    media_type: str = Field(max_length=100)
    path: str = Field(max_length=500)
    """Relative to the media folder."""
    sha256: str = Field(max_length=64)
    size_bytes: int
    created_at: datetime = Field(sa_type=UtcDateTime)


class UsedLink(SQLModel, table=True):
    """The nonce of a link that a person has used. Kept until the link would have expired."""

    __tablename__ = "used_links"
    __table_args__ = (Index("ix_used_links_expires_at", "expires_at"),)

    nonce: str = Field(primary_key=True, max_length=64)
    party_id: int = Field(foreign_key="work_permit_parties.party_id", ondelete="CASCADE")
    decision: str = Field(max_length=16)
    used_at: datetime = Field(sa_type=UtcDateTime)
    expires_at: datetime = Field(sa_type=UtcDateTime)
    from_address: str = Field(default="", max_length=100)
    """Network address of whoever used it."""
