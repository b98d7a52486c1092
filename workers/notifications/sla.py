"""How well vendors kept their service levels: to each vendor its own figures, to the management all of them."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dramatiq.middleware import SkipMessage
from sqlmodel import Session

from models import database, sla_query
from models.document import DocumentKind
from models.person import Person
from models.sla_query import SlaView, period_name
from models.subscription import Topic, subscribers
from models.text import span
from models.vendor import SlaFigure, Vendor
from workers import callboard, documents
from workers.clients.pdf import Page
from workers.errors import PermanentError
from workers.notifications.notification import Attachment, Notification, Recipient, missing, people

_HEAD = (
    "Vendor",
    "Target",
    "Attained",
    "Met",
    "Jobs in time",
    "Tickets in time",
    "Half within",
    "95 % within",
)


@dataclass(frozen=True)
class VendorSla:
    """A vendor's figures of a period."""

    vendor: Vendor
    figure: SlaFigure


@dataclass(frozen=True)
class Report:
    """All figures of a period, and who is subscribed to them."""

    view: SlaView
    people: tuple[Person, ...]


def _find_vendor(session: Session, key: tuple[int, str]) -> VendorSla:
    vendor_id, period = key
    vendor = session.get(Vendor, vendor_id)
    if vendor is None:
        raise missing("vendor", vendor_id)
    found = sla_query.view(session, period, vendor_id=vendor_id)
    if found is None or not found.rows:
        raise PermanentError(f"there are no SLA figures of {vendor.name} for {period}: make them first")
    return VendorSla(*found.rows[0])


def _find_report(session: Session, period: str) -> Report:
    found = sla_query.view(session, period)
    if found is None or not found.rows:
        raise PermanentError(f"there are no SLA figures for {period}: make them first")
    return Report(found, tuple(subscribers(session, Topic.SLA_REPORT)))


def send_report(period: str | None) -> dict[str, Any]:
    """Mail the report of a period; by default of the last full one, where there is one and somebody wants it."""
    if period is None:
        with database.reading() as session:
            period = sla_query.last_full_period(session, datetime.now(UTC))
            if period is None:
                raise SkipMessage("no SLA period has ended yet")
            if not subscribers(session, Topic.SLA_REPORT):
                raise SkipMessage("nobody is subscribed to sla_report")
    return REPORT.send(period)


def _vendor(of: VendorSla) -> Iterator[Recipient]:
    if of.vendor.is_active:
        yield Recipient(of.vendor.email, of.vendor.name)


def facts(figure: SlaFigure) -> dict[str, str]:
    """A vendor's figures for people."""
    return {
        "Target": percent(figure.target_percent),
        "Attained": percent(figure.attained_percent),
        "Jobs in time": f"{figure.jobs_in_time} of {figure.jobs}",
        "Tickets in time": f"{figure.tickets_in_time} of {figure.tickets}",
        "First response": f"half within {span(figure.response_p50_s)}, 95 % within {span(figure.response_p95_s)}",
    }


def row(vendor: Vendor, figure: SlaFigure) -> list[str]:
    """A vendor's line of the report's table, below _HEAD."""
    return [
        vendor.name,
        percent(figure.target_percent),
        percent(figure.attained_percent),
        "yes" if figure.is_met else "no",
        f"{figure.jobs_in_time} of {figure.jobs}",
        f"{figure.tickets_in_time} of {figure.tickets}",
        span(figure.response_p50_s),
        span(figure.response_p95_s),
    ]


def percent(value: float) -> str:
    """`97.5 %`. Cut, not rounded: what missed a target by little must not look as if it had met it."""
    return f"{int(value * 10) / 10:.1f} %"


def page_of(of: Report) -> Page:
    """What is printed of a period."""
    period = of.view.period
    return Page(
        title="SLA report",
        reference=period_name(period.period),
        facts={
            "From": f"{period.starts_at:%d %B %Y, %H:%M} UTC",
            "To": f"{period.ends_at:%d %B %Y, %H:%M} UTC",
            "Targets met": f"{of.view.met} of {len(of.view.rows)} vendors",
        },
        tables={
            "Vendors, and within what time they first answered": [
                _HEAD,
                *(row(vendor, figure) for vendor, figure in of.view.rows),
            ]
        },
    )


def _printed(of: Report) -> Sequence[Attachment]:
    period = of.view.period.period
    # why: a period has no version of its own; the same figures are the same document, others are another one.
    said = repr([figure.model_dump() for _, figure in of.view.rows] + [vendor.name for vendor, _ in of.view.rows])
    version = int(hashlib.sha256(said.encode()).hexdigest()[:7], 16)
    kept = documents.keep(
        callboard.settings.documents_dir, DocumentKind.SLA_REPORT, period, version, lambda: page_of(of)
    )
    return [Attachment(f"sla-report-{period}.pdf", "application/pdf", kept.content)]


def _shown_to_vendor(of: VendorSla) -> Mapping[str, Any]:
    name = period_name(of.figure.period)
    return {"vendor": of.vendor, "figure": of.figure, "facts": facts(of.figure), "period": name}


def _shown_to_management(of: Report) -> Mapping[str, Any]:
    rows = [row(vendor, figure)[:4] for vendor, figure in of.view.rows]
    return {"period": period_name(of.view.period.period), "met": of.view.met, "head": list(_HEAD[:4]), "rows": rows}


VENDOR = Notification(template="sla_vendor", find=_find_vendor, recipients=_vendor, context=_shown_to_vendor)
REPORT = Notification(
    template="sla_report",
    find=_find_report,
    recipients=lambda of: people(of.people),
    context=_shown_to_management,
    attachments=_printed,
)
