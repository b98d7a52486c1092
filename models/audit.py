"""The audit log: who did what, when, from where, and what came of it. A row is written once and never changed.

Must not: offer a way to change or delete a row; only retention prunes what is old (models.retention,
models.retention_records).
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Index, select
from sqlmodel import Field, Session, SQLModel, col

from models.columns import JsonDocument, UtcDateTime
from models.text import clean_text

MAX_PAGE = 1_000


class AuditEntry(SQLModel, table=True):
    """An action that somebody took through REST or the command line, or was refused."""

    __tablename__ = "audit_log"
    __table_args__ = (Index("ix_audit_log_at", "at"),)

    id: int | None = Field(default=None, primary_key=True)
    at: datetime = Field(sa_type=UtcDateTime)
    who: str = Field(max_length=100)
    """Name of the token, or of the user at the command line."""
    via: str = Field(max_length=16)
    """`REST`, `CLI` or `Python`."""
    from_address: str = Field(max_length=100)
    """Network address of the caller, or the machine at whose command line it was."""
    action: str = Field(max_length=100)
    """As in `tasks.cancel`."""
    target: str = Field(max_length=200)
    """The id or name of what was acted on; empty where there is none."""
    outcome: str = Field(max_length=16)
    """`done`, `refused` (not allowed, or not possible) or `failed`."""
    details: dict[str, Any] = Field(default_factory=dict, sa_type=JsonDocument)
    """Whatever else matters, secrets redacted."""


@dataclass(frozen=True)
class AuditFilter:
    """Which entries are meant; None leaves a field open."""

    who: str | None = None
    action: str | None = None
    target: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def page(session: Session, wanted: AuditFilter, *, limit: int, before_id: int | None = None) -> list[AuditEntry]:
    """Entries, newest first.

    Args:
        limit: 1–1000.
        before_id: go on below this entry, the last of the page before.
    """
    entries = select(AuditEntry).order_by(col(AuditEntry.id).desc()).limit(limit)
    for column, value in ((AuditEntry.who, wanted.who), (AuditEntry.action, wanted.action),
                          (AuditEntry.target, wanted.target)):  # fmt: skip
        if value is not None:
            entries = entries.where(col(column) == clean_text(value, 200))
    if wanted.since is not None:
        entries = entries.where(col(AuditEntry.at) >= wanted.since)
    if wanted.until is not None:
        entries = entries.where(col(AuditEntry.at) < wanted.until)
    if before_id is not None:
        entries = entries.where(col(AuditEntry.id) < before_id)
    return list(session.scalars(entries))
