"""The routes of queues. Each calls `workers.queues`."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict

from workers import queues
from workers.queues import PURGE_MAX
from workers.web.auth import LOCAL, Caller, Role, needs
from workers.web.problems import AsciiJson, described

_READ, _OPERATE = [needs(Role.READ)], [needs(Role.OPERATE)]
_Queue = Annotated[str, Path(description="The queue's name.", examples=["email"])]


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


def create_queue_router() -> APIRouter:
    """The routes below /api/queues."""
    router = APIRouter(
        prefix="/api/queues",
        tags=["queues"],
        default_response_class=AsciiJson,
        responses=described(_422="Unprocessable content", _503="Unavailable"),
    )
    missing = described(_404="Not found")

    @router.get("", dependencies=_READ)
    def list_queues() -> list[QueueRow]:
        """Every queue that an actor has."""
        return [QueueRow(**row) for row in queues.list_queues()]

    @router.get("/{queue}", dependencies=_READ, responses=missing)
    def show_queue(queue: _Queue) -> QueueRow:
        """One queue."""
        return QueueRow(**queues.get_queue(queue))

    @router.post("/{queue}/pause", dependencies=_OPERATE, responses=missing)
    def pause_queue(queue: _Queue) -> QueueRow:
        """Hand out nothing of it, until `resume`. What runs goes on, and sending does."""
        return QueueRow(**queues.pause_queue(queue))

    @router.post("/{queue}/resume", dependencies=_OPERATE, responses=missing)
    def resume_queue(queue: _Queue) -> QueueRow:
        """Hand it out again."""
        return QueueRow(**queues.resume_queue(queue))

    @router.post("/{queue}/purge", responses=missing)
    def purge_queue(
        queue: _Queue,
        caller: Annotated[Caller, needs(Role.ADMIN)],
        limit: Annotated[int, Query(ge=1, le=PURGE_MAX)] = PURGE_MAX,
    ) -> PurgeAnswer:
        """Cancel its pending tasks, oldest first, delayed ones too. What runs goes on."""
        by = "API" if caller == LOCAL else caller.name
        return PurgeAnswer(**queues.purge_queue(queue, by=f"{by}, purging the queue", limit=limit))

    return router
