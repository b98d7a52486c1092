"""The shapes of requests and answers about tasks, as pydantic models: what OpenAPI shows is what is checked.

Those of other routes stand beside them; what all are made of is in workers.web.fields.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from models.task import MAX_PRIORITY, MIN_PRIORITY, TaskStatus, TaskType
from models.task_query import MAX_OFFSET, MAX_PAGE
from workers.tasks import MAX_DELAY_S, MAX_RETRIES_BOUND
from workers.web.fields import WHOLE, Flag, Moment, Name, Priority, Shape, changes, example, request

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
_ITEM: dict[str, Any] = {"index": 0, "outcome": "accepted", "task_id": _ID, "field": None, "detail": None}
_ATTEMPT: dict[str, Any] = {
    "number": 1, "worker_id": "w-1", "started_at": "2026-11-22T12:00:00.010Z",
    "finished_at": "2026-11-22T12:00:00.540Z", "outcome": "retried", "error_type": "ConnectionError",
    "error_message": "no answer", "traceback": None,
}  # fmt: skip
_LOG_LINE: dict[str, Any] = {
    "id": 7, "attempt": 1, "logged_at": "2026-11-22T12:00:00.100Z", "level": "info", "message": "half way"
}  # fmt: skip


class EnqueueRequest(Shape):
    """What to run."""

    model_config = request(
        task_name="email.send_confirmation",
        params={"fir_id": "FIR-2026-000101", "recipient_email": "meera.nair@example.org"},
        priority=5,
    )

    task_name: Name
    """Canonical or legacy name of an actor; GET /api/actors has them, and the schema of each one's parameters."""
    task_type: TaskType | None = None
    """If it is given, it must be the actor's."""
    params: Annotated[dict[str, Any], Field(default_factory=dict)]
    """Its arguments by name."""
    priority: Priority | None = None
    """1–10, higher first; by default the actor's."""
    max_retries: Annotated[int, Field(strict=True, ge=0, le=MAX_RETRIES_BOUND), WHOLE] | None = None
    """How often it is tried again after a failure; by default the actor's."""
    delay_s: Annotated[float, Field(strict=True, ge=0, le=MAX_DELAY_S)] | None = None
    """Not before this many seconds from now."""
    eta: Moment | None = None
    """Not before this time, at most ten years from now; instead of delay_s."""
    idempotency_key: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """While a task with this key is pending or running, no second one is sent."""
    tags: Annotated[list[Annotated[str, Field(max_length=100)]], Field(max_length=20)] | None = None
    """To find it by."""


class EnqueueAnswer(Shape):
    """The task that was accepted, or the earlier one that has its idempotency key."""

    model_config = example(task_id=_ID, message="Task enqueued successfully with priority 5", delivery="sent")

    task_id: str
    message: str
    delivery: Literal["sent", "deferred"]
    """`sent`: its message is on the bus. `deferred`: Redis is away, and gets it when it is back."""
    duplicate: bool = False
    """An earlier task has this idempotency key; nothing was sent. Left out if it is false."""


class BulkEnqueueRequest(Shape):
    """What to run, each as for a single one; a wrong one is left out, and does not keep the others from being sent."""

    model_config = request(
        tasks=[
            {"task_name": "diagnostics.run_self_test", "params": {"steps": 2}},
            {"task_name": "diagnostics.run_self_test", "delay_s": 60, "idempotency_key": "self-test-2026-11"},
        ]
    )

    tasks: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=10_000)]
    """Each an EnqueueRequest."""


class BulkItem(Shape):
    """What became of one of them."""

    model_config = example(**_ITEM)

    index: int
    """Its place in the request, from 0."""
    outcome: Literal["accepted", "duplicate", "invalid", "unavailable"]
    """`duplicate`: task_id is the earlier one's. `unavailable`: the database went away before its turn."""
    task_id: str | None
    field: str | None
    """What is wrong with an invalid one, as in a Problem."""
    detail: str | None


class BulkEnqueueAnswer(Shape):
    """What became of each, in the order of the request, and how many came to what."""

    model_config = example(results=[_ITEM], accepted=1, duplicates=0, invalid=0, unavailable=0, delivery="sent")

    results: list[BulkItem]
    accepted: int
    duplicates: int
    invalid: int
    unavailable: int
    delivery: Literal["sent", "deferred"]


class TaskFilterFields(Shape):
    """Which tasks are meant; all that is given must hold."""

    model_config = ConfigDict(extra="forbid")

    status: TaskStatus | None = None
    """Of this status."""
    task_type: TaskType | None = None
    """Of this type."""
    task_name: Name | None = None
    """Canonical or legacy name of the actor."""
    queue: Name | None = None
    """Of this queue."""
    priority: Annotated[int, Field(ge=MIN_PRIORITY, le=MAX_PRIORITY)] | None = None
    """1–10."""
    tag: Name | None = None
    """One of its tags."""
    correlation_id: Name | None = None
    """All that one request caused."""
    q: Name | None = None
    """Occurs, in whatever case, in id, name, correlation id, reason or error."""
    since: Moment | None = None
    """Created then or later."""
    until: Moment | None = None
    """Created before then."""
    parent_id: Name | None = None
    """Sent by this task."""
    group_id: Name | None = None
    """Of this group."""
    schedule_id: Name | None = None
    """Sent by this schedule."""


class ListRequest(TaskFilterFields):
    """A filter, and which page of what it means."""

    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 100
    """Tasks of a page."""
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

    priority: Priority | None = None
    """1–10."""
    ids: Annotated[list[Name], Field(min_length=1, max_length=1_000)] | None = None
    """Of tasks."""


class BulkRequest(Shape):
    """Which tasks an action is for: ids, or at least one filter."""

    model_config = request(filter={"status": "failed", "task_type": "email"}, dry_run=True)

    filter: BulkFilter
    dry_run: Flag = False
    """Do nothing, and say how many they are."""


class BulkAnswer(Shape):
    """What became of them."""

    model_config = example(action="retry", dry_run=False, matched=3, matched_is_estimate=False,
                           outcomes={"reopened": 2, "refused": 1}, more=False)  # fmt: skip

    action: Literal["cancel", "retry", "delete"]
    dry_run: bool
    matched: int
    matched_is_estimate: bool
    outcomes: dict[str, int]
    """How many came to what: cancelled, requested, ended; reopened, refused, key_taken; deleted, kept; unknown."""
    more: bool
    """More than the 10,000 of one call match."""


class ChangeRequest(Shape):
    """What is to be different about a task that waits; what is left out stays."""

    model_config = changes(least=1, priority=9)

    priority: Priority = 5
    """1–10, higher first."""
    eta: Moment | None = None
    """Not before this time; null: at once."""


class TaskRow(Shape):
    """A row of the status table; `params` by name, secrets as stars."""

    model_config = example(**_ROW)

    task_id: str
    task_name: str
    task_type: TaskType | str | None
    queue: str
    priority: int
    status: TaskStatus
    reason: str | None
    """Why it failed or was cancelled."""
    params: dict[str, Any]
    result: Any
    """What its function returned."""
    result_pruned_at: datetime | None
    """When the result was deleted for its age."""
    error_type: str | None
    error_message: str | None
    attempt: int
    """Number of the attempt that runs or was the last; 0 before the first."""
    retry_count: int
    max_retries: int
    progress: float | None
    """0–1, as the task says."""
    progress_message: str | None
    worker_id: str | None
    correlation_id: str | None
    """Of the request that caused it, and all that it causes; its own id where there is none."""
    parent_id: str | None
    """The task that sent it."""
    group_id: str | None
    schedule_id: str | None
    idempotency_key: str | None
    tags: list[str]
    eta: datetime | None
    """Not before this time: it is delayed, or waits for a retry."""
    created_at: datetime
    enqueued_at: datetime | None
    """When its message was put on the bus."""
    started_at: datetime | None
    completed_at: datetime | None
    """When it ended, however."""
    cancel_requested_at: datetime | None


class TaskDetail(TaskRow):
    """One task, looked at closely."""

    model_config = example(**_ROW, waiting_on=None)

    waiting_on: str | None
    """Why it is not running yet, in words; null once it runs or has ended."""


class TaskPage(Shape):
    """A page of rows."""

    model_config = example(tasks=[_ROW], total_count=1, total_count_is_estimate=False, limit=100, offset=0,
                           next_cursor=None, is_partial=False)  # fmt: skip

    tasks: list[TaskRow]
    total_count: int | None
    """How many match; null on a page that was asked for by its cursor."""
    total_count_is_estimate: bool
    """As it is above 100,000."""
    limit: int
    offset: int
    next_cursor: str | None
    """Where the list goes on; null: nowhere."""
    is_partial: bool
    """So many tasks had to be looked at for this filter that the search was given up: the page may be short, even
    empty, and goes on at its cursor. In an order by duration or priority: only the newest were sorted."""


class CountAnswer(Shape):
    """How many rows match; the filters as they were given."""

    model_config = example(count=12, count_is_estimate=False, status="failed", task_type=None)

    count: int
    count_is_estimate: bool
    """As it is above 100,000."""
    status: TaskStatus | None
    task_type: TaskType | None


class Attempt(Shape):
    """One attempt of a task."""

    model_config = example(**_ATTEMPT)

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


class AttemptsAnswer(Shape):
    """A task's attempts, first to last."""

    model_config = example(attempts=[_ATTEMPT])

    attempts: list[Attempt]


class LogLine(Shape):
    """A line that a task logged."""

    model_config = example(**_LOG_LINE)

    id: int
    attempt: int
    logged_at: datetime
    level: str
    message: str


class LogsAnswer(Shape):
    """Log lines in order; ask again with the last one's id for those that follow."""

    model_config = example(logs=[_LOG_LINE])

    logs: list[LogLine]


class RetryAnswer(Shape):
    """The task that is pending again."""

    model_config = example(task_id=_ID, success=True, message="Task is pending again")

    task_id: str
    success: bool
    message: str


class CancelAnswer(Shape):
    """What cancelling came to."""

    model_config = example(task_id=_ID, success=True, message="Task cancelled", outcome="cancelled")

    task_id: str
    success: bool
    message: str
    outcome: Literal["cancelled", "requested", "killed"]
    """`cancelled`: it was pending and will not run. `killed`: it ran in a process of its own, which is dead.
    `requested`: a worker has it and ends it; or, with Redis away, it is taken off when that is back."""


class Problem(Shape):
    """An error (RFC 9457)."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [{
        "type": "invalid-task", "title": "Unprocessable content", "status": 422, "field": "task_name",
        "detail": "task_name: there is no actor 'email.send_conformation': did you mean email.send_confirmation?",
    }]})  # fmt: skip

    type: str
    """What kind of error it is, for programs."""
    title: str
    """The status in words."""
    status: int
    detail: str
    """What was expected, what came, and what to do."""
    field: str | None = None
    """What is wrong of the request."""
