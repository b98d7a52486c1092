"""SMTP: one mail to one recipient over a real connection, with the server's answer.

URL: `smtp://user:password@host:587?starttls=1`, or `smtps://…` for TLS from the first byte. Answers 4xx, a refused or
dropped connection and a time-out are transient; answers 5xx and refused credentials are permanent (RFC 5321 §4.2.1).
"""

import smtplib
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from urllib.parse import parse_qs, unquote, urlsplit

from workers.errors import PermanentError, TransientError


@dataclass(frozen=True)
class SmtpServer:
    """Where mail goes.

    Args:
        timeout_s: of connecting and of each answer.
        ca_file: PEM file of authorities to trust instead of the system's.
    """

    host: str
    port: int
    user: str | None = None
    password: str | None = None
    implicit_tls: bool = False
    starttls: bool = False
    timeout_s: float = 20.0
    ca_file: str | None = None

    @classmethod
    def from_url(cls, url: str, *, timeout_s: float) -> "SmtpServer":
        """Parse a URL as the module's docstring shows; raises ValueError without naming the password."""
        parts = urlsplit(url)
        implicit_tls = parts.scheme == "smtps"
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
            raise ValueError("expected smtp://user:password@host:port or smtps://…")
        query = parse_qs(parts.query)
        return cls(
            host=parts.hostname,
            port=parts.port or (465 if implicit_tls else 25),
            user=parts.username and unquote(parts.username),
            password=parts.password and unquote(parts.password),
            implicit_tls=implicit_tls,
            starttls=query.get("starttls", ["0"])[0] in ("1", "true", "yes"),
            timeout_s=timeout_s,
            ca_file=query.get("ca_file", [None])[0],
        )

    def send(self, mail: EmailMessage, *, sender: str, recipient: str) -> str:
        """Hand the mail over.

        Args:
            sender, recipient: envelope addresses.

        Returns:
            The server's answer, for instance `250 OK`.

        Raises:
            PermanentError: the same mail would be refused again.
            TransientError: it may be taken later.
        """
        try:
            with self._connect() as connection:
                return self._converse(connection, mail, sender, recipient)
        except smtplib.SMTPResponseException as error:
            said = f"{error.smtp_code} {_text(error.smtp_error)}"
            raise _by_code(error.smtp_code, f"the mail server {self.host}:{self.port} answered {said}") from error
        except (smtplib.SMTPException, OSError) as error:
            if isinstance(error, ssl.SSLCertVerificationError):
                raise PermanentError(f"the certificate of {self.host} is not trusted ({error.verify_message}): "
                                     "add ca_file=… to CALLBOARD_SMTP_URL") from error  # fmt: skip
            raise TransientError(f"the mail server {self.host}:{self.port} cannot be reached ({error})") from error

    def _connect(self) -> smtplib.SMTP:
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.implicit_tls:
            return smtplib.SMTP_SSL(self.host, self.port, timeout=self.timeout_s, context=context)
        connection = smtplib.SMTP(self.host, self.port, timeout=self.timeout_s)
        if self.starttls:
            try:
                connection.starttls(context=context)
            except BaseException:
                connection.close()
                raise
        return connection

    def _converse(self, connection: smtplib.SMTP, mail: EmailMessage, sender: str, recipient: str) -> str:
        if self.user is not None:
            try:
                connection.login(self.user, self.password or "")
            except smtplib.SMTPNotSupportedError as error:
                raise PermanentError(
                    f"the mail server {self.host} offers no AUTH: add starttls=1 to CALLBOARD_SMTP_URL, "
                    "or remove the user"
                ) from error
        connection.ehlo_or_helo_if_needed()
        for code, answer in (connection.mail(sender), connection.rcpt(recipient)):
            if code not in (250, 251):
                raise smtplib.SMTPResponseException(code, answer)
        code, answer = connection.data(mail.as_bytes(policy=SMTP))
        if code != 250:
            raise smtplib.SMTPResponseException(code, answer)
        return f"{code} {_text(answer)}"


def _by_code(code: int, message: str) -> Exception:
    return TransientError(message) if 400 <= code < 500 else PermanentError(message)


def _text(answer: bytes | str) -> str:
    return answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
