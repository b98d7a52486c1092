"""Permit mails: who is asked, what goes along, and when there is nothing to say any more."""

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dramatiq import Worker
from pydantic import SecretStr

from models import database
from models.mail import EmailDelivery
from models.permit import Decision, PartyRole, PermitState, WorkPermit
from models.person import Person
from models.site import Site
from models.task import TaskStatus
from tests.factories.people import hire
from tests.factories.permits import ask_for_permit, attach, join_permit, parties
from tests.factories.storing import NOW, id_of
from tests.workers.actors.conftest import documents, mails
from tests.workers.actors.running import all_rows, as_task, ended
from tests.workers.clients.smtp_server import PASSWORD, USER, MailServer, mail_server, make_authority
from workers import callboard, links, tasks
from workers.clients.mail import MAX_ATTACHED_BYTES
from workers.errors import PermanentError
from workers.notifications import permits

__all__ = ["documents", "mails"]


def decided(permit: WorkPermit, role: PartyRole, decision: Decision = Decision.APPROVED) -> None:
    with database.writing() as session:
        for party in parties(id_of(permit.permit_id), role):
            party.decision, party.decided_at = decision, NOW
            session.add(party)


def text_of(server: MailServer, number: int = 0) -> str:
    body = server.mails[number].get_body(("plain",))
    assert body is not None
    text: str = body.get_content()
    return text.replace("\r\n", "\n")


def run(actor: str, permit: WorkPermit) -> tuple[str, str | None]:
    """Status and reason of a task about a permit, run by the real worker."""
    found = ended(tasks.enqueue_task(actor, params={"permit_id": permit.permit_id}))
    return found.status, found.reason or found.error_message


@pytest.mark.parametrize(
    ("actor", "state", "role", "says"),
    [
        (
            "approval",
            PermitState.VERIFIED,
            PartyRole.APPROVER,
            "every approver of work permit WP-2026-000042 has decided",
        ),
        ("approval", PermitState.APPROVED, None, "is approved: nothing is to be decided"),
        ("approval", PermitState.REJECTED, None, "is rejected: nothing is to be decided"),
        ("verification", PermitState.SUBMITTED, PartyRole.VERIFIER, "every verifier of work permit"),
        ("verification_from_mobile", PermitState.CANCELLED, None, "is cancelled: nothing is to be decided"),
        ("approved", PermitState.CANCELLED, None, "is cancelled by now"),
        ("approved", PermitState.RETURNED, None, "is returned by now"),
    ],
)
@pytest.mark.usefixtures("system")
def test_where_there_is_nothing_to_say_any_more_the_task_ends_as_skipped(
    worker: Worker, mails: MailServer, actor: str, state: PermitState, role: PartyRole | None, says: str
) -> None:
    permit = ask_for_permit(state=state)
    if role is not None:
        decided(permit, role)

    status, reason = run(f"email.send_workpermit_{actor}", permit)

    assert status == TaskStatus.CANCELLED
    assert (reason or "").startswith("skipped: ")
    assert says in (reason or "")
    assert mails.connections == 0


@pytest.mark.usefixtures("system")
def test_only_who_has_not_decided_is_asked(mails: MailServer) -> None:
    permit = ask_for_permit(approvers=["Asha Pillai", "Arun Nair", "Gone Girl"], state=PermitState.VERIFIED)
    with database.writing() as session:
        first = parties(id_of(permit.permit_id), PartyRole.APPROVER)[0]
        first.decision = Decision.APPROVED
        session.add(first)
        for who in all_rows(Person):
            who.is_active = who.name != "Gone Girl"
            session.add(who)

    with as_task("task-1"):
        permits.APPROVAL.send(id_of(permit.permit_id))

    assert [mail["To"] for mail in mails.mails] == ["arun.nair@example.org"]


@pytest.mark.usefixtures("system")
def test_people_who_share_an_address_get_one_mail_with_the_links_of_each(mails: MailServer) -> None:
    permit = ask_for_permit(approvers=(), state=PermitState.VERIFIED)
    for name in ("Asha Pillai", "Arun Nair"):
        join_permit(id_of(permit.permit_id), PartyRole.APPROVER, hire(name, email="approvals@example.org"))

    with as_task("task-1"):
        permits.APPROVAL.send(id_of(permit.permit_id))

    text = text_of(mails)
    assert len(mails.raw) == 1
    assert "Dear Asha Pillai and Arun Nair,\n" in text
    assert text.index("If you are Asha Pillai:") < text.index("If you are Arun Nair:")
    assert len({word for word in text.split() if "/decide/" in word}) == 4


@pytest.mark.usefixtures("system")
def test_a_task_that_runs_again_sends_links_of_the_same_nonce(mails: MailServer) -> None:
    permit = ask_for_permit(approvers=["Asha Pillai"], state=PermitState.VERIFIED)
    nonces = []
    for _ in range(2):
        with as_task("task-1"):
            permits.APPROVAL.send(id_of(permit.permit_id))
        with database.writing() as session:  # what a worker leaves that dies before it notes the answer
            for delivery in all_rows(EmailDelivery):
                delivery.outcome = "sending"
                session.add(delivery)
    for number in range(2):
        for word in text_of(mails, number).split():
            if "/decide/" in word:
                token = word.rpartition("/")[2]
                nonces.append(links.read(token, links.keys(callboard.settings), datetime.now(UTC)).nonce)

    assert len(nonces) == 4
    assert len(set(nonces)) == 1
    assert len({mail["Message-ID"] for mail in mails.mails}) == 1


@pytest.mark.usefixtures("system")
def test_a_phone_is_led_to_the_app_where_there_is_one_and_gets_no_file(
    mails: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    permit = ask_for_permit(source="mobile")
    attach(id_of(permit.permit_id))
    monkeypatch.setattr(callboard.settings, "mobile_url", "https://app.example.org/permits/{permit_id}?from=mail")

    with as_task("task-1"):
        permits.VERIFICATION_FROM_MOBILE.send(id_of(permit.permit_id))

    (mail,) = mails.mails
    assert f"Open the permit: https://app.example.org/permits/{permit.permit_id}?from=mail\n" in text_of(mails)
    assert "Not attached:  method statement.pdf\n" in text_of(mails)
    assert "decide in your name" not in text_of(mails)
    assert list(mail.iter_attachments()) == []


@pytest.mark.usefixtures("system")
def test_files_that_are_too_large_are_named_and_do_not_go_along(mails: MailServer) -> None:
    permit = ask_for_permit()
    attach(id_of(permit.permit_id), size_bytes=MAX_ATTACHED_BYTES)
    attach(id_of(permit.permit_id), file_name="crane.pdf", size_bytes=1)

    with as_task("task-1"):
        permits.VERIFICATION.send(id_of(permit.permit_id))

    assert "Not attached:  method statement.pdf; crane.pdf\n" in text_of(mails)
    assert list(mails.mails[0].iter_attachments()) == []


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"path": "../../etc/passwd"}, "expected the path of a file below media/"),
        ({"path": "/etc/passwd"}, "expected the path of a file below media/"),
        ({"path": "permits/none.pdf"}, "cannot be read"),
        ({"sha256": "0" * 64}, "was changed since it was added: add it again"),
        ({"file_name": "x.pdf\r\nBcc: all@example.org"}, "expected a file name"),
        ({"media_type": "x"}, "expected a media type"),
    ],
)
@pytest.mark.usefixtures("system")
def test_a_file_that_is_not_as_its_row_says_is_refused_before_any_mail(
    mails: MailServer, documents: Path, columns: dict[str, str], says: str
) -> None:
    permit = ask_for_permit()
    folder = callboard.settings.media_dir
    folder.mkdir(parents=True)
    (folder / "plan.pdf").write_bytes(b"plan")
    columns = {"path": "plan.pdf", "sha256": hashlib.sha256(b"plan").hexdigest()} | columns
    attach(id_of(permit.permit_id), **columns)

    with as_task("task-1"), pytest.raises(PermanentError, match=says):
        permits.VERIFICATION.send(id_of(permit.permit_id))

    assert mails.connections == 0


@pytest.mark.usefixtures("system")
def test_a_permit_in_print_goes_over_starttls_and_auth(
    worker: Worker, documents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = make_authority(tmp_path)
    permit = ask_for_permit(state=PermitState.APPROVED)
    decided(permit, PartyRole.APPROVER)
    with mail_server(starttls=True, auth=True, tls=authority.server_context) as server:
        login = f"{USER}:{PASSWORD.replace(' ', '%20')}"
        url = f"smtp://{login}@127.0.0.1:{server.port}?starttls=1&ca_file={authority.ca_file}"
        monkeypatch.setattr(callboard.settings, "smtp_url", SecretStr(url))

        assert run("email.send_workpermit_approved", permit) == (TaskStatus.COMPLETED, None)

        kept = next(documents.iterdir()).read_bytes()
        assert [mail["To"] for mail in server.mails] == ["desk@lift-and-hoist.example.org", "gate.desk@example.org"]
        for mail in server.mails:
            (printed,) = mail.iter_attachments()
            assert printed.get_payload(decode=True) == kept


@pytest.mark.usefixtures("system")
def test_a_new_version_of_a_permit_is_another_document(mails: MailServer, documents: Path) -> None:
    permit = ask_for_permit(state=PermitState.APPROVED)
    for number in (1, 2):
        with database.writing() as session:
            stored = session.get_one(WorkPermit, permit.permit_id)
            stored.version, stored.ends_at = number, NOW + timedelta(days=number)
        with as_task(f"task-{number}"):
            permits.APPROVED.send(id_of(permit.permit_id))

    assert sorted(path.name[-6:] for path in documents.iterdir()) == ["v1.pdf", "v2.pdf"]


@pytest.mark.parametrize(("zone", "shown"), [
    ("Asia/Kolkata", "24 November 2026, 15:00 IST"), ("America/Sao_Paulo", "24 November 2026, 06:30 UTC-03"),
    ("Mars/Olympus", "24 November 2026, 09:30 UTC"), ("../../etc/passwd", "24 November 2026, 09:30 UTC"),
    ("", "24 November 2026, 09:30 UTC"),
])  # fmt: skip
def test_times_are_those_of_the_site(zone: str, shown: str) -> None:
    assert Site(name="S", time_zone=zone).local(datetime(2026, 11, 24, 9, 30, tzinfo=UTC)) == shown
