"""Alerts: conditions that began, and perhaps ended; and the samples of totals that rules look back on. The tables.

What moves a row: models.alert_moves. Which conditions there are: workers.alerts.rules.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index, text
from sqlmodel import Field, Session, SQLModel, col, select

from models.columns import JsonDocument, UtcDateTime


class Alert(SQLModel, table=True):
    """A condition that began, and perhaps ended. At most one open alert a key, by a partial unique index."""

    __tablename__ = "alerts"
    __table_args__ = (
        Index(
            "uq_alerts_open_key",
            "key",
            unique=True,
            sqlite_where=text("closed_at IS NULL"),
            postgresql_where=text("closed_at IS NULL"),
        ),
    )

    alert_id: int | None = Field(default=None, primary_key=True)
    rule: str = Field(default="health", max_length=32)
    """Which rule saw it (workers.alerts.rules); `health` for a threshold of the health check."""
    key: str = Field(max_length=200)
    """What it is about, for instance `health.disk_percent@host` or `task_failed:email.send_confirmation`."""
    message: str = Field(max_length=500)
    """As of the last time that it was seen."""
    count: int = Field(default=1, sa_type=BigInteger)
    """How often it happened, where that is counted; how many it concerns, else."""
    baseline: int | None = Field(default=None, sa_type=BigInteger)
    """Running total before its first occurrence; None where nothing is counted."""
    opened_at: datetime = Field(sa_type=UtcDateTime)
    seen_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When the condition last held."""
    closed_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    acknowledged_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    acknowledged_by: str | None = Field(default=None, max_length=100)
    notices: list[str] = Field(default_factory=list, sa_type=JsonDocument)
    """Ids of the tasks that tell of its opening and its end."""
    told: list[str] = Field(default_factory=list, sa_type=JsonDocument)
    """Channels that took a notice, each with the event: `json-1a2b3c opened`. (Of mail: `email_deliveries`.)"""


class AlertSample(SQLModel, table=True):
    """Running totals at a moment, for rules that look at a span of time."""

    __tablename__ = "alert_samples"

    sampled_at: datetime = Field(primary_key=True, sa_type=UtcDateTime)
    totals: dict[str, Any] = Field(sa_type=JsonDocument)
    """Actor → [ended, failed]."""


def page(session: Session, *, only_open: bool, limit: int, before_id: int | None = None) -> list[Alert]:
    """Alerts, newest first.

    Args:
        limit: at most so many.
        before_id: go on below this one.
    """
    statement = select(Alert).order_by(col(Alert.alert_id).desc()).limit(limit)
    if only_open:
        statement = statement.where(col(Alert.closed_at).is_(None))
    if before_id is not None:
        statement = statement.where(col(Alert.alert_id) < before_id)
    return list(session.exec(statement).all())
