"""The routes of queues. Each calls `workers.queues`."""

from typing import Annotated, Any

from fastapi import APIRouter, Path

from workers import queues
from workers.queues import PURGE_MAX
from workers.web.auth import LOCAL, Caller, Role, needs
from workers.web.fields import Shape, example, up_to
from workers.web.problems import described
from workers.web.route import make_router

_READ, _OPERATE = [needs(Role.READ)], [needs(Role.OPERATE)]
_Queue = Annotated[str, Path(description="The queue's name.", examples=["email"])]


_PRIORITY: dict[str, Any] = {"priority": 3, "waiting": 3, "oldest_age_s": 0.8}


class PriorityRow(Shape):
    """Waiting messages of one priority."""

    model_config = example(**_PRIORITY)

    priority: int
    waiting: int
    oldest_age_s: float


class QueueRow(Shape):
    """A queue, as the bus counts it."""

    model_config = example(name="email", waiting=3, delayed=1, running=2, dead=0, oldest_age_s=0.8, next_due_s=12.5,
                           paused=False, priorities=[_PRIORITY], workers=2)  # fmt: skip

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


class PurgeAnswer(Shape):
    """What purging came to."""

    model_config = example(queue="email", cancelled=120, requested=1, remaining=0)

    queue: str
    cancelled: int
    """They will not run."""
    requested: int
    """A worker has just taken them and is asked to end them; or Redis is away, and it is done when that is back."""
    remaining: int
    """Pending ones that were not looked at: call again."""


def create_queue_router() -> APIRouter:
    """The routes below /api/queues."""
    router = make_router("queues")
    missing = described(404)

    @router.get("", name="list", dependencies=_READ)
    def list_queues() -> list[QueueRow]:
        """Every queue that an actor has."""
        return [QueueRow(**row) for row in queues.list_queues()]

    @router.get("/{queue}", name="show", dependencies=_READ, responses=missing)
    def show_queue(queue: _Queue) -> QueueRow:
        """Show one queue."""
        return QueueRow(**queues.get_queue(queue))

    @router.post("/{queue}/pause", name="pause", dependencies=_OPERATE, responses=missing)
    def pause_queue(queue: _Queue) -> QueueRow:
        """Hand out nothing of it, until `resume`. What runs goes on, and sending does."""
        return QueueRow(**queues.pause_queue(queue))

    @router.post("/{queue}/resume", name="resume", dependencies=_OPERATE, responses=missing)
    def resume_queue(queue: _Queue) -> QueueRow:
        """Hand it out again."""
        return QueueRow(**queues.resume_queue(queue))

    @router.post("/{queue}/purge", name="purge", responses=missing)
    def purge_queue(
        queue: _Queue,
        caller: Annotated[Caller, needs(Role.ADMIN)],
        limit: Annotated[int, up_to(PURGE_MAX)] = PURGE_MAX,
    ) -> PurgeAnswer:
        """Cancel its pending tasks, oldest first, delayed ones too. What runs goes on."""
        by = "API" if caller == LOCAL else caller.name
        return PurgeAnswer(**queues.purge_queue(queue, by=f"{by}, purging the queue", limit=limit))

    return router
