"""Mail to people: each recipient once a task, both parts with the same facts, and nothing smuggled into a header."""

import html
import re
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
from models.alert import Alert
from models.mail import EmailDelivery
from models.report import InformationReport
from tests.servers import end
from tests.workers.clients.smtp_server import MailServer, mail_server
from workers.clients.mail import MAX_RECIPIENTS, Mailer, check_address, render
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
    return mailer(server).deliver(task_id=task_id, template="confirmation", recipients=recipients, context=CONTEXT)


def deliveries() -> dict[str, EmailDelivery]:
    with database.reading() as session:
        return {row.recipient: row for row in session.exec(select(EmailDelivery)).all()}


def readable(markup: str) -> str:
    """What a person reads of the HTML part."""
    without_head = re.sub(r"<head>.*</head>", "", markup, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", without_head)).split())


@pytest.mark.parametrize(
    ("template", "context"),
    [
        ("confirmation", CONTEXT),
        ("confirmation", {"reference": "FIR-UNKNOWN", "report": None}),
        ("alert", {"alert": Alert(key="k", message="disk is 99, above 92", opened_at=FILED), "recovered": False}),
        (
            "alert",
            {"alert": Alert(key="k", message="disk was full", opened_at=FILED, closed_at=FILED), "recovered": True},
        ),
    ],
)
def test_the_text_and_the_html_part_say_the_same(template: str, context: dict[str, object]) -> None:
    mail = render(template, context)

    assert readable(mail.html) == " ".join(mail.text.split())


def test_markup_in_a_record_is_text_in_both_parts() -> None:
    hostile = "<img src=x onerror=alert(1)>"

    mail = render("confirmation", {"reference": "R-1", "report": REPORT.model_copy(update={"summary": hostile})})

    assert hostile in mail.text
    assert hostile not in mail.html
    assert html.escape(hostile) in mail.html


@pytest.mark.parametrize("smuggled", ["\r\nBcc: all@example.org", "\n", "\u2028Bcc: x", "\u2029", "\x0b", "\0", "\x85"])
def test_a_control_character_never_reaches_a_header(smuggled: str) -> None:
    with pytest.raises(PermanentError, match="clean the record"):
        render("confirmation", {"reference": f"R{smuggled}1", "report": None})
    with pytest.raises(PermanentError, match=r"expected an e-mail address such as name@example\.org") as caught:
        check_address(f"a@example.org{smuggled}")

    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "address",
    ["", "a", "a@", "@b", "a@b@c", "a b@c.de", "Name <a@b.de>", "a@b..de", "a@-b.de", ".a@b.de", "a..b@c.de", "a.@b.de",
     "ü@b.de", "a@b.de,c@d.de", "a" * 65 + "@b.de", "a@" + "b" * 260],
)  # fmt: skip
def test_what_is_no_plain_address_is_refused(address: str) -> None:
    with pytest.raises(PermanentError, match="expected an e-mail address"):
        check_address(address)


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
        nowhere.deliver(task_id="t", template="confirmation", recipients=["a@example.org"], context=CONTEXT)


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
        task_id="t", template="confirmation", recipients=["a@example.org"], context={"reference": "R", "report": report}
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
from workers.clients.mail import Mailer
from workers.clients.smtp import SmtpServer

database.bind({sqlite_database!r})
mailer = Mailer(server=SmtpServer.from_url({server.url!r}, timeout_s=20), sender={SENDER!r})
context = {{"reference": "FIR-2026-000101", "report": None}}
mailer.deliver(task_id="task-1", template="confirmation", recipients=["a@example.org"], context=context)
"""
    process = subprocess.Popen([sys.executable, "-c", script])
    server.before_answer = process.kill
    try:
        process.wait(timeout=30)
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
