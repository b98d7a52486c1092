"""The task routes. Each checks its input by a shape, calls `workers.tasks`, and shapes the answer."""

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Query

from models.task import TaskStatus, TaskType
from models.task_query import MAX_PAGE
from workers import callboard, tasks
from workers.registry import default_priority_of
from workers.web.shapes import CancelAnswer, CountAnswer, EnqueueAnswer, EnqueueRequest, Problem, TaskPage, TaskRow

_PROBLEM = {"model": Problem, "content": {"application/problem+json": {}}}
_TaskId = Annotated[str, Path(max_length=64)]
_MAX_OFFSET = 2**31 - 1


def create_task_router() -> APIRouter:
    """The routes below /api/tasks, to be mounted here or in an application of one's own."""
    router = APIRouter(
        prefix="/api/tasks",
        tags=["tasks"],
        responses={
            422: {"description": "Unprocessable content", **_PROBLEM},
            503: {"description": "Unavailable", **_PROBLEM},
        },
    )

    @router.post("/enqueue", status_code=201)
    def enqueue(request: EnqueueRequest) -> EnqueueAnswer:
        """Send a task."""
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
            task_id=task_id, message=f"Task enqueued successfully with priority {priority}", delivery="sent"
        )

    @router.get("/count/all")
    def count(status: TaskStatus | None = None, task_type: TaskType | None = None) -> CountAnswer:
        """How many tasks match."""
        return CountAnswer(count=tasks.get_task_count(status, task_type), status=status, task_type=task_type)

    @router.get("/")
    def list_tasks(
        status: TaskStatus | None = None,
        task_type: TaskType | None = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
        offset: Annotated[int, Query(ge=0, le=_MAX_OFFSET)] = 0,
    ) -> TaskPage:
        """Tasks, newest first."""
        rows = tasks.list_tasks(status, task_type, limit=limit, offset=offset)
        total = tasks.get_task_count(status, task_type)
        return TaskPage(tasks=[TaskRow(**row) for row in rows], total_count=total, limit=limit, offset=offset)

    @router.get("/{task_id}", responses={404: {"description": "Not found", **_PROBLEM}})
    def show(task_id: _TaskId) -> TaskRow:
        """A task's row."""
        return TaskRow(**_found(task_id))

    @router.post(
        "/{task_id}/cancel",
        responses={404: {"description": "Not found", **_PROBLEM}, 409: {"description": "Conflict", **_PROBLEM}},
    )
    def cancel(task_id: _TaskId) -> CancelAnswer:
        """Cancel a pending task."""
        if tasks.cancel_task(task_id, by="API"):
            return CancelAnswer(task_id=task_id, success=True, message="Task cancelled", outcome="cancelled")
        status = _found(task_id)["status"]
        mend = "only pending tasks can be cancelled" if status == TaskStatus.RUNNING else "it has ended"
        raise HTTPException(409, f"task {task_id} is {status}: {mend}")

    return router


def _found(task_id: str) -> dict[str, Any]:
    row = tasks.get_task_status(task_id)
    if row is None:
        raise HTTPException(404, f"there is no task {task_id!r}: see GET /api/tasks/ for those there are")
    return row
