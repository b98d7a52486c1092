"""The shapes of requests and answers, as pydantic models: what OpenAPI shows is what is checked."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from models.task import MAX_PRIORITY, MIN_PRIORITY, TaskStatus, TaskType
from models.task_query import MAX_OFFSET, MAX_PAGE

_Text = Annotated[str, Field(min_length=1, max_length=200)]
_ID = "019a9f3c-1a2b-7000-8000-00000000002a"
_ROW: dict[str, Any] = {
    "task_id": _ID, "task_name": "email.send_confirmation", "task_type": "email", "queue": "email", "priority": 5,
    "status": "completed", "reason": None, "params": {"fir_id": "FIR-2026-000101"}, "result": {"sent": True},
    "result_pruned_at": None, "error_type": None, "error_message": None, "attempt": 1, "retry_count": 0,
    "max_retries": 3, "progress": 1.0, "progress_message": None, "worker_id": "w-1", "correlation_id": _ID,
    "parent_id": None, "group_id": None, "schedule_id": None, "idempotency_key": None, "tags": [], "eta": None,
    "created_at": "2026-11-22T12:00:00Z", "enqueued_at": "2026-11-22T12:00:00Z",
    "started_at": "2026-11-22T12:00:00.010Z", "completed_at": "2026-11-22T12:00:00.540Z", "cancel_requested_at": None,
}  # fmt: skip


def _example(**fields: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"example": fields})


Name = Annotated[str, Field(min_length=1, max_length=200)]


def _is_written_out(given: object) -> object:
    """Refuse a bare number, which pydantic would take for seconds since 1970 and the document does not offer."""
    if isinstance(given, str) and not re.match(r"\d{4}-\d{2}-\d{2}[Tt ]", given):
        raise ValueError("expected a time with its offset, as 2026-12-01T00:00:00+01:00")
    return given


def _in_our_times(moment: datetime) -> datetime:
    if not 1970 < moment.year < 9999:  # why: beyond it is neither every clock's nor every database's.
        raise ValueError("expected a time from 1971 to 9998")
    return moment.astimezone(UTC)


Moment = Annotated[AwareDatetime, BeforeValidator(_is_written_out), AfterValidator(_in_our_times)]
"""A time with its offset, as UTC."""


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
    """Not before this many seconds from now."""
    eta: AwareDatetime | None = None
    """Not before this time; instead of delay_s."""
    idempotency_key: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """While a task with this key is pending or running, no second one is sent."""
    tags: Annotated[list[Annotated[str, Field(max_length=100)]], Field(max_length=20)] | None = None


class EnqueueAnswer(BaseModel):
    """The task that was accepted, or the earlier one that has its idempotency key."""

    model_config = _example(task_id=_ID, message="Task enqueued successfully with priority 5", delivery="sent",
                            duplicate=False)  # fmt: skip

    task_id: str
    message: str
    delivery: Literal["sent", "deferred"]
    """`sent`: its message is on the bus. `deferred`: Redis is away, and gets it when it is back."""
    duplicate: bool = False
    """An earlier task has this idempotency key; nothing was sent."""


class BulkEnqueueRequest(BaseModel):
    """What to run, each as for a single one; a wrong one is left out, and does not keep the others from being sent."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "tasks": [
                    {"task_name": "diagnostics.run_self_test", "params": {"steps": 2}},
                    {"task_name": "diagnostics.run_self_test", "delay_s": 60, "idempotency_key": "self-test-2026-11"},
                ]
            }
        },
    )

    tasks: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=10_000)]


class BulkItem(BaseModel):
    """What became of one of them."""

    model_config = _example(index=0, outcome="accepted", task_id=_ID, field=None, detail=None)

    index: int
    outcome: Literal["accepted", "duplicate", "invalid", "unavailable"]
    """`duplicate`: task_id is the earlier one's. `unavailable`: the database went away before its turn."""
    task_id: str | None
    field: str | None
    detail: str | None


class BulkEnqueueAnswer(BaseModel):
    """What became of each, in the order of the request, and how many came to what."""

    results: list[BulkItem]
    accepted: int
    duplicates: int
    invalid: int
    unavailable: int
    delivery: Literal["sent", "deferred"]


class TaskFilterFields(BaseModel):
    """Which tasks are meant; all that is given must hold."""

    model_config = ConfigDict(extra="forbid")

    status: TaskStatus | None = None
    task_type: TaskType | None = None
    task_name: _Text | None = None
    """Canonical or legacy name of the actor."""
    queue: _Text | None = None
    priority: Annotated[int, Field(ge=MIN_PRIORITY, le=MAX_PRIORITY)] | None = None
    tag: _Text | None = None
    correlation_id: _Text | None = None
    q: _Text | None = None
    """Occurs, in whatever case, in id, name, correlation id, reason or error."""
    since: AwareDatetime | None = None
    """Created then or later."""
    until: AwareDatetime | None = None
    """Created before then."""
    parent_id: _Text | None = None
    group_id: _Text | None = None
    schedule_id: _Text | None = None


class ListRequest(TaskFilterFields):
    """A filter, and which page of what it means."""

    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 100
    offset: Annotated[int, Field(ge=0, le=MAX_OFFSET)] = 0
    """Tasks to pass over; far into a long list use the cursor."""
    sort: Literal["created_at", "-created_at", "duration", "-duration", "priority", "-priority"] = "-created_at"
    """`-` is descending."""
    cursor: Annotated[str, Field(min_length=1, max_length=600)] | None = None
    """The next_cursor of the page before, with the same filters and sort."""

    def filters(self) -> dict[str, Any]:
        """The filter alone."""
        return self.model_dump(include=set(TaskFilterFields.model_fields))


class BulkFilter(TaskFilterFields):
    """As for a list; or ids."""

    ids: Annotated[list[_Text], Field(min_length=1, max_length=1_000)] | None = None


class BulkRequest(BaseModel):
    """Which tasks an action is for. With `dry_run` nothing is done, and the answer says how many they are."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"filter": {"status": "failed", "task_type": "email"}, "dry_run": True}},
    )

    filter: BulkFilter
    dry_run: bool = False


class BulkAnswer(BaseModel):
    """What became of them."""

    model_config = _example(action="retry", dry_run=False, matched=3, matched_is_estimate=False,
                            outcomes={"reopened": 2, "refused": 1}, more=False)  # fmt: skip

    action: Literal["cancel", "retry", "delete"]
    dry_run: bool
    matched: int
    matched_is_estimate: bool
    outcomes: dict[str, int]
    """How many came to what: cancelled, requested, ended; reopened, refused, key_taken; deleted, kept; unknown."""
    more: bool
    """More than the 10,000 of one call match."""


class ChangeRequest(BaseModel):
    """What is to be different about a task that waits; what is left out stays."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"priority": 9}})

    priority: Annotated[int, Field(ge=MIN_PRIORITY, le=MAX_PRIORITY, strict=True)] | None = None
    eta: AwareDatetime | None = None
    """Not before this time; null: at once."""


class TaskRow(BaseModel):
    """A row of the status table; `params` by name."""

    model_config = ConfigDict(json_schema_extra={"example": _ROW})

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

    model_config = ConfigDict(json_schema_extra={"example": _ROW | {"waiting_on": None}})

    waiting_on: str | None
    """Why it is not running yet, in words; null once it runs or has ended."""


class TaskPage(BaseModel):
    """A page of rows."""

    tasks: list[TaskRow]
    total_count: int | None
    """How many match; null on a page that was asked for by its cursor."""
    total_count_is_estimate: bool
    limit: int
    offset: int
    next_cursor: str | None
    """Where the list goes on; null: nowhere."""
    is_partial: bool
    """So many tasks had to be looked at for this filter that the search was given up: the page may be short, even
    empty, and goes on at its cursor. In an order by duration or priority: only the newest were sorted."""


class CountAnswer(BaseModel):
    """How many rows match; the filters as they were given."""

    model_config = _example(count=12, count_is_estimate=False, status="failed", task_type=None)

    count: int
    count_is_estimate: bool
    status: TaskStatus | None
    task_type: TaskType | None


class Attempt(BaseModel):
    """One attempt of a task."""

    model_config = _example(
        number=1, worker_id="w-1", started_at="2026-11-22T12:00:00.010Z", finished_at="2026-11-22T12:00:00.540Z",
        outcome="retried", error_type="ConnectionError", error_message="no answer", traceback=None,
    )  # fmt: skip

    number: int
    worker_id: str
    started_at: datetime | None
    """Null: its worker vanished, and whether it had begun is not known."""
    finished_at: datetime | None
    outcome: str | None
    """completed, failed, retried, lost, crashed, shut_down, skipped, cancelled; null while it runs."""
    error_type: str | None
    error_message: str | None
    traceback: str | None


class AttemptsAnswer(BaseModel):
    """A task's attempts, first to last."""

    attempts: list[Attempt]


class LogLine(BaseModel):
    """A line that a task logged."""

    model_config = _example(id=7, attempt=1, logged_at="2026-11-22T12:00:00.100Z", level="info", message="half way")

    id: int
    attempt: int
    logged_at: datetime
    level: str
    message: str


class LogsAnswer(BaseModel):
    """Log lines in order; ask again with the last one's id for those that follow."""

    logs: list[LogLine]


class RetryAnswer(BaseModel):
    """The task that is pending again."""

    model_config = _example(task_id=_ID, success=True, message="Task is pending again")

    task_id: str
    success: bool
    message: str


class CancelAnswer(BaseModel):
    """What cancelling came to."""

    model_config = _example(task_id=_ID, success=True, message="Task cancelled", outcome="cancelled")

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
