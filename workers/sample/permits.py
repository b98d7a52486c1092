"""Work permits: one that waits for its verifier, one for its approvers, one approved."""

from datetime import datetime, timedelta

from sqlmodel import SQLModel

from models.permit import Decision, PartyRole, PermitParty, PermitSource, PermitState, WorkPermit
from workers.sample.people import (
    ARUN,
    ASHA,
    COOL_AIR,
    GATE,
    HARBOUR_TOWER,
    LAKE_YARD,
    LIFT_AND_HOIST,
    RAVI,
    VERA,
)

ROPES, CHILLER, WELDING = 1, 2, 3
"""Permits."""


def rows(now: datetime) -> list[SQLModel]:
    """Three permits and their people."""
    return [
        WorkPermit(
            permit_id=ROPES, reference="WP-2026-000042", site_id=HARBOUR_TOWER, vendor_id=LIFT_AND_HOIST,
            requester_id=RAVI, title="Replace the ropes of lift 2", place="Shaft 2, all floors",
            work="Hoist ropes are replaced & tested; lift 2 stands still for two days.",
            state=PermitState.VERIFIED, starts_at=now + timedelta(days=1), ends_at=now + timedelta(days=3),
            created_at=now - timedelta(hours=5), state_since_at=now - timedelta(hours=1),
        ),
        WorkPermit(
            permit_id=CHILLER, reference="WP-2026-000043", site_id=HARBOUR_TOWER, vendor_id=COOL_AIR,
            requester_id=RAVI, title="Clean the condensers of chiller 1", place="Roof",
            work="Tubes are brushed; the area below is closed.", source=PermitSource.MOBILE,
            starts_at=now + timedelta(days=2), ends_at=now + timedelta(days=2, hours=6),
            created_at=now - timedelta(hours=2), state_since_at=now - timedelta(hours=2),
        ),
        WorkPermit(
            permit_id=WELDING, reference="WP-2026-000039", site_id=LAKE_YARD, vendor_id=LIFT_AND_HOIST,
            requester_id=RAVI, title="Weld the gantry's rail", place="Hall B",
            work="Hot work; a fire watch stays for an hour after.", state=PermitState.APPROVED,
            starts_at=now, ends_at=now + timedelta(hours=8),
            created_at=now - timedelta(days=2), state_since_at=now - timedelta(days=1),
        ),
        *_parties(ROPES, verified=Decision.APPROVED, approved=Decision.PENDING, now=now),
        *_parties(CHILLER, verified=Decision.PENDING, approved=Decision.PENDING, now=now),
        *_parties(WELDING, verified=Decision.APPROVED, approved=Decision.APPROVED, now=now),
    ]  # fmt: skip


def _parties(permit_id: int, *, verified: Decision, approved: Decision, now: datetime) -> list[SQLModel]:
    said = [
        (PartyRole.VERIFIER, VERA, verified),
        (PartyRole.APPROVER, ASHA, approved),
        (PartyRole.APPROVER, ARUN, approved),
        (PartyRole.SECURITY, GATE, Decision.PENDING),
    ]
    return [
        PermitParty(
            permit_id=permit_id, role=role, person_id=person_id, decision=decision,
            decided_at=None if decision is Decision.PENDING else now - timedelta(hours=1),
        )
        for role, person_id, decision in said
    ]  # fmt: skip
