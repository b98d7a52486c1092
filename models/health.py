"""Health samples, and the alerts that they open and close: the tables, and the statements about them."""

from datetime import datetime

from sqlalchemy import Index, or_, text, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Field, Session, SQLModel, col, select

from models.columns import UtcDateTime
from models.task_tables import Task


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


def open_alert(session: Session, key: str) -> Alert | None:
    """The open alert of that key, or None."""
    return session.exec(select(Alert).where(col(Alert.key) == key, col(Alert.closed_at).is_(None))).first()


def add_alert(session: Session, alert: Alert) -> bool:
    """Open an alert; False if another has opened one of its key since we looked: the unique index decides."""
    try:
        with session.begin_nested():
            session.add(alert)
    except IntegrityError:
        return False
    return True


def untold_alerts(session: Session, *, lost_before: str) -> list[Alert]:
    """Open alerts without a notice, or with one whose task was never written and whose id is below `lost_before`."""
    unsent = or_(
        col(Alert.notice_task_id).is_(None),
        (col(Alert.notice_task_id) < lost_before) & col(Alert.notice_task_id).not_in(select(col(Task.task_id))),
    )
    return list(session.exec(select(Alert).where(col(Alert.closed_at).is_(None), unsent)).all())


def take_notice(session: Session, alert: Alert, task_id: str) -> bool:
    """Put the id of a notice's task on an alert as it was read, compare and set; False if another was quicker."""
    taken = session.execute(
        update(Alert)
        .where(
            col(Alert.alert_id) == alert.alert_id,
            col(Alert.notice_task_id).is_not_distinct_from(alert.notice_task_id),
        )
        .values(notice_task_id=task_id)
        .returning(col(Alert.alert_id))
    )
    return taken.one_or_none() is not None
