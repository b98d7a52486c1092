"""Mail to people: each recipient once a task, and what became of it on record.

    row `sending`, committed  →  SMTP conversation  →  row `sent` or `refused`, committed

A task that runs again skips everybody whose row says `sent`. A recipient that the server refuses or defers, or whose
address is none, keeps nobody else from the mail. What a crash leaves:

    before the first commit     nothing; the mail goes out when the task runs again
    before the server's answer  `sending`; the server has not taken the mail, it goes out then
    before the second commit    `sending`; the server has it, and gets it once more under the same Message-ID, by which
                                mail systems recognise a duplicate. More cannot be had from SMTP: there is no moment at
                                which taking and recording are one

Must not: decide who gets a mail (workers.notifications), or what it says (templates/mail).
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from typing import Any

from sqlmodel import col, select

from models import database
from models.mail import DeliveryOutcome, EmailDelivery
from workers.clients.address import check_address
from workers.clients.mail_template import CONTROL, Rendered, render
from workers.clients.smtp import RecipientDeferred, RecipientRefused, SmtpServer
from workers.errors import PermanentError

MAX_RECIPIENTS = 500
MAX_ATTACHMENTS = 20
MAX_ATTACHED_BYTES = 10 * 1024 * 1024
"""Of all attachments of a mail; what most servers take, base64's third and the parts' headers on top."""
FILE_NAME_MAX_CHARS = 200

_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,60}/[a-z0-9][a-z0-9.+-]{0,60}")
_POLICY = SMTP.clone(cte_type="7bit")
"""Seven-bit lines of at most 78 characters: a server without 8BITMIME (RFC 6152) takes them as well."""


@dataclass(frozen=True)
class Recipient:
    """Somebody who gets a mail.

    Args:
        address: of e-mail; checked when the mail is sent.
        name: by which the mail addresses them; empty: it does not.
        own: what the template shows to this one only, for instance their links.
    """

    address: str
    name: str = ""
    own: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Attachment:
    """A file that goes along.

    Args:
        name: shown to people; no path.
        media_type: as `application/pdf`.
    """

    name: str
    media_type: str
    content: bytes


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
        self,
        *,
        task_id: str,
        template: str,
        recipients: Sequence[Recipient],
        context: Mapping[str, Any],
        attachments: Sequence[Attachment] = (),
    ) -> list[EmailDelivery]:
        """Mail the template to each recipient, once a task.

        Args:
            task_id: whose mail this is: the idempotency key together with the recipient's address.
            template: name below templates/mail.
            context: what the template shows to everybody; it also has a recipient's `own`, and the recipient as `to`.

        Returns:
            The delivery of each recipient, in order; an address that is named twice gets one.

        Raises:
            PermanentError: no server, a bad address or file name, or the server refused; recipients it did not refuse
                have the mail.
            TransientError: the server cannot take it now; those already sent stay sent.
        """
        if self.server is None:
            raise PermanentError("no mail server is configured: set CALLBOARD_SMTP_URL, or use `callboard up`, which "
                                 "starts a mail catcher")  # fmt: skip
        if not 1 <= len(recipients) <= MAX_RECIPIENTS:
            raise PermanentError(f"expected 1–{MAX_RECIPIENTS} recipients, got {len(recipients)}")
        _check_attachments(attachments)
        deliveries: list[EmailDelivery] = []
        refused: list[PermanentError] = []
        deferred: list[RecipientDeferred] = []
        for recipient in _each_address_once(recipients):
            try:
                _check(recipient)
                mail = render(template, {**context, **recipient.own, "to": recipient})
                deliveries.append(self._deliver_once(self.server, task_id, template, recipient, mail, attachments))
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
        self,
        server: SmtpServer,
        task_id: str,
        template: str,
        recipient: Recipient,
        mail: Rendered,
        attachments: Sequence[Attachment],
    ) -> EmailDelivery:
        delivery = self._begin(task_id, template, recipient.address, mail.subject)
        if delivery.outcome == DeliveryOutcome.SENT:
            return delivery
        message = self._compose(mail, delivery, attachments)
        try:
            answer = server.send(message, sender=parseaddr(self.sender)[1], recipient=recipient.address)
        except PermanentError as error:
            _finish(delivery, DeliveryOutcome.REFUSED, str(error))
            raise
        return _finish(delivery, DeliveryOutcome.SENT, answer)

    def _begin(self, task_id: str, template: str, address: str, subject: str) -> EmailDelivery:
        with database.writing() as session:
            known = session.exec(
                select(EmailDelivery).where(
                    col(EmailDelivery.task_id) == task_id, col(EmailDelivery.recipient) == address
                )
            ).first()
            if known is not None:
                return known
            begun = EmailDelivery(
                task_id=task_id,
                recipient=address,
                message_id=self._message_id(task_id, address),
                template=template,
                subject=subject,
                created_at=datetime.now(UTC),
            )
            session.add(begun)
        return begun

    def _message_id(self, task_id: str, address: str) -> str:
        digest = hashlib.sha256(f"{task_id} {address}".encode()).hexdigest()[:32]
        return f"<{digest}@{parseaddr(self.sender)[1].rpartition('@')[2]}>"

    def _compose(self, mail: Rendered, delivery: EmailDelivery, attachments: Sequence[Attachment]) -> EmailMessage:
        message = EmailMessage(policy=_POLICY)
        name, address = parseaddr(self.sender)
        message["From"] = Address(display_name=name, addr_spec=address)
        message["To"] = Address(addr_spec=delivery.recipient)
        message["Subject"] = mail.subject
        message["Date"] = format_datetime(delivery.created_at)
        message["Message-ID"] = delivery.message_id
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(mail.text)
        message.add_alternative(mail.html, subtype="html")
        for attachment in attachments:
            maintype, _, subtype = attachment.media_type.partition("/")
            message.add_attachment(attachment.content, maintype=maintype, subtype=subtype, filename=attachment.name)
        return message


def _each_address_once(recipients: Sequence[Recipient]) -> Iterable[Recipient]:
    """The recipients in order, of those with the same address the first."""
    firsts: dict[str, Recipient] = {}
    for recipient in recipients:
        firsts.setdefault(recipient.address, recipient)
    return firsts.values()


def _check(recipient: Recipient) -> None:
    try:
        check_address(recipient.address)
    except PermanentError as error:
        raise RecipientRefused(f"{recipient.name}: {error}" if recipient.name else str(error)) from None


def _check_attachments(attachments: Sequence[Attachment]) -> None:
    if len(attachments) > MAX_ATTACHMENTS:
        raise PermanentError(f"expected at most {MAX_ATTACHMENTS} attachments, got {len(attachments)}")
    size = sum(len(attachment.content) for attachment in attachments)
    if size > MAX_ATTACHED_BYTES:
        raise PermanentError(
            f"the attachments have {size:,} bytes, a mail may have {MAX_ATTACHED_BYTES:,}: attach less"
        )
    for attachment in attachments:
        check_file_name(attachment.name)
        if not _MEDIA_TYPE.fullmatch(attachment.media_type):
            raise PermanentError(f"expected a media type such as application/pdf, got {attachment.media_type[:100]!a}")


def check_file_name(name: str) -> str:
    """The name of an attachment if it can stand in a header and is no path; raises PermanentError if not."""
    if not 1 <= len(name) <= FILE_NAME_MAX_CHARS or CONTROL.search(name) or "/" in name or "\\" in name:
        raise PermanentError(f"expected a file name of 1–{FILE_NAME_MAX_CHARS} characters without control characters "
                             f"and slashes, got {name[:100]!a}")  # fmt: skip
    return name


def _finish(delivery: EmailDelivery, outcome: DeliveryOutcome, answer: str) -> EmailDelivery:
    with database.writing() as session:
        stored = session.get_one(EmailDelivery, delivery.delivery_id)
        stored.outcome = outcome
        stored.smtp_response = answer[:1_000]
        stored.sent_at = datetime.now(UTC) if outcome is DeliveryOutcome.SENT else None
    return stored
