"""Health samples, and the alerts that they open and close."""

from datetime import datetime

from sqlalchemy import Index, text
from sqlmodel import Field, SQLModel

from models.columns import UtcDateTime


class HealthSample(SQLModel, table=True):
    """What `health.check_system` measured once; one a task, so a second run adds nothing."""

    __tablename__ = "health_samples"
    __table_args__ = (Index("ix_health_samples_sampled_at", "sampled_at"),)

    task_id: str = Field(primary_key=True, max_length=64)
    sampled_at: datetime = Field(sa_type=UtcDateTime)
    hostname: str = Field(max_length=200)
    cpu_percent: float
    memory_percent: float
    disk_percent: float
    database_ms: float
    """One round trip to the database."""
    redis_ms: float
    """One round trip to Redis."""
    queue_age_s: float
    """How long the oldest task that could start has waited; 0 if none waits."""


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
    key: str = Field(max_length=200)
    """What it is about, for instance `health.disk_percent@host`."""
    message: str = Field(max_length=500)
    opened_at: datetime = Field(sa_type=UtcDateTime)
    closed_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    notice_task_id: str | None = Field(default=None, max_length=64)
    """The task that mails its opening; None while there is none."""
