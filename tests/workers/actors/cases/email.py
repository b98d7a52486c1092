"""`email`: notifications. What they have in common is MAIL_FAULTS; an actor's own are added to them."""

import hashlib
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any

from pypdf import PdfReader

from models import database
from models.document import Document
from models.permit import Decision, PartyRole, PermitState, WorkPermit
from models.person import Person
from models.subscription import Topic
from models.vendor import Vendor
from tests.factories.events import see_face
from tests.factories.jobs import assign_job
from tests.factories.people import hire, sign_vendor, subscribe
from tests.factories.permits import ask_for_permit, attach, parties
from tests.factories.reports import file_report
from tests.factories.sla import OCTOBER, measure_vendor
from tests.factories.storing import NOW, id_of
from tests.factories.upkeep import raise_alert
from tests.workers.actors.case import Arguments, Bad, Case, Fault, Flaw
from tests.workers.actors.running import all_rows
from tests.workers.actors.world import World
from workers import callboard

MAIL_FAULTS = (
    Fault("a 451", lambda world: world.mails.answers.update(DATA=["451 try later"]), "451 try later"),
    Fault(
        "a refused connection", World.refuse_mail, "cannot be reached .*: check that it runs", end=World.take_mail
    ),
)  # fmt: skip
"""The server is there again, or takes the mail, later."""


def _no_server(world: World, arguments: Arguments) -> Arguments:
    world.set("smtp_url", None)
    return arguments


def _refused(world: World, arguments: Arguments) -> Arguments:
    world.mails.answers["RCPT"] = ["550 no such user here"] * 10
    return arguments


MAIL_FLAWS = (
    Flaw("no server", _no_server, r"set CALLBOARD_SMTP_URL, or use `callboard up`"),
    Flaw("a 550", _refused, "550 no such user here"),
)
"""What no later try can mend."""


def mail_effect(world: World) -> Any:
    """Who has which mail, and what is on record of it."""
    return world.told, world.deliveries


def _confirmation(world: World) -> Arguments:
    return {"fir_id": file_report().report_id, "recipient_email": "meera.nair@example.org"}


def _confirmed(world: World, result: Any) -> None:
    assert [told[:2] for told in world.told] == [
        ("meera.nair@example.org", "Your information report FIR-2026-000777 was filed")
    ]
    assert world.deliveries == [("confirmation", "meera.nair@example.org", "sent")]
    assert result["deliveries"][0]["smtp_response"] == "250 OK"


def _alert(world: World) -> Arguments:
    world.set("alert_recipients", ("a@example.org", "b@example.org"))
    return {"alert_id": raise_alert(message="disk of h is 99.0, above 92").alert_id}


def _alerted(world: World, result: Any) -> None:
    subject = "Alert: disk of h is 99.0, above 92"
    assert [told[:2] for told in world.told] == [("a@example.org", subject), ("b@example.org", subject)]
    assert world.deliveries == [("alert", "a@example.org", "sent"), ("alert", "b@example.org", "sent")]


# --- work permits ----------------------------------------------------------------------------------------------------

VENDOR, GATE = "desk@lift-and-hoist.example.org", "gate.desk@example.org"
APPROVER, VERIFIER, REQUESTER = "asha.pillai@example.org", "vera.thomas@example.org", "ravi.menon@example.org"
PLAN = b"%PDF-1.7 how the ropes are changed"


def _permit(state: PermitState, **changes: Any) -> Callable[[World], Arguments]:
    """Prepares a permit in a state, with a file; who has decided by then has said yes."""

    def prepare(world: World) -> Arguments:
        permit = ask_for_permit(approvers=["Asha Pillai"], state=state, **changes)
        permit_id = id_of(permit.permit_id)
        path = f"permits/{permit_id}/1.pdf"
        file = callboard.settings.media_dir / path
        file.parent.mkdir(parents=True)
        file.write_bytes(PLAN)
        attach(permit_id, path=path, sha256=hashlib.sha256(PLAN).hexdigest(), size_bytes=len(PLAN))
        _decided(permit_id, PartyRole.VERIFIER, state not in (PermitState.SUBMITTED, PermitState.CANCELLED))
        _decided(permit_id, PartyRole.APPROVER, state in (PermitState.APPROVED, PermitState.RETURNED))
        return {"permit_id": permit_id}

    return prepare


def _decided(permit_id: int, role: PartyRole, yes: bool) -> None:
    with database.writing() as session:
        for party in parties(permit_id, role) if yes else ():
            party.decision, party.decided_at = Decision.APPROVED, NOW
            session.add(party)


def _changed(**columns: Any) -> Callable[[World, Arguments], Arguments]:
    """Makes the permit something else."""

    def make(world: World, arguments: Arguments) -> Arguments:
        with database.writing() as session:
            permit = session.get_one(WorkPermit, arguments["permit_id"])
            for column, value in columns.items():
                setattr(permit, column, value)
        return arguments

    return make


def _everybody_left(world: World, arguments: Arguments) -> Arguments:
    with database.writing() as session:
        for who in (*all_rows(Person), *all_rows(Vendor)):
            who.is_active = False
            session.add(who)
    return arguments


def _nobody_has(role: PartyRole) -> Callable[[World, Arguments], Arguments]:
    def make(world: World, arguments: Arguments) -> Arguments:
        with database.writing() as session:
            for party in parties(arguments["permit_id"], role):
                session.delete(party)
        return arguments

    return make


def _told(template: str, subject: str, *addresses: str, attached: Sequence[str] = ()) -> Callable[[World, Any], None]:
    """Proves that these people have this mail, once, with these files."""

    def prove(world: World, result: Any) -> None:
        assert [told[:2] for told in world.told] == sorted((address, subject) for address in addresses)
        assert len(world.mails.raw) == len(addresses)
        assert world.deliveries == sorted((template, address, "sent") for address in addresses)
        assert [one["outcome"] for one in result["deliveries"]] == ["sent"] * len(addresses)
        for mail in world.mails.mails:
            assert [file.get_filename() for file in mail.iter_attachments()] == list(attached)

    return prove


def _approved(world: World, result: Any) -> None:
    subject = "Work permit WP-2026-000042 was approved: Replace the ropes of lift 2"
    _told("permit_approved", subject, VENDOR, GATE, attached=["work-permit-1.pdf"])(world, result)
    ((_, printed),) = world.files.items()
    (document,) = all_rows(Document)
    assert document.sha256 == hashlib.sha256(printed).hexdigest()
    for mail in world.mails.mails:
        (file,) = mail.iter_attachments()
        assert file.get_payload(decode=True) == printed
    shown = " ".join(" ".join(page.extract_text() for page in PdfReader(BytesIO(printed)).pages).split())
    for fact in (
        "WP-2026-000042",
        "Replace the ropes of lift 2",
        "Lift & Hoist Ltd",
        "stands <still>",
        "Approved by Asha Pillai",
    ):
        assert fact in shown


def _mails_and_files(world: World) -> Any:
    return mail_effect(world), world.files, len(all_rows(Document))


_NO_PERMIT = Flaw(
    "no such permit", lambda world, arguments: {"permit_id": 4711}, "there is no work permit 4711: it was"
)
_NOBODY = Flaw("everybody has left", _everybody_left, "nobody gets the mail .*: those whom the record names have left")
_BAD_PERMIT = [
    Bad({"permit_id": 0}, "permit_id"),
    Bad({"permit_id": 2**31}, "permit_id"),
    Bad({"permit_id": "x"}, "permit_id"),
]
_SMUGGLED = Flaw("a header in the title", _changed(title="x\r\nBcc: all@example.org"), ": clean the record")


def _a_permit_case(
    prepare: Callable[[World], Arguments],
    proves: Callable[[World, Any], object],
    *flaws: Flaw,
    legacy: str,
    effect: Callable[[World], Any] = mail_effect,
    titled: bool = True,
) -> Case:
    own = [_SMUGGLED] if titled else []
    return Case(
        prepare=prepare,
        effect=effect,
        proves=proves,
        transient=MAIL_FAULTS,
        permanent=[*MAIL_FLAWS, _NO_PERMIT, _NOBODY, *own, *flaws],
        bad_input=_BAD_PERMIT,
        legacy=(legacy,),
    )


def _not(state: str) -> Flaw:
    return Flaw(
        "another state", _changed(state=PermitState.VERIFIED), f"is verified, not {state}: send this when it is"
    )


PERMIT_CASES = {
    "email.send_workpermit_approval": _a_permit_case(
        _permit(PermitState.VERIFIED),
        _told(
            "permit_approval", "Please approve work permit WP-2026-000042: Replace the ropes of lift 2", APPROVER,
            attached=["method statement.pdf"],
        ),
        Flaw("no approver", _nobody_has(PartyRole.APPROVER), "has no approver: name one in work_permit_parties"),
        legacy="send_email_notification_for_workpermit_approval",
    ),
    "email.send_workpermit_notice": _a_permit_case(
        _permit(PermitState.REJECTED, reason="No crane."),
        _told("permit_notice", "Your work permit WP-2026-000042 was rejected", REQUESTER),
        legacy="send_email_notification_for_wp",
        titled=False,
    ),
    "email.send_workpermit_verification": _a_permit_case(
        _permit(PermitState.SUBMITTED),
        _told(
            "permit_verification", "Please verify work permit WP-2026-000042: Replace the ropes of lift 2", VERIFIER,
            attached=["method statement.pdf"],
        ),
        Flaw("no verifier", _nobody_has(PartyRole.VERIFIER), "has no verifier: name one in work_permit_parties"),
        legacy="send_email_notification_for_wp_verifier",
    ),
    "email.send_workpermit_verification_from_mobile": _a_permit_case(
        _permit(PermitState.SUBMITTED, source="mobile"),
        _told(
            "permit_verification", "Please verify work permit WP-2026-000042: Replace the ropes of lift 2", VERIFIER
        ),
        legacy="send_email_notification_for_wp_from_mobile_for_verifier",
    ),
    "email.send_workpermit_cancellation": _a_permit_case(
        _permit(PermitState.CANCELLED),
        _told(
            "permit_cancelled", "Work permit WP-2026-000042 was cancelled: Replace the ropes of lift 2", VENDOR, GATE
        ),
        _not("cancelled"),
        legacy="send_email_notification_for_vendor_and_security_of_wp_cancellation",
    ),
    "email.send_return_workpermit": _a_permit_case(
        _permit(PermitState.RETURNED),
        _told("permit_returned", "Work permit WP-2026-000042 was returned: Replace the ropes of lift 2", VENDOR, GATE),
        _not("returned"),
        legacy="send_email_notification_for_vendor_and_security_for_rwp",
    ),
    "email.send_workpermit_approved": _a_permit_case(
        _permit(PermitState.APPROVED),
        _approved,
        _not("approved"),
        effect=_mails_and_files,
        legacy="send_email_notification_for_vendor_and_security_after_approval",
    ),
}  # fmt: skip


# --- SLA, jobs, faces ------------------------------------------------------------------------------------------------


def _sla(world: World) -> Arguments:
    subscribe(Topic.SLA_REPORT, hire("Maya Iyer"))
    measure_vendor(sign_vendor(name="Cool Air Ltd"), jobs_in_time=40, tickets_in_time=10)
    return {"period": measure_vendor().period}


def _reported(world: World, result: Any) -> None:
    subject = "SLA report for October 2026: 1 of 2 vendors met the target"
    _told("sla_report", subject, "maya.iyer@example.org", attached=["sla-report-2026-10.pdf"])(world, result)
    ((_, printed),) = world.files.items()
    shown = " ".join(" ".join(page.extract_text() for page in PdfReader(BytesIO(printed)).pages).split())
    for fact in ("October 2026", "1 of 2 vendors", "Cool Air Ltd", "Lift & Hoist Ltd", "92.0 %", "100.0 %", "37 of 40"):
        assert fact in shown


_NO_FIGURES = "there are no SLA figures.* for 2026-W07: make them first"

OTHER_CASES = {
    "email.send_vendor_sla": Case(
        prepare=lambda world: {"vendor_id": measure_vendor().vendor_id, "period": OCTOBER},
        effect=mail_effect,
        proves=_told("sla_vendor", "Your service levels in October 2026: target missed", VENDOR),
        transient=MAIL_FAULTS,
        permanent=[
            *MAIL_FLAWS,
            Flaw(
                "no such vendor", lambda world, arguments: {**arguments, "vendor_id": 4711}, "there is no vendor 4711"
            ),
            Flaw("no figures", lambda world, arguments: {**arguments, "period": "2026-W07"}, _NO_FIGURES),
        ],
        bad_input=[
            Bad({"vendor_id": 0}, "vendor_id"),
            *(Bad({"period": period}, "period") for period in ("2026", "2026-13", "2026-W54", "2026-10\n", "")),
        ],
        legacy=("send_email_notification_for_sla_vendor",),
    ),
    "email.send_sla_report": Case(
        prepare=_sla,
        effect=_mails_and_files,
        proves=_reported,
        transient=MAIL_FAULTS,
        permanent=[
            *MAIL_FLAWS,
            _NOBODY,
            Flaw("no figures", lambda world, arguments: {"period": "2026-W07"}, _NO_FIGURES),
        ],
        bad_input=[Bad({"period": "October"}, "period")],
        legacy=("send_email_notification_for_sla_report",),
    ),
    "email.send_reminder": Case(
        prepare=lambda world: {"job_id": assign_job(title="Check the diesel set").job_id},
        effect=mail_effect,
        proves=lambda world, result: _reminded(world),
        transient=MAIL_FAULTS,
        permanent=[
            *MAIL_FLAWS,
            _NOBODY,
            Flaw("no such job", lambda world, arguments: {"job_id": 4711}, "there is no job 4711"),
        ],
        bad_input=[Bad({"job_id": -1}, "job_id")],
        legacy=("send_reminder_email",),
    ),
    "email.send_mismatch_notification": Case(
        prepare=lambda world: {"event_id": see_face().event_id},
        effect=mail_effect,
        proves=_told("face_mismatch", "A face did not match: Imran Khan at Harbour Tower", "sunil.rao@example.org"),
        transient=MAIL_FAULTS,
        permanent=[
            *MAIL_FLAWS,
            Flaw("no such event", lambda world, arguments: {"event_id": 4711}, "there is no face event 4711"),
            Flaw(
                "no mismatch",
                lambda world, arguments: {"event_id": see_face(verdict="match").event_id},
                "is match, not",
            ),
            Flaw(
                "nobody to tell",
                lambda world, arguments: {"event_id": see_face(supervisors=()).event_id},
                "has no supervisor who could be told: name one in supervisions",
            ),
        ],
        bad_input=[Bad({"event_id": 0}, "event_id")],
        legacy=("send_mismatch_notification",),
    ),
}


def _reminded(world: World) -> None:
    ((address, subject, _),) = world.told
    assert address == "anita.das@example.org"
    assert subject.startswith("Reminder: Check the diesel set, due ")
    assert world.deliveries == [("job_reminder", address, "sent")]


CASES = {
    **PERMIT_CASES,
    **OTHER_CASES,
    "email.send_confirmation": Case(
        prepare=_confirmation,
        effect=mail_effect,
        proves=_confirmed,
        transient=MAIL_FAULTS,
        permanent=MAIL_FLAWS,
        bad_input=[
            Bad({"recipient_email": "a@b.de\r\nBcc: c@d.de"}, "recipient_email"),
            Bad({"fir_id": "F\x0b"}, "fir_id"),
        ],
        legacy=("afirgen_tasks.email.send_confirmation",),
    ),
    "email.send_alert": Case(
        prepare=_alert,
        effect=mail_effect,
        proves=_alerted,
        transient=MAIL_FAULTS,
        permanent=[
            *MAIL_FLAWS,
            Flaw(
                "no such alert", lambda world, arguments: {"alert_id": 4711}, "there is no alert 4711: it was deleted"
            ),
        ],
        bad_input=[Bad({"alert_id": 0}, "alert_id"), Bad({"event": "closed"}, "event")],
    ),
}
