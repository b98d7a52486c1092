"""The shapes of requests and answers, as pydantic models: what OpenAPI shows is what is checked."""

import re
from datetime import datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from models.task import MAX_PRIORITY, MIN_PRIORITY, TaskStatus, TaskType

Name = Annotated[str, Field(min_length=1, max_length=200)]


def _is_written_out(given: object) -> object:
    """Refuse a bare number, which pydantic would take for seconds since 1970 and the document does not offer."""
    if isinstance(given, str) and not re.match(r"\d{4}-\d{2}-\d{2}[Tt ]", given):
        raise ValueError("expected a time with its offset, as 2026-12-01T00:00:00+01:00")
    return given


Moment = Annotated[AwareDatetime, BeforeValidator(_is_written_out)]
"""A time in a query or a body: RFC 3339, with its offset."""


class EnqueueRequest(BaseModel):
    """What to run."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "task_name": "email.send_confirmation",
                "params": {"fir_id": "FIR-2026-000101", "recipient_email": "meera.nair@example.org"},
                "priority": 5,
            }
        },
    )

    task_name: Name
    task_type: TaskType | None = None
    params: dict[str, Any] = {}
    priority: Annotated[int, Field(ge=MIN_PRIORITY, le=MAX_PRIORITY, strict=True)] | None = None
    max_retries: Annotated[int, Field(ge=0, le=1_000, strict=True)] | None = None
    delay_s: Annotated[float, Field(ge=0, le=10 * 366 * 24 * 3600)] | None = None
    tags: Annotated[list[Annotated[str, Field(max_length=100)]], Field(max_length=20)] | None = None


class EnqueueAnswer(BaseModel):
    """The task that was accepted."""

    task_id: str
    message: str
    delivery: str
    """`sent`: its message is on the bus. `deferred`: Redis is away, and gets it when it is back."""


class TaskRow(BaseModel):
    """A row of the status table; `params` by name."""

    task_id: str
    task_name: str
    task_type: TaskType | str | None
    queue: str
    priority: int
    status: TaskStatus
    reason: str | None
    params: dict[str, Any]
    result: Any
    result_pruned_at: datetime | None
    error_type: str | None
    error_message: str | None
    attempt: int
    retry_count: int
    max_retries: int
    progress: float | None
    progress_message: str | None
    worker_id: str | None
    correlation_id: str | None
    parent_id: str | None
    group_id: str | None
    schedule_id: str | None
    idempotency_key: str | None
    tags: list[str]
    eta: datetime | None
    created_at: datetime
    enqueued_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    cancel_requested_at: datetime | None


class TaskDetail(TaskRow):
    """One task, looked at closely."""

    waiting_on: str | None
    """Why it is not running yet, in words; null once it runs or has ended."""


class TaskPage(BaseModel):
    """A page of rows, newest first."""

    tasks: list[TaskRow]
    total_count: int
    limit: int
    offset: int


class CountAnswer(BaseModel):
    """How many rows match; the filters as they were given."""

    count: int
    status: TaskStatus | None
    task_type: TaskType | None


class CancelAnswer(BaseModel):
    """What cancelling came to."""

    task_id: str
    success: bool
    message: str
    outcome: str
    """`cancelled`: it was pending and will not run. `requested`: a worker has it and ends it; or,
    with Redis away, it is taken off when that is back."""


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None
