"""The task routes. Each checks its input by a shape, calls `workers.tasks`, and shapes the answer."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from models.task_query import MAX_OFFSET, MAX_PAGE
from workers import audit, callboard, tasks
from workers.registry import default_priority_of
from workers.tasks import CancelOutcome
from workers.web.auth import Caller, Role, needs, trusting
from workers.web.bulk import add_bulk_routes, delivery, name_of
from workers.web.fields import up_to
from workers.web.problems import Refused, described
from workers.web.route import make_router
from workers.web.shapes import (
    Attempt,
    AttemptsAnswer,
    CancelAnswer,
    ChangeRequest,
    CountAnswer,
    EnqueueAnswer,
    EnqueueRequest,
    ListRequest,
    LogLine,
    LogsAnswer,
    RetryAnswer,
    TaskDetail,
    TaskFilterFields,
    TaskPage,
    TaskRow,
)

_TaskId = Annotated[str, Path(description="The task's id, as enqueue returned it.")]


_CANCEL_MESSAGES = {
    CancelOutcome.CANCELLED: "Task cancelled",
    CancelOutcome.KILLED: "Task cancelled: its process was killed",
    CancelOutcome.REQUESTED: "Cancellation requested: see the task's status for its end",
}


def create_task_router(auth: Callable[..., Any] | None = None) -> APIRouter:
    """The routes below /api/tasks, to be mounted here or in an application of one's own.

    Args:
        auth: another application's own FastAPI dependency, which then decides who may call; see workers.web.auth.
            None: our tokens decide.
    """
    router = make_router("tasks", dependencies=[] if auth is None else [trusting(auth)])
    _add_enqueue(router)
    add_bulk_routes(router)  # why here: `/bulk/cancel` is of the form of `/{task_id}/cancel`, and the first one counts.
    _add_looking(router)
    _add_acting(router)
    return router


def _add_enqueue(router: APIRouter) -> None:
    @router.post(
        "/enqueue",
        status_code=201,
        response_model_exclude_defaults=True,
        responses={
            200: {"model": EnqueueAnswer, "description": "An earlier task has this idempotency key"},
            **described(400, 413),
        },
        dependencies=[needs(Role.OPERATE)],
    )
    def enqueue(request: EnqueueRequest, response: Response) -> EnqueueAnswer:
        """Send a task."""
        audit.record("tasks.enqueue", request.task_name)
        message = tasks.enqueue(**request.model_dump())
        if tasks.is_duplicate(message):
            response.status_code = 200
            said = "Nothing was sent: this earlier task has the idempotency key"
            return EnqueueAnswer(task_id=message.message_id, message=said, delivery=delivery(), duplicate=True)
        priority = request.priority or default_priority_of(callboard.registry.resolve(request.task_name))
        said = f"Task enqueued successfully with priority {priority}"
        return EnqueueAnswer(task_id=message.message_id, message=said, delivery=delivery())


def _add_looking(router: APIRouter) -> None:
    @router.get("/count/all", dependencies=[needs(Role.READ)])
    def count(asked: Annotated[TaskFilterFields, Query()]) -> CountAnswer:
        """How many tasks match; about how many above 100,000, or where a second does not do to count them."""
        found = tasks.count_tasks(tasks.make_filter(**asked.model_dump()))
        return CountAnswer(count=found.number, count_is_estimate=found.is_estimate, status=asked.status,
                           task_type=asked.task_type)  # fmt: skip

    # why twice: the framework's redirect has no words, and behind a proxy with TLS leads to http://.
    @router.get("", include_in_schema=False, dependencies=[needs(Role.READ)])
    @router.get("/", name="list", dependencies=[needs(Role.READ)])
    def list_tasks(asked: Annotated[ListRequest, Query()]) -> TaskPage:
        """Tasks, newest first unless `sort` says otherwise."""
        wanted = tasks.make_filter(**asked.filters())
        total = None
        if asked.cursor is None:
            page, total = tasks.find_and_count(wanted, limit=asked.limit, offset=asked.offset, sort=asked.sort)
        else:
            page = tasks.find_tasks(wanted, limit=asked.limit, offset=asked.offset, sort=asked.sort,
                                    cursor=asked.cursor)  # fmt: skip
        return TaskPage(
            tasks=[TaskRow(**tasks.as_dict(row)) for row in page.rows],
            total_count=total and total.number,
            total_count_is_estimate=total is not None and total.is_estimate,
            limit=asked.limit,
            offset=asked.offset,
            next_cursor=page.next_cursor,
            is_partial=page.is_partial,
        )

    @router.get("/{task_id}", responses=described(404), dependencies=[needs(Role.READ)])
    def show(task_id: _TaskId) -> TaskDetail:
        """A task's row, and why it is not running yet."""
        return TaskDetail(**_found(task_id), waiting_on=tasks.waiting_on(task_id))

    @router.get("/{task_id}/attempts", responses=described(404), dependencies=[needs(Role.READ)])
    def attempts(task_id: _TaskId) -> AttemptsAnswer:
        """A task's attempts, first to last."""
        _found(task_id)
        return AttemptsAnswer(attempts=[Attempt(**one) for one in tasks.attempts(task_id)])

    @router.get("/{task_id}/logs", responses=described(404), dependencies=[needs(Role.READ)])
    def logs(
        task_id: _TaskId,
        after_id: Annotated[int, Query(ge=0, le=MAX_OFFSET, description="Only lines after this one.")] = 0,
        limit: Annotated[int, up_to(MAX_PAGE)] = MAX_PAGE,
    ) -> LogsAnswer:
        """A task's log lines in order."""
        _found(task_id)
        return LogsAnswer(logs=[LogLine(**one) for one in tasks.logs(task_id, after_id=after_id, limit=limit)])


def _add_acting(router: APIRouter) -> None:
    changing = described(400, 404, 409, 413)

    @router.patch("/{task_id}", responses=changing, dependencies=[needs(Role.OPERATE)])
    def change(task_id: _TaskId, request: ChangeRequest) -> TaskDetail:
        """Give a task that waits another priority or time."""
        _found(task_id)
        given = request.model_dump(exclude_unset=True)
        tasks.change_task(task_id, priority=given.get("priority"), eta=given.get("eta", tasks.UNCHANGED))
        return TaskDetail(**_found(task_id), waiting_on=tasks.waiting_on(task_id))

    @router.post("/{task_id}/retry", responses=described(404, 409))
    def retry(task_id: _TaskId, caller: Annotated[Caller, needs(Role.OPERATE)]) -> RetryAnswer:
        """Have a failed or cancelled task run again under its own id."""
        _found(task_id)
        tasks.retry_task(task_id, by=name_of(caller))
        return RetryAnswer(task_id=task_id, success=True, message="Task is pending again")

    @router.post("/{task_id}/cancel", responses=described(404, 409))
    def cancel(task_id: _TaskId, caller: Annotated[Caller, needs(Role.OPERATE)]) -> CancelAnswer:
        """Cancel a task. `cancelled`: it will not run; `killed`: its process was; `requested`: it is being ended, as
        its status will say."""
        outcome = tasks.request_cancel(task_id, by=name_of(caller))
        if outcome in _CANCEL_MESSAGES:
            message = _CANCEL_MESSAGES[outcome]
            if outcome is CancelOutcome.REQUESTED and not callboard.broker.is_bus_up:
                message = "Cancellation requested: Redis does not answer, and it is carried out when it does"
            return CancelAnswer(task_id=task_id, success=True, message=message, outcome=outcome)
        raise Refused(409, f"task {task_id} is {_found(task_id)['status']}: it has ended")


def _found(task_id: str) -> dict[str, Any]:
    row = tasks.get_task_status(task_id)
    if row is None:
        raise Refused(404, f"there is no task {task_id[:100]!r}: see GET /api/tasks/ for those there are")
    return row
