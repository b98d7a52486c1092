"""E-mail notifications: each is a template, a rule that says who gets it, and an actor of a few lines.

Idempotency key: task + recipient (`email_deliveries`). The mechanism is `workers.clients.mail`.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Le
from pydantic import AfterValidator

from models import database
from models.task import TaskType
from workers import callboard
from workers.clients.address import check_address
from workers.errors import PermanentError
from workers.registry import actor
from workers.runner.current import current_task

if TYPE_CHECKING:
    from workers.clients.mail import Mailer

FIRST_RETRY_S = 60.0
MAX_RETRIES = 3
TIME_LIMIT_S = 120.0
MAX_REFERENCE_CHARS = 64


def _address(value: str) -> str:
    try:
        return check_address(value)
    except PermanentError as error:
        raise ValueError(str(error)) from None


def _reference(value: str) -> str:
    stripped = value.strip()
    if not 1 <= len(stripped) <= MAX_REFERENCE_CHARS or not value.isprintable():
        raise ValueError(f"expected a reference of 1–{MAX_REFERENCE_CHARS} printable characters, as FIR-2026-000123")
    return stripped


EmailAddress = Annotated[str, AfterValidator(_address)]
Reference = Annotated[str, AfterValidator(_reference)]


@lru_cache(maxsize=1)
def mailer() -> "Mailer":
    """How this process sends mail, from the settings."""
    # why: a worker loads SQLAlchemy and what mail needs when a task needs it (so below, too).
    from workers.clients.mail import Mailer
    from workers.clients.smtp import SmtpServer

    settings = callboard.settings
    url = settings.smtp_url
    try:
        server = None if url is None else SmtpServer.from_url(url.get_secret_value(), timeout_s=settings.smtp_timeout_s)
    except ValueError as error:
        raise PermanentError(f"CALLBOARD_SMTP_URL is wrong: {error}") from None
    return Mailer(server=server, sender=settings.mail_from)


def notify(template: str, recipients: list[str], context: dict[str, Any]) -> dict[str, Any]:
    """Mail a template for the current task and say what came of it."""
    task = current_task()
    if task.id is None:
        raise PermanentError("a notification is sent by a task: use .send(), not a direct call")
    deliveries = mailer().deliver(task_id=task.id, template=template, recipients=recipients, context=context)
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


@actor(
    task_type=TaskType.EMAIL,
    aliases=("afirgen_tasks.email.send_confirmation",),
    max_retries=MAX_RETRIES,
    min_backoff_s=FIRST_RETRY_S,
    time_limit_s=TIME_LIMIT_S,
)
def send_confirmation(fir_id: Reference, recipient_email: EmailAddress) -> dict[str, Any]:
    """Confirm to a person that an information report was filed.

    Args:
        fir_id: the report's reference; its details are added where the report is known here.
        recipient_email: who gets the mail.
    """
    try:
        reference = _reference(fir_id)
    except (ValueError, AttributeError) as error:
        # why: a plain .send() does not check types, and a reference that is none stays none.
        raise PermanentError(f"fir_id: {error}") from None
    from models.report import InformationReport

    with database.reading() as session:
        report = session.get(InformationReport, reference)
    return notify("confirmation", [recipient_email], {"reference": reference, "report": report})


@actor(
    task_type=TaskType.EMAIL, priority=8, max_retries=MAX_RETRIES, min_backoff_s=FIRST_RETRY_S,
    time_limit_s=TIME_LIMIT_S,
)  # fmt: skip
def send_alert(
    alert_id: Annotated[int, Ge(1), Le(2**31 - 1)], event: Literal["opened", "recovered"] = "opened"
) -> dict[str, Any]:
    """Mail an alert to the people of CALLBOARD_ALERT_RECIPIENTS.

    Args:
        alert_id: of the table `alerts`.
        event: opened or recovered.
    """
    from models.alert import Alert

    with database.reading() as session:
        alert = session.get(Alert, alert_id)
    if alert is None:
        raise PermanentError(f"there is no alert {alert_id}")
    context = {"alert": alert, "recovered": event == "recovered"}
    return notify("alert", list(callboard.settings.alert_recipients), context)
