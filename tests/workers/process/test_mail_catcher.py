"""The mail catcher as a real process: what it accepted lies complete in its folder."""

import smtplib
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest

from tests.servers import end, wait_until
from workers.clients.mail import Mailer, Recipient
from workers.clients.smtp import SmtpServer


@dataclass(frozen=True)
class Catcher:
    """A running mail catcher."""

    port: int
    directory: Path
    log: Path

    @property
    def files(self) -> list[Path]:
        """What its folder holds."""
        return sorted(self.directory.iterdir())


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catcher]:
    folder = tmp_path_factory.mktemp("catcher")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = folder / "log"
    with log.open("wb") as output:
        started = subprocess.Popen(
            [sys.executable, "-m", "workers.process.mail_catcher", str(port), str(folder / "mail")],
            stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        wait_until(lambda: "mail catcher on 127.0.0.1" in log.read_text(), within_s=30, what="the catcher's start")
        yield Catcher(port, folder / "mail", log)
    finally:
        end(started)


@pytest.fixture
def catcher(process: Catcher) -> Catcher:
    """The running catcher, its folder empty."""
    for path in process.files:
        path.unlink()
    return process


def send_raw(catcher: Catcher, recipients: list[str], content: bytes) -> None:
    with smtplib.SMTP("127.0.0.1", catcher.port, timeout=10) as connection:
        connection.sendmail("no-reply@example.org", recipients, content)


def kept(path: Path) -> EmailMessage:
    message = message_from_bytes(path.read_bytes(), policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


def test_a_notification_is_kept_with_its_text_and_its_html_part(catcher: Catcher, sqlite_database: str) -> None:
    mailer = Mailer(
        server=SmtpServer.from_url(f"smtp://127.0.0.1:{catcher.port}", timeout_s=10), sender="C <c@example.org>"
    )

    mailer.deliver(
        task_id="t", template="confirmation", recipients=[Recipient("meera.nair@example.org")],
        context={"reference": "FIR-2026-000101", "report": None},
    )  # fmt: skip

    (path,) = catcher.files
    assert path.name.endswith("-meera.nair@example.org.eml")
    assert path.stat().st_mode & 0o777 == 0o600
    mail = kept(path)
    for subtype in ("plain", "html"):
        part = mail.get_body((subtype,))
        assert part is not None
        assert "FIR-2026-000101" in part.get_content()


def test_its_folder_is_for_its_owner_alone(catcher: Catcher) -> None:
    assert catcher.directory.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "recipient", ["../../../etc/passwd@example.org", "/etc/passwd@example.org", "a/../b@example.org", "%00@example.org",
                  "$(reboot)@example.org", "a" * 60 + "@" + "b" * 180 + ".org"],
)  # fmt: skip
def test_whatever_the_recipient_the_file_stays_in_the_folder(catcher: Catcher, recipient: str) -> None:
    send_raw(catcher, [recipient], b"Subject: odd\r\n\r\nbody\r\n")

    (path,) = catcher.files
    assert path.suffix == ".eml"
    assert "/" not in path.name
    assert len(path.name) < 150
    assert kept(path)["Subject"] == "odd"


def test_two_mails_to_one_person_are_two_files(catcher: Catcher) -> None:
    for number in range(2):
        send_raw(catcher, ["a@example.org"], b"Subject: %d\r\n\r\n" % number)

    assert [kept(path)["Subject"] for path in catcher.files] == ["0", "1"]


def test_every_byte_is_kept(catcher: Catcher) -> None:
    content = b"Subject: dots\r\n\r\n.\r\n..\r\n" + b"x" * 900 + b"\r\n\xff\xfe\x00\r\n"

    send_raw(catcher, ["a@example.org"], content)

    (path,) = catcher.files
    assert path.read_bytes() == content


def test_a_subject_cannot_forge_a_line_of_the_log(catcher: Catcher) -> None:
    send_raw(catcher, ["a@example.org"], b"Subject: =?utf-8?q?a?= \x1b[2J\r\n ERROR fake\r\n\r\nbody\r\n")

    line = catcher.log.read_text().splitlines()[-1]
    assert line.startswith("kept ")
    assert line.isprintable()


def test_a_mail_that_cannot_be_kept_is_deferred_and_nothing_half_stays(catcher: Catcher) -> None:
    catcher.directory.rename(catcher.directory.with_name("gone"))
    try:
        with pytest.raises(smtplib.SMTPDataError, match=r"451.*cannot be kept"):
            send_raw(catcher, ["a@example.org"], b"Subject: x\r\n\r\n")
    finally:
        catcher.directory.with_name("gone").rename(catcher.directory)

    assert catcher.files == []
