"""Decisions about work permits that people make by the links in their mails.

    1 `links.read`    signature and time: nothing of a forged link reaches the database
    2 transaction     the permit is locked
                      the link is unused, its party still one of that permit, there, and undecided; the permit is open,
                      and as its reader saw it
                      `used_links`, the decision, the moves that follow from it, the tasks that tell of them: written
      commit          from here on all of it has happened; the tasks go out, or the relay sends them

What a crash leaves: before the commit nothing, and the link still works; after it everything, and the link is used. Two
who press at one moment wait for each other at the lock; the second one's link is used, or its party has decided.

    verified   →  the approvers are asked, the requester is told
    approved   →  vendor and security are told, with the permit in print, and the requester
    rejected   →  the requester is told

Must not: know the web.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session, col, delete

from models import database, permit_moves, permit_query
from models.permit import Decision, PartyRole, PermitState, UsedLink
from models.permit_query import Member, PermitView
from models.text import clean_text
from workers import callboard, links
from workers.actors import email
from workers.links import Link, LinkRefused

NOTE_MAX_CHARS = permit_moves.REASON_MAX_CHARS

_OPEN = {
    PartyRole.VERIFIER: (PermitState.SUBMITTED,),
    PartyRole.APPROVER: (PermitState.SUBMITTED, PermitState.VERIFIED),
}
"""While the permit is in one of these states, whoever has the role may decide. (An approver who is early is not asked
to come back.)"""
_CHOICES = (Decision.APPROVED, Decision.REJECTED)
_FOLLOW_UPS = {
    PermitState.VERIFIED: (email.send_workpermit_approval, email.send_workpermit_notice),
    PermitState.APPROVED: (email.send_workpermit_approved, email.send_workpermit_notice),
    PermitState.REJECTED: (email.send_workpermit_notice,),
}


@dataclass(frozen=True)
class Question:
    """What a link asks its holder."""

    link: Link
    view: PermitView
    member: Member


@dataclass(frozen=True)
class Decided:
    """What came of a decision.

    Args:
        state: of the permit, after it.
    """

    question: Question
    decision: Decision
    state: PermitState

    @property
    def verb(self) -> str:
        """What the person did: verified, approved or rejected."""
        is_verifier = self.question.member.party.role == PartyRole.VERIFIER
        return "verified" if is_verifier and self.decision is Decision.APPROVED else str(self.decision)


def ask(token: str, *, now: datetime) -> Question:
    """What a link asks; changes nothing.

    Raises:
        LinkRefused: it may not be used, or not any more.
    """
    link = links.read(token, links.keys(callboard.settings), now)
    with database.reading() as session:
        return _question(session, link, lock=False)


def decide(
    token: str, choice: Decision | None, *, version: int | None, note: str, from_address: str, now: datetime
) -> Decided:
    """Use a link.

    Args:
        choice: for a link that asks which decision; of any other its own, or None.
        version: of the permit that its reader saw; None: it is not known.
        note: the reader's words, cut at NOTE_MAX_CHARS.
        from_address: network address of whoever uses it.

    Raises:
        LinkRefused: nothing was changed.
    """
    link = links.read(token, links.keys(callboard.settings), now)
    decision = _chosen(link, choice)
    with database.writing() as session:
        question = _question(session, link, lock=True)
        permit = question.view.permit
        if version is not None and version != permit.version:
            raise LinkRefused("The permit was changed since you opened this page: open the link again and read it.",
                              reason="stale", link=link)  # fmt: skip
        # why here: a row is of no use once the link has expired, and each use clears what others have left.
        session.execute(delete(UsedLink).where(col(UsedLink.expires_at) < now))
        session.add(
            UsedLink(
                nonce=link.nonce,
                party_id=link.party_id,
                decision=decision,
                used_at=now,
                expires_at=link.expires_at,
                from_address=from_address[:100],
            )
        )
        session.flush()
        said = clean_text(note, NOTE_MAX_CHARS).strip() or None
        permit_moves.decide(session, link.party_id, decision, note=said, now=now)
        before = permit.state
        state = permit_moves.advance(session, permit, now=now)
        if state != before:
            for actor in _FOLLOW_UPS[state]:
                actor.send_in(session, permit.permit_id)
    return Decided(question, decision, state)


def _chosen(link: Link, choice: Decision | None) -> Decision:
    if link.decision is None:
        if choice not in _CHOICES:
            raise LinkRefused("It is not said what you decide: press one of the buttons.", reason="unclear", link=link)
        return choice
    if choice not in (None, link.decision):
        raise LinkRefused("This link is for another decision: use the other one in the mail.",
                          reason="changed", link=link)  # fmt: skip
    return Decision(link.decision)


def _question(session: Session, link: Link, *, lock: bool) -> Question:
    view = permit_query.view(session, link.permit_id, lock=lock)
    member = next((one for one in view.members if one.party.party_id == link.party_id), None) if view else None
    if view is None or member is None or member.party.role not in _OPEN:
        raise LinkRefused("There is no such permit any more, or you have no part in it any more.",
                          reason="gone", link=link)  # fmt: skip
    used = session.get(UsedLink, link.nonce)
    if used is not None:
        raise LinkRefused(f"This link was used on {view.site.local(used.used_at)}: you {used.decision} the permit.",
                          reason="used", link=link)  # fmt: skip
    if member.party.decision != Decision.PENDING:
        raise LinkRefused(f"You have {member.party.decision} this permit already.", reason="decided", link=link)
    if not member.person.is_active:
        raise LinkRefused("You have no part in this permit any more.", reason="left", link=link)
    if view.permit.state not in _OPEN[PartyRole(member.party.role)]:
        raise LinkRefused(f"Nothing is to be decided any more: the permit is {view.permit.state}.",
                          reason="closed", link=link)  # fmt: skip
    return Question(link, view, member)
