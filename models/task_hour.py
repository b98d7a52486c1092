"""Task history, an hour a row: what charts show without reading ten million tasks.

Idempotency key: hour + actor + outcome. An hour that is rolled up again is written over.
"""

from datetime import datetime

from sqlmodel import Field, SQLModel

from models.columns import UtcDateTime


class TaskHour(SQLModel, table=True):
    """The tasks of an actor that ended in an hour in one way. Durations are percentiles, in seconds."""

    __tablename__ = "task_hours"

    hour_at: datetime = Field(primary_key=True, sa_type=UtcDateTime)
    """When the hour began."""
    task_name: str = Field(primary_key=True, max_length=200)
    status: str = Field(primary_key=True, max_length=16)
    """completed, failed or cancelled."""
    count: int
    wait_p50_s: float
    """From acceptance to the first start, or to the end of one that never started; with a delay that was asked for, as
    a row forgets that when it starts."""
    wait_p95_s: float
    wait_p99_s: float
    run_p50_s: float
    """Of the last attempt; 0 of one that never started."""
    run_p95_s: float
    run_p99_s: float
    rolled_up_at: datetime = Field(sa_type=UtcDateTime)
