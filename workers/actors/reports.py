"""Reports: documents generated from records, and summaries that are mailed.

Idempotency key of `generate_pdf`: report + version (`documents`); see workers.documents. Of the mailed ones: task +
recipient (`email_deliveries`).
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Len

from models import database
from models.task import TaskType
from workers import callboard
from workers.actors.analytics import aggregate
from workers.actors.email import MAIL_POLICY
from workers.errors import PermanentError
from workers.registry import actor

if TYPE_CHECKING:
    from models.document import Document
    from models.report import InformationReport
    from workers.clients.pdf import Page

TIME_LIMIT_S = 120.0
MAX_NARRATIVE_CHARS = 200_000
SUMMARY_LIMIT_S = 600.0
SUMMARY_RETRIES = 2


def generate(report_id: str, documents_dir: Path) -> "Document":
    """Make the document of a report's present version, or find it.

    Args:
        report_id: of an information report.
        documents_dir: where documents are kept.

    Raises:
        PermanentError: no such report, or one too long to print.
    """
    # why: a worker loads SQLAlchemy when a task needs it.
    from models.document import DocumentKind
    from models.report import InformationReport
    from workers import documents

    report = None
    if report_id.isprintable():  # why: PostgreSQL answers NUL with an error of its own.
        with database.reading() as session:
            report = session.get(InformationReport, report_id)
    if report is None:
        raise PermanentError(f"there is no information report {report_id!r}: check the reference")
    if len(report.narrative) > MAX_NARRATIVE_CHARS:
        raise PermanentError(f"the narrative has {len(report.narrative):,} characters, more than the "
                             f"{MAX_NARRATIVE_CHARS:,} that a document may have: shorten it")  # fmt: skip
    kind = DocumentKind.INFORMATION_REPORT
    return documents.keep(documents_dir, kind, report.report_id, report.version, lambda: page_of(report)).document


def page_of(report: "InformationReport") -> "Page":
    """What is printed of a report."""
    from workers.clients.pdf import Page  # why: reportlab is heavy and only this actor needs it.

    facts = {
        "Reference": report.report_id,
        "Version": str(report.version),
        "Filed": _moment(report.filed_at),
        "Station": report.station,
        "District": report.district,
        "Complainant": report.complainant_name,
        "Contact": report.complainant_contact,
        "Place of incident": report.incident_place,
        "Time of incident": _moment(report.incident_at),
        "Officer": report.officer_name,
    }
    return Page(
        title="Information report",
        reference=report.report_id,
        facts={name: value for name, value in facts.items() if value},
        sections={"Summary": report.summary, "Narrative": report.narrative},
    )


@actor(task_type=TaskType.REPORT, aliases=("afirgen_tasks.reports.generate_pdf",), time_limit_s=TIME_LIMIT_S)
def generate_pdf(report_id: Annotated[str, Len(1, 64)]) -> dict[str, Any]:
    """Render an information report to PDF and store it with its checksum.

    Args:
        report_id: the report's reference, as FIR-2026-000123.
    """
    document = generate(report_id, callboard.settings.documents_dir)
    return document.model_dump(mode="json", exclude={"task_id"})


@actor(
    task_type=TaskType.REPORT,
    aliases=("send_daily_reports",),
    **(MAIL_POLICY | {"max_retries": SUMMARY_RETRIES, "time_limit_s": SUMMARY_LIMIT_S}),
)
def send_daily_reports() -> dict[str, Any]:
    """Mail the summary of the last full day (UTC), with table and chart as PDF, to those subscribed to `daily_report`.

    Skipped where nobody is.
    """
    from workers.notifications import summaries

    aggregate()
    return summaries.DAILY.send(summaries.midnight(datetime.now(UTC)))


@actor(
    task_type=TaskType.REPORT,
    aliases=("premium_only_task",),
    **(MAIL_POLICY | {"max_retries": SUMMARY_RETRIES, "time_limit_s": SUMMARY_LIMIT_S}),
)
def send_premium_digest() -> dict[str, Any]:
    """Mail the figures of the last seven days to those subscribed to `premium_digest`.

    Skipped unless the feature flag `premium_digest` is on, and where nobody is subscribed.
    """
    from workers.notifications import summaries

    aggregate()
    return summaries.DIGEST.send(summaries.midnight(datetime.now(UTC)))


def _moment(moment: datetime | None) -> str:
    return "" if moment is None else moment.strftime("%d %B %Y, %H:%M UTC")
