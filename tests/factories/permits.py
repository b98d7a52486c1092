"""Work permits with everybody who has to do with them."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlmodel import col, select

from models import database
from models.permit import PartyRole, PermitAttachment, PermitParty, WorkPermit
from tests.factories.people import build_site, hire, sign_vendor
from tests.factories.storing import NOW, id_of, store


def ask_for_permit(
    *,
    approvers: Sequence[str] = ("Asha Pillai", "Arun Nair"),
    verifiers: Sequence[str] = ("Vera Thomas",),
    security: Sequence[str] = ("Gate Desk",),
    **changes: Any,
) -> WorkPermit:
    """Store a permit for a vendor's work on a lift.

    Args:
        approvers, verifiers, security: names of people, who are hired for it.
        changes: other columns; `site_id`, `vendor_id` and `requester_id` are made unless given.
    """
    columns = {
        "reference": "WP-2026-000042",
        "title": "Replace the ropes of lift 2",
        "work": "Hoist ropes are replaced & tested; lift 2 stands <still> for two days.",
        "place": "Shaft 2, all floors",
        "starts_at": NOW + timedelta(days=1),
        "ends_at": NOW + timedelta(days=3),
        "created_at": NOW,
        "state_since_at": NOW,
    }
    for column, make in (("site_id", build_site), ("vendor_id", sign_vendor), ("requester_id", _requester)):
        if column not in changes:
            columns[column] = make()
    permit = store(WorkPermit, columns, changes)
    for role, names in (
        (PartyRole.APPROVER, approvers), (PartyRole.VERIFIER, verifiers), (PartyRole.SECURITY, security)
    ):  # fmt: skip
        for name in names:
            join_permit(id_of(permit.permit_id), role, hire(name))
    return permit


def join_permit(permit_id: int, role: PartyRole, person_id: int, **changes: Any) -> PermitParty:
    """Store a person in a role of a permit."""
    return store(PermitParty, {"permit_id": permit_id, "role": role, "person_id": person_id}, changes)


def attach(permit_id: int, **changes: Any) -> PermitAttachment:
    """Store the row of a file that belongs to a permit; the file itself is the test's."""
    columns = {
        "permit_id": permit_id,
        "file_name": "method statement.pdf",
        "media_type": "application/pdf",
        "path": f"permits/{permit_id}/1.pdf",
        "sha256": "0" * 64,
        "size_bytes": 0,
        "created_at": NOW,
    }
    return store(PermitAttachment, columns, changes)


def parties(permit_id: int, role: PartyRole) -> list[PermitParty]:
    """Those who are in a role of a permit, in the order in which they were stored."""
    with database.reading() as session:
        return list(
            session.exec(
                select(PermitParty)
                .where(col(PermitParty.permit_id) == permit_id, col(PermitParty.role) == role)
                .order_by(col(PermitParty.party_id))
            )
        )


def _requester() -> int:
    return hire("Ravi Menon")
