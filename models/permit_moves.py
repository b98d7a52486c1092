"""The moves of a work permit, and the decisions that cause them; each is a compare-and-set.

    `decide`     a party's decision, once: pending → approved or rejected
    `advance`    what follows from all decisions: rejected when one says no; submitted → verified when all verifiers
                 have said yes (at once where there are none); verified → approved when all approvers have

The caller holds the permit's lock (models.permit_query.view(lock=True)): of two last decisions at one moment, the one
that comes second sees the first, and the permit does not stand still between them.

Must not: send anything, or know how somebody came to decide.
"""

from datetime import datetime
from typing import Any, cast

from sqlalchemy import CursorResult, update
from sqlmodel import Session, col, select

from models.permit import PERMIT_MOVES, Decision, PartyRole, PermitParty, PermitState, WorkPermit

REASON_MAX_CHARS = 500


def decide(session: Session, party_id: int, decision: Decision, *, note: str | None, now: datetime) -> bool:
    """Record what a verifier or approver says; False if they had decided before."""
    party = col(PermitParty.party_id) == party_id
    done = session.execute(
        update(PermitParty)
        .where(party, col(PermitParty.decision) == Decision.PENDING)
        .values(decision=decision, note=note, decided_at=now)
    )
    return _changed(done)


def move(
    session: Session, permit_id: int, begun: PermitState, end: PermitState, *, reason: str | None, now: datetime
) -> bool:
    """Bring a permit from one state to another, and count its version up; False if it is not in the first any more.

    Raises:
        ValueError: no such move is allowed.
    """
    if end not in PERMIT_MOVES[begun]:
        raise ValueError(f"a permit cannot go from {begun} to {end}")
    done = session.execute(
        update(WorkPermit)
        .where(col(WorkPermit.permit_id) == permit_id, col(WorkPermit.state) == begun)
        .values(state=end, reason=reason, version=WorkPermit.version + 1, state_since_at=now)
    )
    return _changed(done)


def advance(session: Session, permit: WorkPermit, *, now: datetime) -> PermitState:
    """Make the moves that follow from the decisions so far; returns the state that the permit is in then."""
    assert permit.permit_id is not None
    state = PermitState(permit.state)
    while (following := _next(session, permit.permit_id, state)) is not None:
        end, reason = following
        if not move(session, permit.permit_id, state, end, reason=reason, now=now):
            break
        state = end
    session.refresh(permit)
    return PermitState(permit.state)


def _next(session: Session, permit_id: int, state: PermitState) -> tuple[PermitState, str | None] | None:
    if state not in (PermitState.SUBMITTED, PermitState.VERIFIED):
        return None
    parties = session.exec(select(PermitParty).where(col(PermitParty.permit_id) == permit_id)).all()
    said_no = next((party for party in parties if party.decision == Decision.REJECTED), None)
    if said_no is not None:
        return PermitState.REJECTED, said_no.note
    if state is PermitState.SUBMITTED:
        return (PermitState.VERIFIED, None) if _all_say_yes(parties, PartyRole.VERIFIER) else None
    approvers = [party for party in parties if party.role == PartyRole.APPROVER]
    return (PermitState.APPROVED, None) if approvers and _all_say_yes(approvers, PartyRole.APPROVER) else None


def _all_say_yes(parties: Any, role: PartyRole) -> bool:
    return all(party.decision == Decision.APPROVED for party in parties if party.role == role)


def _changed(done: Any) -> bool:
    return cast("CursorResult[Any]", done).rowcount == 1
