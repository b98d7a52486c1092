"""Every mail there is, made of records that the factories store: template and variant → what is rendered.

A mail that is missing here fails test_templates.py.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from models import database
from models.alert import Alert
from models.permit import Decision, PartyRole, PermitState
from models.subscription import Topic
from models.task_hour import TaskHour
from models.ticket import TicketChange
from tests.factories.events import report_event, see_face
from tests.factories.jobs import assign_job
from tests.factories.people import hire, sign_vendor, subscribe
from tests.factories.permits import ask_for_permit, attach, join_permit, parties
from tests.factories.reports import file_report
from tests.factories.sla import OCTOBER, measure_vendor
from tests.factories.storing import NOW, id_of, store
from tests.factories.tickets import note_change, open_ticket
from tests.factories.upkeep import switch
from tests.workers.actors.running import as_task
from workers.clients.mail_template import Rendered, render
from workers.notifications import alert_events, alerts, faces, jobs, permits, sla, summaries, tickets
from workers.notifications.notification import Notification


def rendered(name: str) -> list[Rendered]:
    """The mail of this name to each of its recipients; needs a database of its own."""
    return MAILS[name]()


def mails_of(notification: Notification[Any, Any], key: Any) -> list[Rendered]:
    with as_task("task-1"):
        with database.reading() as session:
            record = notification.find(session, key)
        shown = notification.context(record)
        return [
            render(notification.template, {**shown, **one.own, "to": one}) for one in notification.recipients(record)
        ]


def _plain(template: str, context: Mapping[str, Any]) -> list[Rendered]:
    return [render(template, context)]


def _alert(**changes: Any) -> list[Rendered]:
    alert = Alert(key="k", message="disk of host-3 is 99.0 %, above 92 %", opened_at=NOW, count=1)
    recovered = "closed_at" in changes
    for column, value in changes.items():
        setattr(alert, column, value)
    return _plain(alerts.ALERT.template, {"alert": alert, "recovered": recovered})


def _question(notification: Notification[Any, Any], **changes: Any) -> list[Rendered]:
    permit = ask_for_permit(**changes)
    attach(id_of(permit.permit_id))
    attach(id_of(permit.permit_id), file_name="crane plan, revised.pdf")
    return mails_of(notification, permit.permit_id)


def _two_at_one_address() -> list[Rendered]:
    permit = ask_for_permit(approvers=())
    for name in ("Asha Pillai", "Arun Nair"):
        join_permit(id_of(permit.permit_id), PartyRole.APPROVER, hire(name, email="approvals@example.org"))
    return mails_of(permits.APPROVAL, permit.permit_id)


def _told(notification: Notification[Any, Any], state: PermitState, reason: str | None = None) -> list[Rendered]:
    permit = ask_for_permit(state=state, reason=reason)
    with database.writing() as session:
        for role in (PartyRole.VERIFIER, PartyRole.APPROVER):
            for party in parties(id_of(permit.permit_id), role):
                party.decision, party.decided_at = Decision.APPROVED, NOW
                session.add(party)
    return mails_of(notification, permit.permit_id)


def _vendor_sla(**changes: Any) -> list[Rendered]:
    return mails_of(sla.VENDOR, (measure_vendor(**changes).vendor_id, OCTOBER))


def _sla_report() -> list[Rendered]:
    for name, in_time in (("Lift & Hoist Ltd", 40), ("Cold Rooms <Kochi>", 38), ("Shine Facade Cleaning Company", 12)):
        measure_vendor(sign_vendor(name=name), jobs_in_time=in_time)
    subscribe(Topic.SLA_REPORT, hire("Maya Iyer"))
    return mails_of(sla.REPORT, OCTOBER)


def _escalated() -> list[Rendered]:
    ticket = open_ticket(level=1)
    note_change(
        ticket, version=2, change=TicketChange.ESCALATED, note="it stood at level 0 for more than 1 h",
        by="tickets.ticket_escalation", task_id="task-0",
    )  # fmt: skip
    return mails_of(tickets.CHANGED, ticket.ticket_id)


def _commented() -> list[Rendered]:
    ticket = open_ticket()
    note_change(ticket, version=2, change=TicketChange.COMMENTED, note="the pump is here on Friday")
    return mails_of(tickets.CHANGED, ticket.ticket_id)


def _summary(notification: Notification[Any, Any], topic: Topic) -> list[Rendered]:
    midnight = summaries.midnight(NOW)
    for number in range(12):
        name = "email.send_workpermit_verification_from_mobile" if number == 3 else f"domain.actor_{number}_<&>"
        for hour, status, count in ((1, "completed", 12_000 // (number + 1)), (5, "failed", number)):
            row = {"hour_at": midnight - timedelta(hours=hour), "task_name": name, "status": status, "count": count}
            percentiles = ("wait_p50_s", "wait_p95_s", "wait_p99_s", "run_p50_s", "run_p95_s", "run_p99_s")
            store(TaskHour, {**row, **dict.fromkeys(percentiles, 0.25), "rolled_up_at": NOW}, {})
    switch("premium_digest", is_on=True)
    subscribe(topic, hire("Maya Iyer"))
    return mails_of(notification, midnight)


MAILS: dict[str, Callable[[], list[Rendered]]] = {
    "confirmation": lambda: _plain("confirmation", {"reference": "FIR-2026-000777", "report": file_report()}),
    "confirmation, unknown here": lambda: _plain("confirmation", {"reference": "FIR-9", "report": None}),
    "alert": _alert,
    "alert, many, over": lambda: _alert(count=17, closed_at=NOW + timedelta(minutes=9)),
    "permit_approval": lambda: _question(permits.APPROVAL, state=PermitState.VERIFIED),
    "permit_approval, two at one address": _two_at_one_address,
    "permit_verification": lambda: _question(permits.VERIFICATION),
    "permit_verification, from mobile": lambda: _question(permits.VERIFICATION_FROM_MOBILE, work=""),
    "permit_approved": lambda: _told(permits.APPROVED, PermitState.APPROVED),
    "permit_cancelled": lambda: _told(permits.CANCELLED, PermitState.CANCELLED, "The crane is <not> free & late."),
    "permit_returned": lambda: _told(permits.RETURNED, PermitState.RETURNED),
    **{
        f"permit_notice, {state}": lambda state=state: _told(permits.NOTICE, state, "The crane is not free.")
        for state in PermitState
    },
    "sla_vendor": lambda: _vendor_sla(jobs_in_time=40),
    "sla_vendor, missed": lambda: _vendor_sla(jobs_in_time=12, response_p95_s=45.0),
    "sla_report": _sla_report,
    "daily_report": lambda: _summary(summaries.DAILY, Topic.DAILY_REPORT),
    "premium_digest": lambda: _summary(summaries.DIGEST, Topic.PREMIUM_DIGEST),
    "job_reminder": lambda: mails_of(jobs.REMINDER, assign_job(assignees=("Anita Das",)).job_id),
    "ticket": lambda: mails_of(tickets.CHANGED, open_ticket(assignee=None, description="").ticket_id),
    "ticket, escalated": _escalated,
    "ticket, commented": _commented,
    "alert_event": lambda: mails_of(alert_events.REPORTED, report_event().event_id),
    "face_mismatch": lambda: mails_of(faces.MISMATCH, see_face().event_id),
}  # fmt: skip
