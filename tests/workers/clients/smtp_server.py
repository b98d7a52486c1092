"""A real SMTP server on a loopback port, with TLS, AUTH and answers as a test wants them."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

USER, PASSWORD = "callboard", "correct horse"


@dataclass
class MailServer:
    """What the server was told and what it took.

    Args:
        answers: `RCPT`, `DATA`, `MAIL`, `QUIT` → the answers to give instead of 250, one after the other; a recipient's
            address → the answer to its RCPT, always.
    """

    port: int = 0
    answers: dict[str, list[str]] = field(default_factory=dict)
    raw: list[bytes] = field(default_factory=list)
    envelopes: list[tuple[str, list[str]]] = field(default_factory=list)
    connections: int = 0
    before_answer: Callable[[], None] = lambda: None
    """Called when a mail was kept and before the client hears of it."""

    @property
    def url(self) -> str:
        """Its URL without TLS and user."""
        return f"smtp://127.0.0.1:{self.port}"

    @property
    def mails(self) -> list[EmailMessage]:
        """The mails that it took."""
        return [_parsed(content) for content in self.raw]

    def _answer(self, verb: str, otherwise: str = "250 OK") -> str:
        planned = self.answers.get(verb, [])
        return planned.pop(0) if planned else otherwise

    async def handle_EHLO(self, server: Any, session: Any, envelope: Any, hostname: str, responses: list[str]) -> Any:
        self.connections += 1
        session.host_name = hostname
        return responses

    async def handle_MAIL(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        answer = self._answer("MAIL")
        if answer.startswith("2"):
            envelope.mail_from = address
        return answer

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        answer = self.answers[address][0] if address in self.answers else self._answer("RCPT")
        if answer.startswith("2"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        answer = self._answer("DATA")
        if answer.startswith("2"):
            self.raw.append(envelope.original_content)
            self.envelopes.append((envelope.mail_from, envelope.rcpt_tos))
            self.before_answer()
        return answer

    async def handle_QUIT(self, server: Any, session: Any, envelope: Any) -> str:
        return self._answer("QUIT", "221 Bye")


def _parsed(content: bytes) -> EmailMessage:
    message = message_from_bytes(content, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


class _OnAnyPort(Controller):
    """aiosmtpd's controller, on a port that the system chooses."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        super()._trigger_server()


@contextmanager
def mail_server(
    *, starttls: bool = False, implicit_tls: bool = False, auth: bool = False, tls: ssl.SSLContext | None = None
) -> Iterator[MailServer]:
    """A server that keeps each mail in memory.

    Args:
        tls: certificate for STARTTLS or implicit TLS.
    """
    state = MailServer()

    def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        known = isinstance(data, LoginPassword) and (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=known, handled=False)

    options: dict[str, Any] = {"authenticator": authenticate, "auth_required": True} if auth else {}
    controller = _OnAnyPort(
        state,
        hostname="127.0.0.1",
        port=0,
        ssl_context=tls if implicit_tls else None,
        tls_context=tls if starttls else None,
        **options,
    )
    controller.start()
    state.port = controller.port
    try:
        yield state
    finally:
        controller.stop()


@contextmanager
def silent_server() -> Iterator[int]:
    """A port that takes connections and says nothing; yields the port."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.1)
        held: list[socket.socket] = []

        def hold() -> None:
            while not stop.is_set():
                try:
                    held.append(listening.accept()[0])
                except TimeoutError:
                    continue

        thread = threading.Thread(target=hold)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            stop.set()
            thread.join()
            for connection in held:
                connection.close()


@dataclass(frozen=True)
class Authority:
    """A certificate authority for 127.0.0.1, and the file by which a client trusts it."""

    server_context: ssl.SSLContext
    ca_file: Path


def make_authority(directory: Path) -> Authority:
    """A fresh authority whose certificate is put into the directory."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    ca_file = directory / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    return Authority(context, ca_file)
