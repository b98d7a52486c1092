"""Mail to people: template + recipients + record, the one mechanism behind every notification.

`deliver` renders `templates/mail/<template>.{subject,txt,html}` and sends it to each recipient once a task:

    row `sending`, committed  →  SMTP conversation  →  row `sent` or `refused`, committed

A task that runs again skips everybody whose row says `sent`. A recipient that the server refuses or defers keeps nobody
else from the mail. A crash between the server's answer and the second commit
leaves `sending`: that mail goes out again with the same Message-ID, by which mail systems recognise a duplicate; more
cannot be had from SMTP. Addresses and subjects with control characters are refused before anything is rendered.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlmodel import col, select

from models import database
from models.mail import DeliveryOutcome, EmailDelivery
from workers.clients.address import check_address
from workers.clients.smtp import RecipientDeferred, RecipientRefused, SmtpServer
from workers.errors import PermanentError

if TYPE_CHECKING:
    import jinja2

TEMPLATES_DIR = Path(__file__).resolve().parent.parent / "templates" / "mail"
MAX_RECIPIENTS = 500

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_POLICY = SMTP.clone(cte_type="7bit")
"""Seven-bit lines of at most 78 characters: a server without 8BITMIME (RFC 6152) takes them as well."""


@dataclass(frozen=True)
class Mailer:
    """How this process sends mail.

    Args:
        server: None if none is configured; then every delivery is a PermanentError that says the mend.
        sender: the From header, `Name <address>`.
    """

    server: SmtpServer | None
    sender: str

    def deliver(
        self, *, task_id: str, template: str, recipients: Sequence[str], context: Mapping[str, Any]
    ) -> list[EmailDelivery]:
        """Mail the template to each recipient, once a task.

        Args:
            task_id: whose mail this is: the idempotency key together with the recipient.
            template: name below templates/mail.
            context: what the template shows; escaped in the HTML part.

        Returns:
            The delivery of each recipient, in order; a recipient named twice gets one.

        Raises:
            PermanentError: no server, a bad address, or the server refused; recipients it did not refuse have the mail.
            TransientError: the server cannot take it now; those already sent stay sent.
        """
        if self.server is None:
            raise PermanentError("no mail server is configured: set CALLBOARD_SMTP_URL, or use `callboard up`, which "
                                 "starts a mail catcher")  # fmt: skip
        if not 1 <= len(recipients) <= MAX_RECIPIENTS:
            raise PermanentError(f"expected 1–{MAX_RECIPIENTS} recipients, got {len(recipients)}")
        checked = [check_address(recipient) for recipient in recipients]
        mail = render(template, context)
        deliveries: list[EmailDelivery] = []
        refused: list[RecipientRefused] = []
        deferred: list[RecipientDeferred] = []
        for recipient in dict.fromkeys(checked):
            try:
                deliveries.append(self._deliver_once(self.server, task_id, template, recipient, mail))
            except RecipientRefused as error:
                refused.append(error)
            except RecipientDeferred as error:
                deferred.append(error)
        if deferred:
            raise deferred[0]
        if refused:
            raise refused[0]
        return deliveries

    def _deliver_once(
        self, server: SmtpServer, task_id: str, template: str, recipient: str, mail: "Rendered"
    ) -> EmailDelivery:
        delivery = self._begin(task_id, template, recipient, mail.subject)
        if delivery.outcome == DeliveryOutcome.SENT:
            return delivery
        try:
            answer = server.send(
                self._compose(mail, recipient, delivery), sender=parseaddr(self.sender)[1], recipient=recipient
            )
        except PermanentError as error:
            _finish(delivery, DeliveryOutcome.REFUSED, str(error))
            raise
        return _finish(delivery, DeliveryOutcome.SENT, answer)

    def _begin(self, task_id: str, template: str, recipient: str, subject: str) -> EmailDelivery:
        with database.writing() as session:
            known = session.exec(
                select(EmailDelivery).where(
                    col(EmailDelivery.task_id) == task_id, col(EmailDelivery.recipient) == recipient
                )
            ).first()
            if known is not None:
                return known
            begun = EmailDelivery(
                task_id=task_id,
                recipient=recipient,
                message_id=self._message_id(task_id, recipient),
                template=template,
                subject=subject,
                created_at=datetime.now(UTC),
            )
            session.add(begun)
        return begun

    def _message_id(self, task_id: str, recipient: str) -> str:
        digest = hashlib.sha256(f"{task_id} {recipient}".encode()).hexdigest()[:32]
        return f"<{digest}@{parseaddr(self.sender)[1].rpartition('@')[2]}>"

    def _compose(self, mail: "Rendered", recipient: str, delivery: EmailDelivery) -> EmailMessage:
        message = EmailMessage(policy=_POLICY)
        name, address = parseaddr(self.sender)
        message["From"] = Address(display_name=name, addr_spec=address)
        message["To"] = Address(addr_spec=recipient)
        message["Subject"] = mail.subject
        message["Date"] = format_datetime(delivery.created_at)
        message["Message-ID"] = delivery.message_id
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(mail.text)
        message.add_alternative(mail.html, subtype="html")
        return message


@dataclass(frozen=True)
class Rendered:
    """A mail's three parts."""

    subject: str
    text: str
    html: str


def render(template: str, context: Mapping[str, Any]) -> Rendered:
    """Render a template's three parts; raises PermanentError for a subject with control characters."""
    environment = _environment()
    subject, text, html = (
        environment.get_template(f"{template}.{part}.j2").render(context) for part in ("subject", "txt", "html")
    )
    subject = subject.strip()
    if _CONTROL.search(subject) or len(subject) > 300:
        raise PermanentError("the subject has a control character or is longer than 300 characters: clean the record")
    return Rendered(subject, text, html)


@lru_cache(maxsize=1)
def _environment() -> "jinja2.Environment":
    import jinja2  # why: only processes that send mail pay for it.

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES_DIR),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),  # noqa: S701 - text parts must not be
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _finish(delivery: EmailDelivery, outcome: DeliveryOutcome, answer: str) -> EmailDelivery:
    with database.writing() as session:
        stored = session.get_one(EmailDelivery, delivery.delivery_id)
        stored.outcome = outcome
        stored.smtp_response = answer[:1_000]
        stored.sent_at = datetime.now(UTC) if outcome is DeliveryOutcome.SENT else None
    return stored
