"""Reports: documents generated from records.

Idempotency key of `generate_pdf`: report + version (`documents`). A second run finds the row and the file with
the same checksum and makes nothing; a file that is missing or changed is made again, and comes out byte for byte the
same, because nothing of the moment is in it: no clock, no random ids.
"""

import hashlib
import os
import re
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Len

from models import database
from models.task import TaskType
from workers import callboard
from workers.errors import PermanentError
from workers.registry import actor
from workers.runner.current import current_task

if TYPE_CHECKING:
    from models.document import Document
    from models.report import InformationReport

TIME_LIMIT_S = 120.0
MAX_NARRATIVE_CHARS = 200_000


def generate(report_id: str, documents_dir: Path) -> "Document":
    """Make the document of a report's present version, or find it.

    Args:
        report_id: of an information report.
        documents_dir: where documents are kept.

    Raises:
        PermanentError: no such report, or one too long to print.
    """
    # why: a worker loads SQLAlchemy when a task needs it.
    from models.document import DocumentKind, find_document
    from models.report import InformationReport

    task = current_task()
    report = None
    if report_id.isprintable():  # why: PostgreSQL answers NUL with an error of its own.
        with database.reading() as session:
            report = session.get(InformationReport, report_id)
    if report is None:
        raise PermanentError(f"there is no information report {report_id!r}: check the reference")
    if len(report.narrative) > MAX_NARRATIVE_CHARS:
        raise PermanentError(f"the narrative has {len(report.narrative):,} characters, more than the "
                             f"{MAX_NARRATIVE_CHARS:,} that a document may have: shorten it")  # fmt: skip
    with database.reading() as session:
        known = find_document(session, DocumentKind.INFORMATION_REPORT, report.report_id, report.version)
    if known is not None and _is_intact(documents_dir / known.path, known.sha256):
        task.log.info("version %d of %s is there already: %s", report.version, report_id, known.path)
        return known
    task.progress(1, 3, "rendering")
    content, pages = render(report)
    task.progress(2, 3, "storing")
    name = _file_name(report)
    _store(documents_dir, name, content)
    document = _record(report, name, content, pages, task.id)
    task.progress(3, 3, "stored")
    return document


def render(report: "InformationReport") -> tuple[bytes, int]:
    """The report as PDF, and its number of pages. The same report gives the same bytes."""
    from workers.clients.pdf import Page, render_pdf  # why: reportlab is heavy and only this actor needs it.

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
    page = Page(
        title="Information report",
        reference=report.report_id,
        facts={name: value for name, value in facts.items() if value},
        sections={"Summary": report.summary, "Narrative": report.narrative},
    )
    return render_pdf(page, font_path=callboard.settings.pdf_font_path)


@actor(task_type=TaskType.REPORT, aliases=("afirgen_tasks.reports.generate_pdf",), time_limit_s=TIME_LIMIT_S)
def generate_pdf(report_id: Annotated[str, Len(1, 64)]) -> dict[str, Any]:
    """Render an information report to PDF and store it with its checksum.

    Args:
        report_id: the report's reference, as FIR-2026-000123.
    """
    document = generate(report_id, callboard.settings.documents_dir)
    return document.model_dump(mode="json", exclude={"task_id"})


def _moment(moment: datetime | None) -> str:
    return "" if moment is None else moment.strftime("%d %B %Y, %H:%M UTC")


def _file_name(report: "InformationReport") -> str:
    """A name that is only letters, digits, dashes and dots, whatever the reference; the digest keeps it unique."""
    digest = hashlib.sha256(report.report_id.encode()).hexdigest()[:8]
    readable = re.sub(r"[^A-Za-z0-9-]+", "-", report.report_id).strip("-") or "report"
    return f"{readable}-{digest}-v{report.version}.pdf"


def _is_intact(path: Path, sha256: str) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    except OSError:
        return False


def _store(directory: Path, name: str, content: bytes) -> None:
    """Write beside, flush, rename: a crash leaves the old file or the new one, never half of one."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=directory, prefix=".", suffix=".part", delete=False) as part:
        try:
            part.write(content)
            part.flush()
            os.fsync(part.fileno())
            Path(part.name).replace(directory / name)
        except BaseException:  # why: an interrupt too must leave no half of a file
            Path(part.name).unlink(missing_ok=True)
            raise


def _record(report: "InformationReport", name: str, content: bytes, pages: int, task_id: str | None) -> "Document":
    from models.document import Document, DocumentKind, record_document  # why: as above.

    made = Document(
        kind=DocumentKind.INFORMATION_REPORT,
        subject=report.report_id,
        version=report.version,
        path=name,
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        pages=pages,
        task_id=task_id,
        created_at=datetime.now(UTC),
    )
    with database.writing() as session:
        return record_document(session, made)
