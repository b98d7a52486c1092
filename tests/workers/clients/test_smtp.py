"""The SMTP client against a real server: TLS, AUTH, and which answers may pass with time."""

import socket
from collections.abc import Iterator
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import pytest

from tests.workers.clients.smtp_server import (
    PASSWORD,
    USER,
    Authority,
    MailServer,
    mail_server,
    make_authority,
    silent_server,
)
from workers.clients.smtp import RecipientDeferred, RecipientRefused, SmtpServer
from workers.errors import PermanentError, TransientError

SENDER, RECIPIENT = "no-reply@example.org", "meera.nair@example.org"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def server() -> Iterator[MailServer]:
    with mail_server() as running:
        yield running


def letter(text: str = "Good day", subject: str = "A letter") -> EmailMessage:
    mail = EmailMessage(policy=SMTP.clone(cte_type="7bit"))
    mail["From"], mail["To"], mail["Subject"] = SENDER, RECIPIENT, subject
    mail.set_content(text)
    return mail


def send(url: str, mail: EmailMessage | None = None, *, timeout_s: float = 10.0) -> str:
    client = SmtpServer.from_url(url, timeout_s=timeout_s)
    return client.send(mail or letter(), sender=SENDER, recipient=RECIPIENT)


def test_a_mail_is_handed_over_and_the_answer_comes_back(server: MailServer) -> None:
    assert send(server.url) == "250 OK"

    assert server.envelopes == [(SENDER, [RECIPIENT])]
    assert server.mails[0].get_content() == "Good day\r\n"


def test_starttls_and_auth_take_a_mail(authority: Authority) -> None:
    with mail_server(starttls=True, auth=True, tls=authority.server_context) as server:
        url = f"smtp://{USER}:correct%20horse@127.0.0.1:{server.port}?starttls=1&ca_file={authority.ca_file}"

        assert send(url) == "250 OK"

        assert len(server.raw) == 1


def test_tls_from_the_first_byte_takes_a_mail(authority: Authority) -> None:
    with mail_server(implicit_tls=True, tls=authority.server_context) as server:
        assert send(f"smtps://127.0.0.1:{server.port}?ca_file={authority.ca_file}") == "250 OK"

        assert len(server.raw) == 1


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_an_untrusted_certificate_is_permanent_and_says_how_to_trust_it(authority: Authority, scheme: str) -> None:
    implicit_tls = scheme == "smtps"
    with mail_server(implicit_tls=implicit_tls, starttls=not implicit_tls, tls=authority.server_context) as server:
        with pytest.raises(PermanentError, match=r"is not trusted .*add ca_file=… to CALLBOARD_SMTP_URL"):
            send(f"{scheme}://127.0.0.1:{server.port}?starttls=1")

        assert server.raw == []


def test_a_wrong_password_is_permanent_and_is_not_shown(authority: Authority) -> None:
    with mail_server(starttls=True, auth=True, tls=authority.server_context) as server:
        url = f"smtp://{USER}:sesame@127.0.0.1:{server.port}?starttls=1&ca_file={authority.ca_file}"

        with pytest.raises(PermanentError, match="correct user and password in CALLBOARD_SMTP_URL") as caught:
            send(url)

        assert "sesame" not in str(caught.value)
        assert server.raw == []


def test_a_user_on_a_server_without_auth_is_permanent(server: MailServer) -> None:
    with pytest.raises(PermanentError, match="offers no AUTH: add starttls=1"):
        send(f"smtp://{USER}:{PASSWORD.replace(' ', '')}@127.0.0.1:{server.port}")


def test_a_server_without_starttls_gets_nothing_in_the_clear(server: MailServer) -> None:
    with pytest.raises(PermanentError, match=r"cannot do what CALLBOARD_SMTP_URL asks .*correct its starttls"):
        send(f"{server.url}?starttls=1")

    assert server.raw == []


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_ca_file_without_certificates_is_permanent(server: MailServer, tmp_path: Path, content: str | None) -> None:
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_text(content)

    with pytest.raises(PermanentError, match=r"correct ca_file=… in CALLBOARD_SMTP_URL"):
        send(f"{server.url}?starttls=1&ca_file={ca_file}")


@pytest.mark.parametrize(
    ("verb", "answer", "expected"),
    [
        ("MAIL", "451 later please", TransientError),
        ("RCPT", "450 greylisted", RecipientDeferred),
        ("RCPT", "550 no such user", RecipientRefused),
        ("DATA", "452 disk full", TransientError),
        ("DATA", "554 looks like spam", PermanentError),
    ],
)
def test_4xx_may_pass_with_time_and_5xx_does_not(
    server: MailServer, verb: str, answer: str, expected: type[Exception]
) -> None:
    server.answers = {verb: [answer]}

    with pytest.raises(expected, match=answer) as caught:
        send(server.url)

    assert isinstance(caught.value, TransientError) == answer.startswith("4")


def test_a_server_that_is_not_there_is_transient() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    with pytest.raises(TransientError, match=r"cannot be reached .*check that it runs"):
        send(f"smtp://127.0.0.1:{port}")


def test_a_server_that_says_nothing_times_out_and_is_transient() -> None:
    with silent_server() as port, pytest.raises(TransientError, match=r"cannot be reached \(.*timed out"):
        send(f"smtp://127.0.0.1:{port}", timeout_s=0.3)


def test_a_mail_that_was_taken_stays_taken_whatever_the_server_says_to_quit(server: MailServer) -> None:
    server.answers = {"QUIT": ["421 busy"]}

    assert send(server.url) == "250 OK"


def test_long_lines_and_other_alphabets_arrive_as_they_were(server: MailServer) -> None:
    text = "Straße " * 500 + "\n.\n..two dots\nമലയാളം 😀\n"

    send(server.url, letter(text, subject="Grüße aus Köln"))

    assert server.mails[0].get_content().replace("\r\n", "\n") == text
    assert server.mails[0]["Subject"] == "Grüße aus Köln"


@pytest.mark.parametrize("url", ["http://127.0.0.1", "smtp://", "smtp:mail", "smtp://user:hunter2@h:99999"])
def test_a_wrong_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match=r"expected smtp://|range") as caught:
        SmtpServer.from_url(url, timeout_s=1)

    assert "hunter2" not in str(caught.value)


def test_a_url_may_leave_the_port_out() -> None:
    ports = [SmtpServer.from_url(f"{scheme}://mail.example.org", timeout_s=1).port for scheme in ("smtp", "smtps")]

    assert ports == [25, 465]
