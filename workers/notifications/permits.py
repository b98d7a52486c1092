"""Work permits: who is asked to decide, and who is told what came of it.

A question says something only while there is something to decide; later its task ends as skipped. What is told must be
so: a mail that a permit was cancelled is refused while it is not.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from dramatiq.middleware import SkipMessage
from sqlmodel import Session

from models.document import DocumentKind
from models.permit import Decision, PartyRole, PermitState
from models.permit_query import Member, PermitView, view
from workers import callboard, documents, links
from workers.clients.files import read_below
from workers.clients.mail import MAX_ATTACHED_BYTES, MAX_ATTACHMENTS
from workers.clients.pdf import Page
from workers.errors import PermanentError
from workers.links import Link
from workers.notifications.notification import Attachment, Notification, Recipient, missing, people, person
from workers.runner.current import current_task

OPEN = (PermitState.SUBMITTED, PermitState.VERIFIED)
OVER = (PermitState.CANCELLED, PermitState.RETURNED)


def facts(of: PermitView) -> dict[str, str]:
    """What everybody is shown of a permit, in mails, on its page and in print; values may be empty."""
    return {
        "Permit": of.permit.reference,
        "Work": of.permit.title,
        "Site": of.site.name,
        "Address": of.site.address,
        "Place": of.permit.place,
        "Vendor": of.vendor.name,
        "Requested by": of.requester.name,
        "From": of.site.local(of.permit.starts_at),
        "Until": of.site.local(of.permit.ends_at),
    }


def decisions(of: PermitView) -> dict[str, str]:
    """Who decided what, for people: `Verified by`, `Approved by`, `Rejected by` → names and times."""
    said: dict[str, list[str]] = {}
    for role, verb in ((PartyRole.VERIFIER, "Verified by"), (PartyRole.APPROVER, "Approved by")):
        for member in of.in_role(role):
            if member.party.decided_at is not None:
                name = "Rejected by" if member.party.decision == Decision.REJECTED else verb
                said.setdefault(name, []).append(f"{member.person.name} ({of.site.local(member.party.decided_at)})")
    return {name: "; ".join(people) for name, people in said.items()}


# --- finding ---------------------------------------------------------------------------------------------------------


def _find(session: Session, permit_id: int) -> PermitView:
    found = view(session, permit_id)
    if found is None:
        raise missing("work permit", permit_id)
    return found


def _find_open(session: Session, permit_id: int, *, role: PartyRole) -> PermitView:
    """A permit that somebody in the role has to decide about."""
    found = _find(session, permit_id)
    if found.permit.state not in OPEN:
        raise SkipMessage(f"work permit {found.permit.reference} is {found.permit.state}: nothing is to be decided")
    if not found.in_role(role):
        raise PermanentError(f"work permit {found.permit.reference} has no {role}: name one in work_permit_parties")
    if not found.undecided(role):
        raise SkipMessage(f"every {role} of work permit {found.permit.reference} has decided")
    return found


def _find_in(session: Session, permit_id: int, *, state: PermitState) -> PermitView:
    """A permit of which the state can be told."""
    found = _find(session, permit_id)
    if found.permit.state == state:
        return found
    said = f"work permit {found.permit.reference} is {found.permit.state}"
    if state is PermitState.APPROVED and found.permit.state in OVER:
        raise SkipMessage(f"{said} by now")
    raise PermanentError(f"{said}, not {state}: send this when it is")


# --- who gets it -----------------------------------------------------------------------------------------------------


def _vendor_and_security(of: PermitView) -> Iterator[Recipient]:
    if of.vendor.is_active:
        yield Recipient(of.vendor.email, of.vendor.name)
    yield from people(member.person for member in of.in_role(PartyRole.SECURITY))


def _undecided(
    of: PermitView, *, role: PartyRole, ask: Callable[[PermitView, Member], Sequence[Any]]
) -> Iterator[Recipient]:
    """Those who have to decide, each with their own links; who share an address get one mail with the links of both."""
    asked: dict[str, list[Member]] = {}
    for member in of.undecided(role):
        if member.person.is_active:
            asked.setdefault(member.person.email, []).append(member)
    for address, members in asked.items():
        questions = [{"name": member.person.name, "links": ask(of, member)} for member in members]
        name = " and ".join(member.person.name for member in members)
        yield Recipient(address, name, {"questions": questions})


def _link(of: PermitView, member: Member, decision: links.Choice | None) -> str:
    # why made of the task and the party: a task that runs again sends the same links, of which one can be used.
    nonce = hashlib.sha256(f"{current_task().id} {member.party.party_id}".encode()).hexdigest()[:32]
    assert of.permit.permit_id is not None
    assert member.party.party_id is not None
    link = Link(of.permit.permit_id, member.party.party_id, decision, nonce, _expiry())
    return links.url(callboard.settings, link)


def _expiry() -> datetime:
    return datetime.now(UTC) + timedelta(hours=callboard.settings.link_hours)


def _yes_or_no(of: PermitView, member: Member, *, yes: str) -> Sequence[Any]:
    return [(yes, _link(of, member, "approved"), "yes"), ("Reject", _link(of, member, "rejected"), "no")]


def _open_on_phone(of: PermitView, member: Member) -> Sequence[Any]:
    app = callboard.settings.mobile_url
    where = app.replace("{permit_id}", str(of.permit.permit_id)) if app else _link(of, member, None)
    return [("Open the permit", where, "yes")]


# --- what it says ----------------------------------------------------------------------------------------------------


def _shown(of: PermitView) -> Mapping[str, Any]:
    return {"permit": of.permit, "facts": facts(of), "decisions": decisions(of), "site": of.site}


def _asked(of: PermitView) -> Mapping[str, Any]:
    names = [file.file_name for file in of.files]
    attached, left_out = (names, []) if _fit(of) else ([], names)
    return {**_shown(of), "expires": of.site.local(_expiry()), "attached": attached, "left_out": left_out}


def _asked_on_phone(of: PermitView) -> Mapping[str, Any]:
    asked = {**_asked(of), "attached": [], "left_out": [file.file_name for file in of.files]}
    # why: a link into the app lets nobody decide by itself, and does not expire.
    return asked | {"expires": None} if callboard.settings.mobile_url else asked


# --- what goes along -------------------------------------------------------------------------------------------------


def _fit(of: PermitView) -> bool:
    """Whether the requester's files can go along. If not, the mail names them: who has to decide must hear of it."""
    return len(of.files) <= MAX_ATTACHMENTS and sum(file.size_bytes for file in of.files) <= MAX_ATTACHED_BYTES


def _files(of: PermitView) -> Sequence[Attachment]:
    """The requester's files, as they were when they were added."""
    if not _fit(of):
        return ()
    attached = []
    for file in of.files:
        content = read_below(callboard.settings.media_dir, file.path, max_bytes=MAX_ATTACHED_BYTES)
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise PermanentError(f"the file {file.file_name[:200]!a} of work permit {of.permit.reference} was changed "
                                 "since it was added: add it again")  # fmt: skip
        attached.append(Attachment(file.file_name, file.media_type, content))
    return attached


def page_of(of: PermitView) -> Page:
    """What is printed of a permit."""
    shown = {**facts(of), "State": of.permit.state, **decisions(of)}
    return Page(
        title="Work permit",
        reference=of.permit.reference,
        facts={name: value for name, value in shown.items() if value},
        sections={"Description of the work": of.permit.work},
    )


def _printed(of: PermitView) -> Sequence[Attachment]:
    permit = of.permit
    kept = documents.keep(
        callboard.settings.documents_dir,
        DocumentKind.WORK_PERMIT,
        permit.reference,
        permit.version,
        lambda: page_of(of),
    )
    return [Attachment(f"work-permit-{permit.permit_id}.pdf", "application/pdf", kept.content)]


# --- the mails -------------------------------------------------------------------------------------------------------

APPROVAL = Notification(
    template="permit_approval",
    find=partial(_find_open, role=PartyRole.APPROVER),
    recipients=partial(_undecided, role=PartyRole.APPROVER, ask=partial(_yes_or_no, yes="Approve")),
    context=_asked,
    attachments=_files,
)
VERIFICATION = Notification(
    template="permit_verification",
    find=partial(_find_open, role=PartyRole.VERIFIER),
    recipients=partial(_undecided, role=PartyRole.VERIFIER, ask=partial(_yes_or_no, yes="Verify")),
    context=_asked,
    attachments=_files,
)
VERIFICATION_FROM_MOBILE = Notification(
    template="permit_verification",
    find=partial(_find_open, role=PartyRole.VERIFIER),
    recipients=partial(_undecided, role=PartyRole.VERIFIER, ask=_open_on_phone),
    context=_asked_on_phone,
)
NOTICE = Notification(template="permit_notice", find=_find, recipients=lambda of: person(of.requester), context=_shown)
APPROVED = Notification(
    template="permit_approved",
    find=partial(_find_in, state=PermitState.APPROVED),
    recipients=_vendor_and_security,
    context=_shown,
    attachments=_printed,
)
CANCELLED = Notification(
    template="permit_cancelled",
    find=partial(_find_in, state=PermitState.CANCELLED),
    recipients=_vendor_and_security,
    context=_shown,
)
RETURNED = Notification(
    template="permit_returned",
    find=partial(_find_in, state=PermitState.RETURNED),
    recipients=_vendor_and_security,
    context=_shown,
)
