"""Information reports, and the documents that were made from them.

An information report's `report_id` is the reference that people quote (`FIR-2026-000123`).
"""

from datetime import datetime

from sqlalchemy import Text, UniqueConstraint
from sqlalchemy.exc import IntegrityError
from sqlmodel import Field, Session, SQLModel, col, select

from models.columns import UtcDateTime


class InformationReport(SQLModel, table=True):
    """A report that a person filed with a station."""

    __tablename__ = "information_reports"

    report_id: str = Field(primary_key=True, max_length=64)
    version: int = 1
    """Counts up with every change; a document belongs to one version."""
    complainant_name: str = Field(max_length=200)
    complainant_contact: str = Field(default="", max_length=200)
    station: str = Field(max_length=200)
    district: str = Field(default="", max_length=200)
    incident_place: str = Field(default="", max_length=300)
    incident_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    filed_at: datetime = Field(sa_type=UtcDateTime)
    summary: str = Field(default="", max_length=500)
    narrative: str = Field(default="", sa_type=Text)
    officer_name: str = Field(default="", max_length=200)


class ReportDocument(SQLModel, table=True):
    """A PDF made from one version of a report; the pair is unique, so a second run finds the first one's file."""

    __tablename__ = "report_documents"
    __table_args__ = (UniqueConstraint("report_id", "version", name="uq_report_documents_report_id_version"),)

    document_id: int | None = Field(default=None, primary_key=True)
    report_id: str = Field(max_length=64)
    version: int
    path: str = Field(max_length=500)
    """Relative to the documents folder."""
    sha256: str = Field(max_length=64)
    size_bytes: int
    pages: int
    task_id: str | None = Field(default=None, max_length=64)
    created_at: datetime = Field(sa_type=UtcDateTime)


def find_document(session: Session, report: InformationReport) -> ReportDocument | None:
    """The document of a report's present version, or None."""
    return session.exec(
        select(ReportDocument).where(
            col(ReportDocument.report_id) == report.report_id, col(ReportDocument.version) == report.version
        )
    ).first()


def record_document(session: Session, report: InformationReport, made: ReportDocument) -> ReportDocument:
    """Store the document of a report's present version, over the one that is there if there is one; returns it."""
    known = find_document(session, report)
    if known is None:
        try:
            with session.begin_nested():
                session.add(made)
        except IntegrityError:
            known = find_document(session, report)  # why: another task recorded the same version since we looked.
    if known is not None:
        for column in ("path", "sha256", "size_bytes", "pages", "task_id"):
            setattr(known, column, getattr(made, column))
    return known or made
