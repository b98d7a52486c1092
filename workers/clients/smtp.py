"""SMTP: one mail to one recipient over a real connection, with the server's answer.

URL: `smtp://user:password@host:587?starttls=1`, or `smtps://…` for TLS from the first byte. Answers 4xx, a refused or
dropped connection and a time-out are transient; answers 5xx and refused credentials are permanent (RFC 5321 §4.2.1).
"""

import contextlib
import smtplib
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from urllib.parse import parse_qs, unquote, urlsplit

from workers.errors import PermanentError, TransientError


class RecipientRefused(PermanentError):
    """The server refuses this recipient for good; it may take others."""


class RecipientDeferred(TransientError):
    """The server does not take mail for this recipient now (greylisting, a full mailbox); it may take others."""


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
            connection = self._connect()
            try:
                return self._converse(connection, mail, sender, recipient)
            finally:
                # why: once the server has taken the mail, whatever it says to QUIT must not look like a failure.
                with contextlib.suppress(smtplib.SMTPException, OSError):
                    connection.quit()
                connection.close()
        except smtplib.SMTPResponseException as error:
            raise _by_code(error.smtp_code, f"the mail server {self._name} answered {_said(error)}") from error
        except smtplib.SMTPNotSupportedError as error:
            raise PermanentError(f"the mail server {self._name} cannot do what CALLBOARD_SMTP_URL asks ({error}): "
                                 "correct its starttls=…, or use smtps://") from error  # fmt: skip
        except ssl.SSLCertVerificationError as error:
            raise PermanentError(f"the certificate of {self.host} is not trusted ({error.verify_message}): "
                                 "add ca_file=… to CALLBOARD_SMTP_URL") from error  # fmt: skip
        except (smtplib.SMTPException, OSError) as error:
            raise TransientError(f"the mail server {self._name} cannot be reached ({error}): check that it runs and "
                                 "that CALLBOARD_SMTP_URL is right") from error  # fmt: skip

    @property
    def _name(self) -> str:
        return f"{self.host}:{self.port}"

    def _connect(self) -> smtplib.SMTP:
        if self.implicit_tls:
            return smtplib.SMTP_SSL(self.host, self.port, timeout=self.timeout_s, context=self._tls())
        tls = self._tls() if self.starttls else None
        connection = smtplib.SMTP(self.host, self.port, timeout=self.timeout_s)
        if tls is not None:
            try:
                connection.starttls(context=tls)
            except BaseException:  # why: an interrupt too must not leave the connection open
                connection.close()
                raise
        return connection

    def _tls(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise PermanentError(f"the file {self.ca_file} has no certificates to trust ({error}): "
                                 "correct ca_file=… in CALLBOARD_SMTP_URL") from error  # fmt: skip

    def _converse(self, connection: smtplib.SMTP, mail: EmailMessage, sender: str, recipient: str) -> str:
        connection.ehlo_or_helo_if_needed()
        self._log_in(connection)
        code, answer = connection.mail(sender)
        if code != 250:
            raise smtplib.SMTPResponseException(code, answer)
        code, answer = connection.rcpt(recipient)
        if code not in (250, 251):
            said = f"the mail server {self._name} answered {code} {_text(answer)} to the recipient {recipient}"
            raise RecipientDeferred(said) if 400 <= code < 500 else RecipientRefused(said)
        code, answer = connection.data(mail.as_bytes(policy=SMTP))
        if code != 250:
            raise smtplib.SMTPResponseException(code, answer)
        return f"{code} {_text(answer)}"

    def _log_in(self, connection: smtplib.SMTP) -> None:
        if self.user is None:
            return
        try:
            connection.login(self.user, self.password or "")
        except smtplib.SMTPNotSupportedError as error:
            raise PermanentError(f"the mail server {self._name} offers no AUTH: add starttls=1 to CALLBOARD_SMTP_URL, "
                                 "or remove the user") from error  # fmt: skip
        except smtplib.SMTPAuthenticationError as error:
            raise _by_code(error.smtp_code, f"the mail server {self._name} refused the login ({_said(error)}): correct "
                           "user and password in CALLBOARD_SMTP_URL") from error  # fmt: skip


def _said(error: smtplib.SMTPResponseException) -> str:
    return f"{error.smtp_code} {_text(error.smtp_error)}"


def _by_code(code: int, message: str) -> Exception:
    return TransientError(message) if 400 <= code < 500 else PermanentError(message)


def _text(answer: bytes | str) -> str:
    return answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
