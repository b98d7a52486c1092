"""`email.send_confirmation` and `email.send_alert` through the real worker and a real SMTP server."""

from datetime import UTC, datetime

import pytest
from dramatiq import Worker

from models import database, task_query
from models.alert import Alert
from models.mail import EmailDelivery
from models.task import TaskStatus
from tests.factories.reports import file_report
from tests.servers import wait_until
from tests.workers.actors.running import all_rows, ended, row
from tests.workers.clients.smtp_server import MailServer
from workers import callboard, tasks
from workers.actors.email import send_alert, send_confirmation
from workers.errors import InvalidTask, PermanentError
from workers.notifications.notification import Recipient, notify

ADDRESS = "meera.nair@example.org"
QUICKLY = {"min_backoff": 50, "max_backoff": 100}
"""Back-off in milliseconds; the actor's own first retry is after 60 s."""


def text_of(mails: MailServer) -> str:
    (mail,) = mails.mails
    body = mail.get_body(("plain",))
    assert body is not None
    text: str = body.get_content()
    return text


def test_a_confirmation_is_mailed_with_the_reports_details(
    ledger_database: str, worker: Worker, mails: MailServer
) -> None:
    report = file_report()

    task_id = tasks.enqueue_task(
        "email.send_confirmation", params={"fir_id": report.report_id, "recipient_email": ADDRESS}
    )

    found = ended(task_id)
    assert found.status == TaskStatus.COMPLETED
    (delivery,) = all_rows(EmailDelivery)
    assert (delivery.task_id, delivery.recipient, delivery.outcome) == (task_id, ADDRESS, "sent")
    assert found.result["deliveries"][0] == {
        "recipient": ADDRESS,
        "outcome": "sent",
        "message_id": delivery.message_id,
        "smtp_response": "250 OK",
    }
    text = text_of(mails)
    for fact in (report.report_id, report.complainant_name, report.station, report.summary, "20 November 2026, 07:45"):
        assert fact in text


def test_the_reference_alone_is_enough(system: object, worker: Worker, mails: MailServer) -> None:
    task_id = tasks.enqueue_task(
        "email.send_confirmation", params={"fir_id": " FIR-ELSEWHERE-1 ", "recipient_email": ADDRESS}
    )

    assert ended(task_id).status == TaskStatus.COMPLETED
    assert "    FIR-ELSEWHERE-1\n" in text_of(mails).replace("\r\n", "\n")


def test_the_legacy_name_mails_as_well(system: object, worker: Worker, mails: MailServer) -> None:
    task_id = tasks.enqueue_task(
        "afirgen_tasks.email.send_confirmation", params={"fir_id": "FIR-1", "recipient_email": ADDRESS}
    )

    found = ended(task_id)
    assert (found.task_name, found.status) == ("email.send_confirmation", TaskStatus.COMPLETED)
    assert len(mails.raw) == 1


@pytest.mark.parametrize(
    ("params", "field", "mend"),
    [
        ({"fir_id": "F", "recipient_email": "a@b.de\nBcc: c@d.de"}, "recipient_email", "name@example.org"),
        ({"fir_id": "F", "recipient_email": "a@b.de\u2028"}, "recipient_email", "name@example.org"),
        ({"fir_id": "F\r\nBcc: c@d.de", "recipient_email": ADDRESS}, "fir_id", "printable characters"),
        ({"fir_id": "F\x0b", "recipient_email": ADDRESS, }, "fir_id", "as FIR-2026-000123"),
        ({"fir_id": "  ", "recipient_email": ADDRESS}, "fir_id", "as FIR-2026-000123"),
        ({"fir_id": "F" * 65, "recipient_email": ADDRESS}, "fir_id", "1–64"),
    ],
)  # fmt: skip
def test_header_injection_is_refused_at_the_send(system: object, params: dict[str, str], field: str, mend: str) -> None:
    with pytest.raises(InvalidTask, match=mend) as caught:
        tasks.enqueue_task("email.send_confirmation", params=params)

    assert caught.value.field == f"params.{field}"
    assert tasks.get_task_count() == 0


@pytest.mark.parametrize(
    ("fir_id", "recipient"), [("F\r\nBcc: x@y.de", ADDRESS), (17, ADDRESS), ("F-1", "a@b.de\r\nBcc: x"), ("F-1", 17)]
)
def test_a_plain_send_refuses_the_same_and_leaves_no_row(
    system: object, mails: MailServer, fir_id: object, recipient: object
) -> None:
    with pytest.raises(InvalidTask, match=r"params\.(fir_id|recipient_email): "):
        send_confirmation.send(fir_id, recipient)

    assert tasks.get_task_count() == 0
    assert mails.connections == 0


def test_a_4xx_is_retried_until_the_server_takes_the_mail(system: object, worker: Worker, mails: MailServer) -> None:
    mails.answers = {"DATA": ["451 try later", "451 try later"]}

    message = send_confirmation.send_with_options(args=("FIR-1", ADDRESS), **QUICKLY)

    found = ended(message.message_id)
    assert (found.status, found.retry_count, found.attempt) == (TaskStatus.COMPLETED, 2, 3)
    assert len(mails.raw) == 1
    with database.reading() as session:
        outcomes = [attempt.outcome for attempt in task_query.attempts(session, message.message_id)]
    assert outcomes == ["retried", "retried", "completed"]


def test_by_its_own_policy_the_first_retry_comes_after_a_minute(
    system: object, worker: Worker, mails: MailServer
) -> None:
    mails.answers = {"DATA": ["451 try later"]}
    sent_at = datetime.now(UTC)

    message = send_confirmation.send_with_options(args=("FIR-1", ADDRESS), max_backoff=3_600_000)

    wait_until(lambda: row(message.message_id).retry_count == 1, within_s=10, what="the first retry")
    found = row(message.message_id)
    assert (found.status, found.max_retries) == (TaskStatus.PENDING, 3)
    assert found.eta is not None
    assert 55 <= (found.eta - sent_at).total_seconds() <= 125


def test_a_5xx_fails_at_once_with_the_servers_words(system: object, worker: Worker, mails: MailServer) -> None:
    mails.answers = {"RCPT": ["550 no such user here"]}

    message = send_confirmation.send("FIR-1", ADDRESS)

    found = ended(message.message_id)
    assert (found.status, found.reason) == (TaskStatus.FAILED, "not retryable")
    assert "550 no such user here" in (found.error_message or "")


@pytest.mark.usefixtures("no_mail_server")
def test_without_a_server_the_task_fails_and_says_what_to_set(system: object, worker: Worker) -> None:
    message = send_confirmation.send("FIR-1", ADDRESS)

    found = ended(message.message_id)
    assert (found.status, found.reason) == (TaskStatus.FAILED, "not retryable")
    assert "set CALLBOARD_SMTP_URL, or use `callboard up`" in (found.error_message or "")


def test_a_notification_outside_a_task_is_refused(system: object, mails: MailServer) -> None:
    with pytest.raises(PermanentError, match=r"use \.send\(\), not a direct call"):
        notify("confirmation", [Recipient(ADDRESS)], {"reference": "R", "report": None})


def test_an_alert_is_mailed_to_everybody_whom_the_settings_name(
    system: object, worker: Worker, mails: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callboard.settings, "alert_recipients", ("a@example.org", "b@example.org"))
    with database.writing() as session:
        alert = Alert(key="health.disk_percent@h", message="disk of h is 99.0, above 92", opened_at=datetime.now(UTC))
        session.add(alert)

    message = send_alert.send(alert_id=alert.alert_id)

    assert ended(message.message_id).status == TaskStatus.COMPLETED
    assert [(mail["To"], mail["Subject"]) for mail in mails.mails] == [
        ("a@example.org", "Alert: disk of h is 99.0, above 92"),
        ("b@example.org", "Alert: disk of h is 99.0, above 92"),
    ]


def test_an_alert_that_does_not_exist_fails_at_once(system: object, worker: Worker, mails: MailServer) -> None:
    message = send_alert.send(alert_id=4711)

    found = ended(message.message_id)
    assert (found.status, found.error_message) == (
        TaskStatus.FAILED,
        "there is no alert 4711: it was deleted, or the id is wrong",
    )
