"""The routes of what serves tasks: actors, queues, worker processes, groups, locks, the self-test, statistics."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from models.task import TaskStatus
from workers import fleet, queues, statistics, tasks
from workers.queues import PURGE_MAX
from workers.web.problems import AsciiJson, described
from workers.web.shapes import EnqueueAnswer, Moment

_SELF_TEST = "diagnostics.run_self_test"
_Limit = Annotated[int, Query(ge=1, le=fleet.PAGE_MAX)]
_Offset = Annotated[int, Query(ge=0, le=10**9)]
_Queue = Annotated[str, Path(description="The queue's name.", examples=["email"])]


class ActorRow(BaseModel):
    """What there is to run."""

    model_config = ConfigDict(json_schema_extra={"example": {
        "name": "diagnostics.run_self_test", "aliases": ["test_background_task"], "type": "health", "queue": "health",
        "priority": 8, "source": "workers.actors.diagnostics:38", "doc": "Walk through some steps.",
        "limits": {"time_limit_s": 3660}, "params": {"type": "object", "properties": {"steps": {"type": "integer"}}},
    }})  # fmt: skip

    name: str
    aliases: list[str]
    """Legacy names; each is taken wherever the name is."""
    type: str | None
    queue: str
    priority: int
    source: str
    """`module:line` of its function."""
    doc: str
    limits: dict[str, Any]
    """Those that it sets itself; durations in seconds."""
    params: dict[str, Any]
    """JSON Schema of its parameters."""


class PriorityRow(BaseModel):
    """Waiting messages of one priority."""

    priority: int
    waiting: int
    oldest_age_s: float


class QueueRow(BaseModel):
    """A queue, as the bus counts it."""

    model_config = ConfigDict(json_schema_extra={"example": {
        "name": "email", "waiting": 3, "delayed": 1, "running": 2, "dead": 0, "oldest_age_s": 0.8, "next_due_s": 12.5,
        "paused": False, "priorities": [{"priority": 3, "waiting": 3, "oldest_age_s": 0.8}], "workers": 2,
    }})  # fmt: skip

    name: str
    waiting: int
    delayed: int
    running: int
    """With those that a worker has just taken."""
    dead: int
    oldest_age_s: float
    next_due_s: float | None
    paused: bool
    priorities: list[PriorityRow]
    workers: int
    """Live worker processes that serve it."""


class PurgeAnswer(BaseModel):
    """What purging came to."""

    queue: str
    cancelled: int
    """They will not run."""
    requested: int
    """A worker has just taken them and is asked to end them; or Redis is away, and it is done when that is back."""
    remaining: int
    """Pending ones that were not looked at: call again."""


class TaskBrief(BaseModel):
    """A task in short."""

    task_id: str
    task_name: str
    queue: str
    priority: int
    status: TaskStatus
    attempt: int
    progress: float | None
    created_at: datetime
    started_at: datetime | None


class WorkerRow(BaseModel):
    """A worker process."""

    worker_id: str
    hostname: str
    pid: int
    threads: int
    queues: list[str] | None
    started_at: datetime
    heartbeat_at: datetime
    stopped_at: datetime | None
    """When it said that it stops; null of one that lives, or died."""
    alive: bool
    tasks: list[TaskBrief]
    """Those that run there."""


class WorkerPage(BaseModel):
    """A page of worker processes, last heard of first."""

    workers: list[WorkerRow]
    total_count: int
    limit: int
    offset: int


class GroupRow(BaseModel):
    """A group of tasks."""

    group_id: str
    size: int
    """Members that have to complete."""
    by_status: dict[TaskStatus, int]
    parent_id: str | None
    created_at: datetime | None
    completed_at: datetime | None
    tasks: list[TaskBrief]


class LockHolder(BaseModel):
    """Who has a lock."""

    task_id: str
    token: int
    expires_in_s: float


class LockRow(BaseModel):
    """A named lock, and what was counted of it since Redis's data began."""

    name: str
    holder: LockHolder | None
    acquired: int
    contended: int
    """Tasks that found it held."""
    lost: int
    waited_s: float


class SelfTestRequest(BaseModel):
    """What the self-test is to do."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"steps": 5, "seconds": 1.0}})

    steps: Annotated[int, Field(ge=1, le=1_000, strict=True)] = 5
    seconds: Annotated[float, Field(ge=0, le=3_600)] = 1.0
    """How long all steps take together."""
    fail_at: Annotated[int, Field(ge=1, le=1_000, strict=True)] | None = None
    """The step that fails, if any."""


class Stats(BaseModel):
    """What ended in a span of time, and what is under way now."""

    since: datetime
    until: datetime
    completed: int
    failed: int
    cancelled: int
    success_rate: float | None
    """Completed among completed and failed, 0–1; null if there are neither."""
    pending: int
    running: int


class Bucket(BaseModel):
    """What ended in one bucket."""

    at: datetime
    completed: int
    failed: int
    cancelled: int


class Timeseries(BaseModel):
    """Buckets in order, none left out."""

    since: datetime
    until: datetime
    bucket_s: int
    buckets: list[Bucket]


def create_system_router() -> APIRouter:
    """The routes of actors, queues, workers, groups, locks, self-test and statistics below /api."""
    router = APIRouter(
        prefix="/api", default_response_class=AsciiJson, responses=described(_503="Unavailable", _422="Wrong input")
    )
    missing = described(_404="Not found")

    @router.get("/actors", tags=["actors"])
    def list_actors() -> list[ActorRow]:
        """What there is to run."""
        return [ActorRow(**row) for row in fleet.list_actors()]

    @router.get("/queues", tags=["queues"])
    def list_queues() -> list[QueueRow]:
        """Every queue that an actor has."""
        return [QueueRow(**row) for row in queues.list_queues()]

    @router.get("/queues/{queue}", tags=["queues"], responses=missing)
    def show_queue(queue: _Queue) -> QueueRow:
        """One queue."""
        return QueueRow(**queues.get_queue(queue))

    @router.post("/queues/{queue}/pause", tags=["queues"], responses=missing)
    def pause_queue(queue: _Queue) -> QueueRow:
        """Hand out nothing of it, until `resume`. What runs goes on, and sending does."""
        return QueueRow(**queues.pause_queue(queue))

    @router.post("/queues/{queue}/resume", tags=["queues"], responses=missing)
    def resume_queue(queue: _Queue) -> QueueRow:
        """Hand it out again."""
        return QueueRow(**queues.resume_queue(queue))

    @router.post("/queues/{queue}/purge", tags=["queues"], responses=missing)
    def purge_queue(queue: _Queue, limit: Annotated[int, Query(ge=1, le=PURGE_MAX)] = PURGE_MAX) -> PurgeAnswer:
        """Cancel its pending tasks, oldest first, delayed ones too. What runs goes on."""
        return PurgeAnswer(**queues.purge_queue(queue, by="API, purging its queue", limit=limit))

    @router.get("/workers", tags=["workers"])
    def list_workers(
        alive: Annotated[bool, Query(description="Only those that are alive.")] = False,
        limit: _Limit = 100,
        offset: _Offset = 0,
    ) -> WorkerPage:
        """Worker processes, and what runs there."""
        rows, total = fleet.list_workers(alive=alive, limit=limit, offset=offset)
        found = [WorkerRow(**row) for row in rows]
        return WorkerPage(workers=found, total_count=total, limit=limit, offset=offset)

    @router.get("/groups/{group_id}", tags=["groups"], responses=missing)
    def show_group(group_id: str, limit: _Limit = 100, offset: _Offset = 0) -> GroupRow:
        """A group of tasks, and a page of its members."""
        found = fleet.get_group(group_id, limit=limit, offset=offset)
        if found is None:
            raise HTTPException(404, f"there is no group {group_id[:100]!r}: see the group_id of its tasks")
        return GroupRow(**found)

    @router.get("/locks", tags=["locks"])
    def list_locks() -> list[LockRow]:
        """Every lock that was ever taken since Redis's data began."""
        return [LockRow(**row) for row in fleet.list_locks()]

    @router.post(
        "/diagnostics/self-test", status_code=201, tags=["diagnostics"],
        responses=described(_400="Bad request", _413="Too large"),
    )  # fmt: skip
    def self_test(request: SelfTestRequest) -> EnqueueAnswer:
        """Send a task that proves that a worker works: follow it at /api/tasks/{task_id}."""
        return EnqueueAnswer(**tasks.send_self_test(**request.model_dump()))

    @router.get("/stats", tags=["statistics"])
    def stats(since: Moment | None = None, until: Moment | None = None) -> Stats:
        """What ended in a span of time (by default the last 24 hours; at most 31 days), and what is under way."""
        return Stats(**statistics.stats(since, until))

    @router.get("/stats/timeseries", tags=["statistics"])
    def timeseries(
        since: Moment | None = None,
        until: Moment | None = None,
        bucket_s: Annotated[int | None, Query(ge=1, le=86_400, description="Seconds of a bucket.")] = None,
    ) -> Timeseries:
        """The same by buckets, of which there are at most 500."""
        return Timeseries(**statistics.timeseries(since, until, bucket_s))

    return router
