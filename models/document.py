"""Documents: PDFs that were made from records. The file lies in the documents folder, the row says what it must be.

Idempotency key: kind + subject + version. A second run finds the first one's row and file.
"""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import Index, UniqueConstraint
from sqlalchemy.exc import IntegrityError
from sqlmodel import Field, Session, SQLModel, col, select

from models.columns import UtcDateTime


class DocumentKind(StrEnum):
    """What a document shows; the kind says what its `subject` is."""

    INFORMATION_REPORT = "information_report"
    """Subject: the report's reference."""
    WORK_PERMIT = "work_permit"
    """Subject: the permit's reference."""
    SLA_REPORT = "sla_report"
    """Subject: the period."""
    DAILY_REPORT = "daily_report"
    """Subject: the day, as 2026-11-25."""


class Document(SQLModel, table=True):
    """A PDF made from one version of a record."""

    __tablename__ = "documents"
    __table_args__ = (
        UniqueConstraint("kind", "subject", "version", name="uq_documents_kind_subject_version"),
        Index("ix_documents_created_at", "created_at"),
    )

    document_id: int | None = Field(default=None, primary_key=True)
    kind: str = Field(max_length=32)
    subject: str = Field(max_length=64)
    version: int
    """Of the record."""
    path: str = Field(max_length=500)
    """Relative to the documents folder."""
    sha256: str = Field(max_length=64)
    size_bytes: int
    pages: int
    task_id: str | None = Field(default=None, max_length=64)
    created_at: datetime = Field(sa_type=UtcDateTime)


def find_document(session: Session, kind: DocumentKind, subject: str, version: int) -> Document | None:
    """The document of that version of a record, or None."""
    return session.exec(
        select(Document).where(
            col(Document.kind) == kind, col(Document.subject) == subject, col(Document.version) == version
        )
    ).first()


def expired(session: Session, made_before: datetime, *, after_id: int, limit: int) -> list[int]:
    """The ids of documents that were made before, in their order, from after an id."""
    wanted = (col(Document.created_at) < made_before, col(Document.document_id) > after_id)
    found = session.exec(select(Document.document_id).where(*wanted).order_by(col(Document.document_id)).limit(limit))
    return [document_id for document_id in found if document_id is not None]


def record_document(session: Session, made: Document) -> Document:
    """Store a document, over the one of the same version if there is one; returns what is stored."""
    kind = DocumentKind(made.kind)
    known = find_document(session, kind, made.subject, made.version)
    if known is None:
        try:
            with session.begin_nested():
                session.add(made)
        except IntegrityError:
            # why: another task recorded the same version since we looked.
            known = find_document(session, kind, made.subject, made.version)
    if known is not None:
        for column in ("path", "sha256", "size_bytes", "pages", "task_id"):
            setattr(known, column, getattr(made, column))
    return known or made
