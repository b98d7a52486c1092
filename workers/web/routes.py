"""The task routes. Each checks its input by a shape, calls `workers.tasks`, and shapes the answer."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Query

from models.task import TaskStatus, TaskType
from models.task_query import MAX_OFFSET, MAX_PAGE
from workers import audit, callboard, tasks
from workers.registry import default_priority_of
from workers.tasks import CancelOutcome
from workers.web.auth import LOCAL, Caller, Role, needs, trusting
from workers.web.problems import AsciiJson, described
from workers.web.shapes import (
    CancelAnswer,
    CountAnswer,
    EnqueueAnswer,
    EnqueueRequest,
    TaskDetail,
    TaskPage,
    TaskRow,
)

_TaskId = Annotated[str, Path(description="The task's id, as enqueue returned it.")]


_CANCEL_MESSAGES = {
    CancelOutcome.CANCELLED: "Task cancelled",
    CancelOutcome.REQUESTED: "Cancellation requested: see the task's status for its end",
}


def create_task_router(auth: Callable[..., Any] | None = None) -> APIRouter:
    """The routes below /api/tasks, to be mounted here or in an application of one's own.

    Args:
        auth: another application's own FastAPI dependency, which then decides who may call; see workers.web.auth.
            None: our tokens decide.
    """
    router = APIRouter(
        prefix="/api/tasks",
        tags=["tasks"],
        default_response_class=AsciiJson,
        responses=described(_422="Unprocessable content", _503="Unavailable"),
        dependencies=[] if auth is None else [trusting(auth)],
    )

    @router.post(
        "/enqueue",
        status_code=201,
        responses=described(_400="Bad request", _413="Too large"),
        dependencies=[needs(Role.OPERATE)],
    )
    def enqueue(request: EnqueueRequest) -> EnqueueAnswer:
        """Send a task."""
        audit.record("tasks.enqueue", request.task_name)
        task_id = tasks.enqueue_task(
            request.task_name,
            request.task_type,
            request.params,
            request.priority,
            request.max_retries,
            delay_s=request.delay_s,
            tags=request.tags,
        )
        priority = request.priority or default_priority_of(callboard.registry.resolve(request.task_name))
        return EnqueueAnswer(
            task_id=task_id,
            message=f"Task enqueued successfully with priority {priority}",
            delivery="sent" if callboard.broker.is_bus_up else "deferred",
        )

    @router.get("/count/all", dependencies=[needs(Role.READ)])
    def count(status: TaskStatus | None = None, task_type: TaskType | None = None) -> CountAnswer:
        """How many tasks match."""
        return CountAnswer(count=tasks.get_task_count(status, task_type), status=status, task_type=task_type)

    @router.get("/", dependencies=[needs(Role.READ)])
    def list_tasks(
        status: TaskStatus | None = None,
        task_type: TaskType | None = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
        offset: Annotated[int, Query(ge=0, le=MAX_OFFSET)] = 0,
    ) -> TaskPage:
        """Tasks, newest first."""
        rows = tasks.list_tasks(status, task_type, limit=limit, offset=offset)
        total = tasks.get_task_count(status, task_type)
        return TaskPage(tasks=[TaskRow(**row) for row in rows], total_count=total, limit=limit, offset=offset)

    @router.get("/{task_id}", responses=described(_404="Not found"), dependencies=[needs(Role.READ)])
    def show(task_id: _TaskId) -> TaskDetail:
        """A task's row, and why it is not running yet."""
        return TaskDetail(**_found(task_id), waiting_on=tasks.waiting_on(task_id))

    @router.post("/{task_id}/cancel", responses=described(_404="Not found", _409="Conflict"))
    def cancel(task_id: _TaskId, caller: Annotated[Caller, needs(Role.OPERATE)]) -> CancelAnswer:
        """Cancel a task. `cancelled`: it will not run; `requested`: it is being ended, as its status will say."""
        outcome = tasks.request_cancel(task_id, by="API" if caller == LOCAL else caller.name)
        if outcome in _CANCEL_MESSAGES:
            message = _CANCEL_MESSAGES[outcome]
            if outcome is CancelOutcome.REQUESTED and not callboard.broker.is_bus_up:
                message = "Cancellation requested: Redis does not answer, and it is carried out when it does"
            return CancelAnswer(task_id=task_id, success=True, message=message, outcome=outcome)
        raise HTTPException(409, f"task {task_id} is {_found(task_id)['status']}: it has ended")

    return router


def _found(task_id: str) -> dict[str, Any]:
    row = tasks.get_task_status(task_id)
    if row is None:
        raise HTTPException(404, f"there is no task {task_id[:100]!r}: see GET /api/tasks/ for those there are")
    return row
