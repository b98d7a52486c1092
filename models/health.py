"""Health samples, of this machine and of what it depends on: the tables."""

from datetime import datetime

from sqlalchemy import Index
from sqlalchemy.exc import IntegrityError
from sqlmodel import Field, Session, SQLModel, col, select

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


class ProviderSample(SQLModel, table=True):
    """Whether a service that actors depend on could be reached; the newest of each provider counts."""

    __tablename__ = "provider_samples"
    __table_args__ = (Index("uq_provider_samples_task_id", "task_id", unique=True),)

    provider: str = Field(primary_key=True, max_length=100)
    sampled_at: datetime = Field(primary_key=True, sa_type=UtcDateTime)
    is_up: bool
    latency_ms: float | None = None
    error: str | None = Field(default=None, max_length=500)
    """What it answered instead; None if it is up."""
    task_id: str | None = Field(default=None, max_length=64)
    """The task that probed it: a second run adds nothing."""


def sample_of(session: Session, task_id: str) -> ProviderSample | None:
    """What a task found when it probed a provider; None if it has not yet."""
    return session.exec(select(ProviderSample).where(col(ProviderSample.task_id) == task_id)).first()


def record_sample(session: Session, sample: ProviderSample) -> ProviderSample:
    """Store a sample, unless its task has one; returns what is stored."""
    try:
        with session.begin_nested():
            session.add(sample)
    except IntegrityError:
        # why: another run of the same task stored its own since we looked.
        known = None if sample.task_id is None else sample_of(session, sample.task_id)
        if known is None:
            raise
        return known
    return sample
