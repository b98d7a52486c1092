"""A notification: template + record + who gets it. The one mechanism behind every mail of every domain.

    MISMATCH = Notification(
        template="face_mismatch",       # templates/mail/face_mismatch.j2
        find=find_event,                # (session, id) → the record with all that the mail shows
        recipients=supervisors,         # record → Recipients
        context=what_is_shown,          # record → the template's names
    )

    @actor(task_type=TaskType.EMAIL, **MAIL_POLICY)
    def send_mismatch_notification(event_id: RecordId) -> dict[str, Any]:
        from workers.notifications import faces
        return faces.MISMATCH.send(event_id)

The record is read in one transaction, which has ended before anything is sent. A record that is not there, and one that
nobody can be told of, are permanent errors; where there is nothing to say any more, `find` raises SkipMessage, and the
task ends as skipped with its words. Deliveries and their record: workers.clients.mail.

Must not: know a domain.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlmodel import Session

from models import database
from models.person import Person
from workers import callboard
from workers.clients.mail import Attachment, Mailer, Recipient
from workers.clients.smtp import SmtpServer
from workers.errors import PermanentError
from workers.runner.current import current_task

__all__ = ["Attachment", "Notification", "Recipient", "missing", "notify", "people", "person"]

Key = TypeVar("Key")
Record = TypeVar("Record")


def _nothing(_record: Any) -> Sequence[Attachment]:
    return ()


@dataclass(frozen=True)
class Notification(Generic[Key, Record]):
    """A mail that a domain declares; see the module.

    Args:
        template: name below templates/mail.
        find: reads the record of a key. Raises `missing(…)` where there is none, SkipMessage where there is no more to
            say.
        recipients: who gets it. May be none: then the task fails and says that nobody gets it.
        context: the names that the template has, besides `to`, the recipient.
        attachments: files that go along, made or read when the mail is sent.
    """

    template: str
    find: Callable[[Session, Key], Record]
    recipients: Callable[[Record], Iterable[Recipient]]
    context: Callable[[Record], Mapping[str, Any]]
    attachments: Callable[[Record], Sequence[Attachment]] = _nothing

    def send(self, key: Key) -> dict[str, Any]:
        """Mail it for the current task; returns and raises as `notify`."""
        with database.reading() as session:
            record = self.find(session, key)
        return notify(self.template, self.recipients(record), self.context(record), self.attachments(record))


def notify(
    template: str,
    recipients: Iterable[Recipient],
    context: Mapping[str, Any],
    attachments: Sequence[Attachment] = (),
) -> dict[str, Any]:
    """Mail a template for the current task, once to each address.

    Returns:
        {"template": name, "deliveries": [{"recipient", "outcome", "message_id", "smtp_response"}, …]}

    Raises:
        PermanentError, TransientError: as Mailer.deliver; also outside a task, and where nobody gets it.
    """
    task = current_task()
    if task.id is None:
        raise PermanentError("a notification is sent by a task: use .send(), not a direct call")
    told = list(recipients)
    if not told:
        raise PermanentError(f"nobody gets the mail {template!r}: those whom the record names have left, or it names "
                             "none")  # fmt: skip
    deliveries = mailer().deliver(
        task_id=task.id, template=template, recipients=told, context=context, attachments=attachments
    )
    return {
        "template": template,
        "deliveries": [
            {
                "recipient": delivery.recipient,
                "outcome": delivery.outcome,
                "message_id": delivery.message_id,
                "smtp_response": delivery.smtp_response,
            }
            for delivery in deliveries
        ],
    }


def mailer() -> Mailer:
    """How this process sends mail, from the settings."""
    settings = callboard.settings
    url = settings.smtp_url
    try:
        server = None if url is None else SmtpServer.from_url(url.get_secret_value(), timeout_s=settings.smtp_timeout_s)
    except ValueError as error:
        raise PermanentError(f"CALLBOARD_SMTP_URL is wrong: {error}") from None
    return Mailer(server=server, sender=settings.mail_from)


def missing(what: str, key: object) -> PermanentError:
    """The error of a record that is not there: `missing("work permit", 17)`."""
    return PermanentError(f"there is no {what} {key}: it was deleted, or the id is wrong")


def person(who: Person, **own: Any) -> Iterable[Recipient]:
    """A person as recipient, with what only they are shown; nobody if they have left."""
    if who.is_active:
        yield Recipient(who.email, who.name, own)


def people(those: Iterable[Person]) -> Iterable[Recipient]:
    """People as recipients, without those who have left."""
    for who in those:
        yield from person(who)
