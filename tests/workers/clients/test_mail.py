"""Mail to people: each recipient once a task, both parts with the same facts, and nothing smuggled into a header."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from email.headerregistry import Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import select

from models import database
from models.mail import EmailDelivery
from models.report import InformationReport
from tests.servers import end
from tests.workers.clients.smtp_server import MailServer, mail_server
from workers.clients.address import check_address
from workers.clients.mail import MAX_ATTACHED_BYTES, MAX_ATTACHMENTS, MAX_RECIPIENTS, Attachment, Mailer, Recipient
from workers.clients.smtp import SmtpServer
from workers.errors import PermanentError, TransientError

SENDER = "Callboard <no-reply@callboard.example>"
FILED = datetime(2026, 11, 18, 19, 5, tzinfo=UTC)
REPORT = InformationReport(
    report_id="FIR-2026-000101",
    complainant_name="Meera Nair",
    station="Harbour Road",
    incident_place="Parking level 2",
    filed_at=FILED,
    summary="Theft of a bicycle & a <gate>.",
    officer_name="R. Menon",
)
CONTEXT = {"reference": REPORT.report_id, "report": REPORT}


@pytest.fixture
def server() -> Iterator[MailServer]:
    with mail_server() as running:
        yield running


def mailer(server: MailServer) -> Mailer:
    return Mailer(server=SmtpServer.from_url(server.url, timeout_s=5), sender=SENDER)


def deliver(server: MailServer, *recipients: str, task_id: str = "task-1") -> list[EmailDelivery]:
    told = [Recipient(address) for address in recipients]
    return mailer(server).deliver(task_id=task_id, template="confirmation", recipients=told, context=CONTEXT)


def deliveries() -> dict[str, EmailDelivery]:
    with database.reading() as session:
        return {row.recipient: row for row in session.exec(select(EmailDelivery)).all()}


@pytest.mark.parametrize(
    "address",
    ["", "a", "a@", "@b", "a@b@c", "a b@c.de", "Name <a@b.de>", "a@b..de", "a@-b.de", ".a@b.de", "a..b@c.de", "a.@b.de",
     "ü@b.de", "a@b.de,c@d.de", "a" * 65 + "@b.de", "a@" + "b" * 260],
)  # fmt: skip
def test_what_is_no_plain_address_is_refused(address: str) -> None:
    with pytest.raises(PermanentError, match="expected an e-mail address"):
        check_address(address)


@pytest.mark.parametrize("smuggled", ["\r\nBcc: all@example.org", "\n", "\u2028Bcc: x", "\u2029", "\x0b", "\0", "\x85"])
def test_a_control_character_never_reaches_an_address(smuggled: str) -> None:
    with pytest.raises(PermanentError, match=r"expected an e-mail address such as name@example\.org") as caught:
        check_address(f"a@example.org{smuggled}")

    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()


@given(st.from_regex(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~@-]{1,40}@[A-Za-z0-9.-]{1,30}", fullmatch=True))
def test_every_address_that_passes_can_be_written_into_a_header(address: str) -> None:
    try:
        check_address(address)
    except PermanentError:
        return

    assert Address(addr_spec=address).addr_spec == address


def test_ten_thousand_recipients_are_refused_before_any_mail(server: MailServer, sqlite_database: str) -> None:
    everybody = [f"p{number}@example.org" for number in range(10_000)]

    with pytest.raises(PermanentError, match=f"expected 1–{MAX_RECIPIENTS} recipients, got 10000"):
        deliver(server, *everybody)

    assert server.connections == 0
    assert deliveries() == {}


def test_without_a_server_the_error_says_what_to_set(sqlite_database: str) -> None:
    nowhere = Mailer(server=None, sender=SENDER)

    with pytest.raises(PermanentError, match="set CALLBOARD_SMTP_URL, or use `callboard up`"):
        nowhere.deliver(task_id="t", template="confirmation", recipients=[Recipient("a@example.org")], context=CONTEXT)


def test_the_headers_name_sender_recipient_and_time(server: MailServer, sqlite_database: str) -> None:
    deliver(server, "meera.nair@example.org")

    (mail,) = server.mails
    row = deliveries()["meera.nair@example.org"]
    assert (mail["From"], mail["To"]) == (SENDER, "meera.nair@example.org")
    assert mail["Subject"] == "Your information report FIR-2026-000101 was filed"
    assert (mail["Message-ID"], mail["Auto-Submitted"]) == (row.message_id, "auto-generated")
    assert mail["Date"].datetime == row.created_at.replace(microsecond=0)


@pytest.mark.parametrize("summary", ["Straße", "Straße " * 300, "x" * 5_000])
def test_a_server_without_8bitmime_can_take_it(server: MailServer, sqlite_database: str, summary: str) -> None:
    report = REPORT.model_copy(update={"summary": summary, "complainant_name": "Zoë"})

    mailer(server).deliver(
        task_id="t",
        template="confirmation",
        recipients=[Recipient("a@example.org")],
        context={"reference": "R", "report": report},
    )

    assert server.raw[0].isascii()
    assert max(map(len, server.raw[0].split(b"\r\n"))) <= 78
    text = server.mails[0].get_body(("plain",))
    assert text is not None
    assert report.summary.strip() in text.get_content()


def test_the_same_task_mails_nobody_twice(server: MailServer, ledger_database: str) -> None:
    first = deliver(server, "a@example.org", "b@example.org")

    second = deliver(server, "a@example.org", "b@example.org", "c@example.org")

    assert [envelope[1] for envelope in server.envelopes] == [["a@example.org"], ["b@example.org"], ["c@example.org"]]
    assert [one.message_id for one in second[:2]] == [one.message_id for one in first]
    assert {one.outcome for one in second} == {"sent"}


def test_a_recipient_named_twice_gets_one_mail(server: MailServer, sqlite_database: str) -> None:
    deliver(server, "a@example.org", "a@example.org")

    assert len(server.raw) == 1


def test_another_task_mails_the_same_person_again(server: MailServer, sqlite_database: str) -> None:
    deliver(server, "a@example.org", task_id="task-1")
    deliver(server, "a@example.org", task_id="task-2")

    ids = [mail["Message-ID"] for mail in server.mails]
    assert len(set(ids)) == 2


def test_killed_before_the_answer_was_recorded_the_mail_goes_out_with_the_same_message_id(
    server: MailServer, sqlite_database: str
) -> None:
    script = f"""
from models import database, tables
from workers.clients.mail import Mailer, Recipient
from workers.clients.smtp import SmtpServer

database.bind({sqlite_database!r})
mailer = Mailer(server=SmtpServer.from_url({server.url!r}, timeout_s=20), sender={SENDER!r})
context = {{"reference": "FIR-2026-000101", "report": None}}
mailer.deliver(task_id="task-1", template="confirmation", recipients=[Recipient("a@example.org")], context=context)
"""
    process = subprocess.Popen([sys.executable, "-c", script])
    server.before_answer = process.kill
    try:
        process.wait(timeout=90)
    finally:
        end(process)
    assert process.returncode == -9
    assert deliveries()["a@example.org"].outcome == "sending"
    server.before_answer = lambda: None

    deliver(server, "a@example.org")

    ids = [mail["Message-ID"] for mail in server.mails]
    assert ids == [ids[0]] * 2
    assert deliveries()["a@example.org"].outcome == "sent"


def test_a_failure_that_may_pass_leaves_the_delivery_open(server: MailServer, ledger_database: str) -> None:
    server.answers = {"DATA": ["451 try later"]}

    with pytest.raises(TransientError, match="451 try later"):
        deliver(server, "a@example.org")

    row = deliveries()["a@example.org"]
    assert (row.outcome, row.sent_at) == ("sending", None)


def test_a_refusal_is_recorded_with_the_answer(server: MailServer, ledger_database: str) -> None:
    server.answers = {"a@example.org": ["550 no such user"]}

    with pytest.raises(PermanentError, match="550 no such user"):
        deliver(server, "a@example.org")

    row = deliveries()["a@example.org"]
    assert (row.outcome, row.sent_at) == ("refused", None)
    assert "550 no such user" in (row.smtp_response or "")


def test_a_recipient_that_is_refused_or_deferred_keeps_nobody_else_from_the_mail(
    server: MailServer, sqlite_database: str
) -> None:
    server.answers = {"gone@example.org": ["550 no such user"], "full@example.org": ["452 mailbox full"]}

    with pytest.raises(TransientError, match="452 mailbox full"):
        deliver(server, "gone@example.org", "full@example.org", "a@example.org")

    outcomes = {recipient: row.outcome for recipient, row in deliveries().items()}
    assert outcomes == {"gone@example.org": "refused", "full@example.org": "sending", "a@example.org": "sent"}


def test_a_bad_address_in_a_record_keeps_nobody_else_from_the_mail_and_names_whose_it_is(
    server: MailServer, sqlite_database: str
) -> None:
    recipients = [Recipient("a@example.org"), Recipient("n/a", "Asha Pillai"), Recipient("b@example.org")]

    with pytest.raises(PermanentError, match="Asha Pillai: expected an e-mail address"):
        mailer(server).deliver(task_id="t", template="confirmation", recipients=recipients, context=CONTEXT)

    assert [envelope[1] for envelope in server.envelopes] == [["a@example.org"], ["b@example.org"]]


def deliver_with(server: MailServer, *attachments: Attachment) -> None:
    mailer(server).deliver(
        task_id="t",
        template="confirmation",
        recipients=[Recipient("a@example.org")],
        context=CONTEXT,
        attachments=attachments,
    )


def test_attachments_arrive_byte_for_byte_under_their_names(server: MailServer, sqlite_database: str) -> None:
    every_byte = bytes(range(256)) * 50
    plan = Attachment("Kranplan für Süd.pdf", "application/pdf", every_byte)

    deliver_with(server, plan, Attachment("notes.txt", "text/plain", b"Stra\xc3\x9fe\r\n"))

    (mail,) = server.mails
    arrived = [
        (one.get_filename(), one.get_content_type(), one.get_payload(decode=True)) for one in mail.iter_attachments()
    ]
    assert arrived == [("Kranplan für Süd.pdf", "application/pdf", every_byte),
                       ("notes.txt", "text/plain", b"Stra\xc3\x9fe\r\n")]  # fmt: skip
    assert mail.get_body(("plain",)) is not None
    assert mail.get_body(("html",)) is not None
    assert max(map(len, server.raw[0].split(b"\r\n"))) <= 78


@pytest.mark.parametrize(
    "name",
    [
        "x.pdf\r\nBcc: all@example.org",
        "x\u2028.pdf",
        "x\x0b.pdf",
        "x\0.pdf",
        "../../etc/passwd",
        "a\\b.pdf",
        "",
        "x" * 201,
    ],
)
def test_a_file_name_with_anything_but_a_name_is_refused_before_any_mail(
    server: MailServer, sqlite_database: str, name: str
) -> None:
    with pytest.raises(PermanentError, match="expected a file name of 1–200 characters") as caught:
        deliver_with(server, Attachment(name, "application/pdf", b""))

    assert str(caught.value).isprintable()
    assert server.connections == 0


@pytest.mark.parametrize("media_type", ["", "pdf", "application/pdf\r\nBcc: x", "a/b; charset=x", "a" * 70 + "/b"])
def test_a_media_type_that_is_none_is_refused(server: MailServer, sqlite_database: str, media_type: str) -> None:
    with pytest.raises(PermanentError, match="expected a media type such as application/pdf"):
        deliver_with(server, Attachment("x.pdf", media_type, b""))

    assert server.connections == 0


def test_too_many_and_too_large_attachments_are_refused(server: MailServer, sqlite_database: str) -> None:
    with pytest.raises(PermanentError, match=f"at most {MAX_ATTACHMENTS} attachments"):
        deliver_with(server, *[Attachment("x.pdf", "application/pdf", b"")] * (MAX_ATTACHMENTS + 1))
    with pytest.raises(PermanentError, match=r"a mail may have 10,485,760: attach less"):
        deliver_with(server, Attachment("x.pdf", "application/pdf", bytes(MAX_ATTACHED_BYTES + 1)))

    assert server.connections == 0
