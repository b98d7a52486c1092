"""E-mail notifications. Each mail is declared in workers.notifications: its record, who gets it, its template.

Idempotency key: task + recipient (`email_deliveries`); see workers.clients.mail for what a crash leaves.
"""

import re
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le
from pydantic import AfterValidator

from models.task import TaskType
from workers.clients.address import check_address
from workers.errors import PermanentError
from workers.registry import actor

MAIL_POLICY: dict[str, Any] = {"max_retries": 3, "min_backoff_s": 60.0, "time_limit_s": 120.0}
"""Of every actor that mails, whatever its type: three retries, the first after a minute."""
MAX_REFERENCE_CHARS = 64
PERIOD = re.compile(r"\d{4}-(?:0[1-9]|1[0-2]|W(?:0[1-9]|[1-4]\d|5[0-3]))", re.ASCII)
"""How a month or an ISO week is named (models.vendor)."""


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


def _period(value: str) -> str:
    if not PERIOD.fullmatch(value):
        raise ValueError("expected a month or an ISO week, as 2026-10 or 2026-W47")
    return value


EmailAddress = Annotated[str, AfterValidator(_address)]
Reference = Annotated[str, AfterValidator(_reference)]
Period = Annotated[str, AfterValidator(_period)]
RecordId = Annotated[int, Ge(1), Le(2**31 - 1)]


@actor(task_type=TaskType.EMAIL, aliases=("afirgen_tasks.email.send_confirmation",), **MAIL_POLICY)
def send_confirmation(fir_id: Reference, recipient_email: EmailAddress) -> dict[str, Any]:
    """Confirm to a person that an information report was filed.

    Args:
        fir_id: the report's reference; its details are added where the report is known here.
        recipient_email: who gets the mail.
    """
    from workers.notifications import reports

    return reports.confirm(fir_id.strip(), recipient_email)


@actor(task_type=TaskType.EMAIL, priority=8, **MAIL_POLICY)
def send_alert(alert_id: RecordId, event: Literal["opened", "recovered"] = "opened") -> dict[str, Any]:
    """Mail an alert to the people of CALLBOARD_ALERT_RECIPIENTS.

    Args:
        alert_id: of the table `alerts`.
        event: opened or recovered.
    """
    from workers.notifications import alerts

    return alerts.ALERT.send((alert_id, event))


@actor(task_type=TaskType.EMAIL, aliases=("send_email_notification_for_workpermit_approval",), **MAIL_POLICY)
def send_workpermit_approval(permit_id: RecordId) -> dict[str, Any]:
    """Ask a work permit's approvers to approve it, each with their own signed links; skipped if nothing is to decide.

    Args:
        permit_id: of the table `work_permits`.
    """
    from workers.notifications import permits

    return permits.APPROVAL.send(permit_id)


@actor(task_type=TaskType.EMAIL, aliases=("send_email_notification_for_wp",), **MAIL_POLICY)
def send_workpermit_notice(permit_id: RecordId) -> dict[str, Any]:
    """Tell the requester of a work permit its state.

    Args:
        permit_id: of the table `work_permits`.
    """
    from workers.notifications import permits

    return permits.NOTICE.send(permit_id)


@actor(task_type=TaskType.EMAIL, aliases=("send_email_notification_for_wp_verifier",), **MAIL_POLICY)
def send_workpermit_verification(permit_id: RecordId) -> dict[str, Any]:
    """Ask a work permit's verifiers to verify it, with its files; skipped if nothing is to decide.

    Args:
        permit_id: of the table `work_permits`.
    """
    from workers.notifications import permits

    return permits.VERIFICATION.send(permit_id)


@actor(
    task_type=TaskType.EMAIL,
    aliases=("send_email_notification_for_wp_from_mobile_for_verifier",),
    **MAIL_POLICY,
)
def send_workpermit_verification_from_mobile(permit_id: RecordId) -> dict[str, Any]:
    """Ask the verifiers of a work permit that was raised on a phone: no files, and a link that opens it there.

    Args:
        permit_id: of the table `work_permits`.
    """
    from workers.notifications import permits

    return permits.VERIFICATION_FROM_MOBILE.send(permit_id)


@actor(
    task_type=TaskType.EMAIL,
    aliases=("send_email_notification_for_vendor_and_security_of_wp_cancellation",),
    **MAIL_POLICY,
)
def send_workpermit_cancellation(permit_id: RecordId) -> dict[str, Any]:
    """Tell vendor and security that a work permit was cancelled.

    Args:
        permit_id: of the table `work_permits`.
    """
    from workers.notifications import permits

    return permits.CANCELLED.send(permit_id)


@actor(
    task_type=TaskType.EMAIL, aliases=("send_email_notification_for_vendor_and_security_for_rwp",), **MAIL_POLICY
)  # fmt: skip
def send_return_workpermit(permit_id: RecordId) -> dict[str, Any]:
    """Tell vendor and security that a work permit was returned.

    Args:
        permit_id: of the table `work_permits`.
    """
    from workers.notifications import permits

    return permits.RETURNED.send(permit_id)


@actor(
    task_type=TaskType.EMAIL,
    aliases=("send_email_notification_for_vendor_and_security_after_approval",),
    **MAIL_POLICY,
)
def send_workpermit_approved(permit_id: RecordId) -> dict[str, Any]:
    """Tell vendor and security that a work permit was approved, with the permit as PDF.

    Args:
        permit_id: of the table `work_permits`.
    """
    from workers.notifications import permits

    return permits.APPROVED.send(permit_id)


@actor(task_type=TaskType.EMAIL, aliases=("send_email_notification_for_sla_vendor",), **MAIL_POLICY)
def send_vendor_sla(vendor_id: RecordId, period: Period) -> dict[str, Any]:
    """Send a vendor its SLA figures.

    Args:
        vendor_id: of the table `vendors`.
        period: a month or an ISO week, as 2026-10 or 2026-W47.
    """
    from workers.notifications import sla

    return sla.VENDOR.send((vendor_id, period))


@actor(task_type=TaskType.EMAIL, aliases=("send_email_notification_for_sla_report",), **MAIL_POLICY)
def send_sla_report(period: Period | None = None) -> dict[str, Any]:
    """Send the SLA report as PDF to everybody who is subscribed to it.

    Args:
        period: as of send_vendor_sla; by default the last full one, and skipped where there is none or nobody wants it.
    """
    from workers.notifications import sla

    return sla.send_report(period)


@actor(task_type=TaskType.EMAIL, aliases=("send_reminder_email",), **MAIL_POLICY)
def send_reminder(job_id: RecordId) -> dict[str, Any]:
    """Remind the assignees of a job that is due; skipped if it is over by now.

    Args:
        job_id: of the table `jobs`.
    """
    from workers.notifications import jobs

    return jobs.REMINDER.send(job_id)


@actor(task_type=TaskType.EMAIL, aliases=("send_mismatch_notification",), **MAIL_POLICY)
def send_mismatch_notification(event_id: RecordId) -> dict[str, Any]:
    """Tell a person's supervisors that a face did not match.

    Args:
        event_id: of the table `face_events`.
    """
    from workers.notifications import faces

    return faces.MISMATCH.send(event_id)
