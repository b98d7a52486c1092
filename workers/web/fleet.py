"""The routes of what serves tasks: actors, worker processes, groups of tasks, locks, the self-test."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel, ConfigDict, Field

from models.task import TaskStatus
from workers import callboard, fleet, tasks
from workers.web.auth import Role, needs
from workers.web.problems import AsciiJson, described
from workers.web.shapes import EnqueueAnswer

_READ, _OPERATE = [needs(Role.READ)], [needs(Role.OPERATE)]
_Limit = Annotated[int, Query(ge=1, le=fleet.PAGE_MAX)]
_Offset = Annotated[int, Query(ge=0, le=10**9)]


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


def create_fleet_router() -> APIRouter:
    """The routes of actors, workers, groups, locks and the self-test."""
    router = APIRouter(
        prefix="/api",
        default_response_class=AsciiJson,
        responses=described(_422="Unprocessable content", _503="Unavailable"),
    )
    missing = described(_404="Not found")

    @router.get("/actors", dependencies=_READ, tags=["actors"])
    def list_actors() -> list[ActorRow]:
        """What there is to run."""
        return [ActorRow(**row) for row in fleet.list_actors()]

    @router.get("/workers", dependencies=_READ, tags=["workers"])
    def list_workers(
        alive: Annotated[bool, Query(description="Only those that are alive.")] = False,
        limit: _Limit = 100,
        offset: _Offset = 0,
    ) -> WorkerPage:
        """Worker processes, and what runs there."""
        rows, total = fleet.list_workers(alive=alive, limit=limit, offset=offset)
        found = [WorkerRow(**row) for row in rows]
        return WorkerPage(workers=found, total_count=total, limit=limit, offset=offset)

    @router.get("/groups/{group_id}", dependencies=_READ, tags=["groups"], responses=missing)
    def show_group(group_id: str, limit: _Limit = 100, offset: _Offset = 0) -> GroupRow:
        """A group of tasks, and a page of its members."""
        found = fleet.get_group(group_id, limit=limit, offset=offset)
        if found is None:
            raise HTTPException(404, f"there is no group {group_id[:100]!r}: see the group_id of its tasks")
        return GroupRow(**found)

    @router.get("/locks", dependencies=_READ, tags=["locks"])
    def list_locks() -> list[LockRow]:
        """Every lock that was ever taken since Redis's data began."""
        return [LockRow(**row) for row in fleet.list_locks()]

    @router.post("/diagnostics/self-test", dependencies=_OPERATE, status_code=201, tags=["diagnostics"],
        responses=described(_400="Bad request", _413="Too large"),
    )  # fmt: skip
    def self_test(request: SelfTestRequest) -> EnqueueAnswer:
        """Send a task that proves that a worker works: follow it at /api/tasks/{task_id}."""
        task_id = tasks.enqueue_task(fleet.SELF_TEST, None, request.model_dump())
        return EnqueueAnswer(
            task_id=task_id, message="Self-test enqueued", delivery="sent" if callboard.broker.is_bus_up else "deferred"
        )

    return router
