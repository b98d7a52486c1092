"""The routes of what serves tasks: actors, worker processes, groups of tasks, locks, the self-test."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query
from pydantic import Field

from models.task import TaskStatus
from workers import callboard, fleet, tasks
from workers.web.auth import Role, needs
from workers.web.fields import OFFSET, WHOLE, Shape, example, request, up_to
from workers.web.problems import Refused, described
from workers.web.route import make_router
from workers.web.shapes import EnqueueAnswer

_READ, _OPERATE = [needs(Role.READ)], [needs(Role.OPERATE)]
_Limit = Annotated[int, up_to(fleet.PAGE_MAX)]
_Offset = Annotated[int, OFFSET]


_TASK: dict[str, Any] = {
    "task_id": "019a9f3c-1a2b-7000-8000-00000000002a", "task_name": "diagnostics.run_self_test", "queue": "health",
    "priority": 8, "status": "running", "attempt": 1, "progress": 0.4, "created_at": "2026-11-22T12:00:00Z",
    "started_at": "2026-11-22T12:00:00.010Z",
}  # fmt: skip
_WORKER: dict[str, Any] = {
    "worker_id": "host:4711:a1b2c3", "hostname": "host", "pid": 4711, "threads": 10, "queues": ["email", "health"],
    "started_at": "2026-11-22T08:00:00Z", "heartbeat_at": "2026-11-22T12:00:01Z", "stopped_at": None, "alive": True,
    "tasks": [_TASK],
}  # fmt: skip
_HOLDER: dict[str, Any] = {"task_id": _TASK["task_id"], "token": 12, "expires_in_s": 29.5}


class ActorRow(Shape):
    """What there is to run."""

    model_config = example(
        name="diagnostics.run_self_test", aliases=["test_background_task"], type="health", queue="health", priority=8,
        source="workers.actors.diagnostics:38", doc="Walk through some steps.", limits={"time_limit_s": 3660},
        params={"type": "object", "properties": {"steps": {"type": "integer"}}},
    )  # fmt: skip

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


class TaskBrief(Shape):
    """A task in short."""

    model_config = example(**_TASK)

    task_id: str
    task_name: str
    queue: str
    priority: int
    status: TaskStatus
    attempt: int
    progress: float | None
    created_at: datetime
    started_at: datetime | None


class WorkerRow(Shape):
    """A worker process."""

    model_config = example(**_WORKER)

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


class WorkerPage(Shape):
    """A page of worker processes, last heard of first."""

    model_config = example(workers=[_WORKER], total_count=1, limit=100, offset=0)

    workers: list[WorkerRow]
    total_count: int
    limit: int
    offset: int


class GroupRow(Shape):
    """A group of tasks."""

    model_config = example(
        group_id="0b9f8f0e-52d6-4c8e-8d0f-3a2f4a0c7e11", size=3, by_status={"completed": 2, "running": 1},
        parent_id=None, created_at="2026-11-22T12:00:00Z", completed_at=None, tasks=[_TASK],
    )  # fmt: skip

    group_id: str
    size: int
    """Members that have to complete."""
    by_status: dict[TaskStatus, int]
    parent_id: str | None
    created_at: datetime | None
    completed_at: datetime | None
    tasks: list[TaskBrief]


class LockHolder(Shape):
    """Who has a lock."""

    model_config = example(**_HOLDER)

    task_id: str
    token: int
    expires_in_s: float


class LockRow(Shape):
    """A named lock, and what was counted of it since Redis's data began."""

    model_config = example(name="ledger-export", holder=_HOLDER, acquired=40, contended=3, lost=0, waited_s=1.5)

    name: str
    holder: LockHolder | None
    acquired: int
    contended: int
    """Tasks that found it held."""
    lost: int
    waited_s: float


class SelfTestRequest(Shape):
    """What the self-test is to do."""

    model_config = request(steps=5, seconds=1.0)

    steps: Annotated[int, Field(strict=True, ge=1, le=1_000), WHOLE] = 5
    seconds: Annotated[float, Field(strict=True, ge=0, le=3_600)] = 1.0
    """How long all steps take together."""
    fail_at: Annotated[int, Field(strict=True, ge=1, le=1_000), WHOLE] | None = None
    """The step that fails, if any."""


def create_fleet_router() -> APIRouter:
    """The routes of actors, workers, groups, locks and the self-test."""
    router = make_router(None, prefix="/api")
    missing = described(404)

    @router.get("/actors", name="list", dependencies=_READ, tags=["actors"])
    def list_actors() -> list[ActorRow]:
        """What there is to run."""
        return [ActorRow(**row) for row in fleet.list_actors()]

    @router.get("/workers", name="list", dependencies=_READ, tags=["workers"])
    def list_workers(
        alive: Annotated[bool, Query(description="Only those that are alive.")] = False,
        limit: _Limit = 100,
        offset: _Offset = 0,
    ) -> WorkerPage:
        """Worker processes, and what runs there."""
        rows, total = fleet.list_workers(alive=alive, limit=limit, offset=offset)
        found = [WorkerRow(**row) for row in rows]
        return WorkerPage(workers=found, total_count=total, limit=limit, offset=offset)

    @router.get("/groups/{group_id}", name="show", dependencies=_READ, tags=["groups"], responses=missing)
    def show_group(
        group_id: Annotated[str, Path(description="As its tasks name it.")], limit: _Limit = 100, offset: _Offset = 0
    ) -> GroupRow:
        """A group of tasks, and a page of its members."""
        found = fleet.get_group(group_id, limit=limit, offset=offset)
        if found is None:
            raise Refused(404, f"there is no group {group_id[:100]!r}: see the group_id of its tasks")
        return GroupRow(**found)

    @router.get("/locks", name="list", dependencies=_READ, tags=["locks"])
    def list_locks() -> list[LockRow]:
        """Every lock that was ever taken since Redis's data began."""
        return [LockRow(**row) for row in fleet.list_locks()]

    @router.post("/diagnostics/self-test", dependencies=_OPERATE, status_code=201, tags=["diagnostics"],
        responses=described(400, 413),
    )  # fmt: skip
    def self_test(
        request: Annotated[
            SelfTestRequest | None, Body(examples=SelfTestRequest.model_json_schema()["examples"])
        ] = None,
    ) -> EnqueueAnswer:
        """Send a task that proves that a worker works: follow it at /api/tasks/{task_id}."""
        task_id = tasks.enqueue_task(fleet.SELF_TEST, None, (request or SelfTestRequest()).model_dump())
        return EnqueueAnswer(
            task_id=task_id, message="Self-test enqueued", delivery="sent" if callboard.broker.is_bus_up else "deferred"
        )

    return router
