"""The routes of many tasks at once: thin, over workers.bulk."""

from collections import Counter
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import ValidationError

from models.text import clean_text
from workers import audit, bulk, callboard, tasks
from workers.web.auth import LOCAL, Caller, Role, needs
from workers.web.problems import described
from workers.web.shapes import BulkAnswer, BulkEnqueueAnswer, BulkEnqueueRequest, BulkItem, BulkRequest, EnqueueRequest


def add_bulk_routes(router: APIRouter) -> None:
    """Add them to the router of tasks."""

    @router.post(
        "/enqueue/bulk",
        responses=described(400, 413),
        dependencies=[needs(Role.OPERATE)],
    )
    def enqueue_bulk(request: BulkEnqueueRequest) -> BulkEnqueueAnswer:
        """Send up to 10,000 tasks; what is wrong with one does not keep the others from being sent."""
        results = enqueue_each(request.tasks)
        audit.record("tasks.enqueue_bulk", details={"count": len(results)})
        tally = Counter(one.outcome for one in results)
        return BulkEnqueueAnswer(
            results=results,
            accepted=tally["accepted"],
            duplicates=tally["duplicate"],
            invalid=tally["invalid"],
            unavailable=tally["unavailable"],
            delivery=delivery(),
        )

    def act(action: bulk.Action, request: BulkRequest, caller: Caller) -> BulkAnswer:
        wanted = tasks.make_filter(**request.filter.model_dump())
        if request.dry_run:
            meant = bulk.count(action, wanted)
            return BulkAnswer(action=action, dry_run=True, matched=meant.number, matched_is_estimate=meant.is_estimate,
                              outcomes={}, more=meant.number > bulk.MAX_TASKS)  # fmt: skip
        done = bulk.act(action, wanted, by=name_of(caller))
        audit.record(f"tasks.bulk_{action}", details={"filter": request.filter.model_dump(
            mode="json", exclude_none=True), "outcomes": done.outcomes})  # fmt: skip
        return BulkAnswer(action=action, dry_run=False, matched=done.matched, matched_is_estimate=False,
                          outcomes=done.outcomes, more=done.more)  # fmt: skip

    in_bulk = described(400, 413)

    @router.post("/bulk/cancel", responses=in_bulk)
    def bulk_cancel(request: BulkRequest, caller: Annotated[Caller, needs(Role.OPERATE)]) -> BulkAnswer:
        """Cancel tasks by ids or filter, up to 10,000; with `dry_run` only say how many."""
        return act(bulk.Action.CANCEL, request, caller)

    @router.post("/bulk/retry", responses=in_bulk)
    def bulk_retry(request: BulkRequest, caller: Annotated[Caller, needs(Role.OPERATE)]) -> BulkAnswer:
        """Retry failed and cancelled tasks by ids or filter, up to 10,000; with `dry_run` only say how many."""
        return act(bulk.Action.RETRY, request, caller)

    @router.post("/bulk/delete", responses=in_bulk)
    def bulk_delete(request: BulkRequest, caller: Annotated[Caller, needs(Role.ADMIN)]) -> BulkAnswer:
        """Delete ended tasks by ids or filter, up to 10,000; with `dry_run` only say how many match."""
        return act(bulk.Action.DELETE, request, caller)


def enqueue_each(items: list[dict[str, Any]]) -> list[BulkItem]:
    """Send those of a bulk request that are right."""
    ready: dict[int, dict[str, Any]] = {}
    results: dict[int, BulkItem] = {}
    for index, item in enumerate(items):
        try:
            ready[index] = EnqueueRequest.model_validate(item).model_dump()
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            field = ".".join(str(part) for part in first["loc"])[:200]
            detail = clean_text(f"{field}: {first['msg']}", 500)
            results[index] = BulkItem(index=index, outcome="invalid", task_id=None, field=field, detail=detail)
    found = bulk.enqueue_many(list(ready.values())) if ready else []
    for index, one in zip(ready, found, strict=True):
        results[index] = BulkItem(
            index=index, outcome=one.outcome, task_id=one.task_id, field=one.field, detail=one.detail
        )
    return [results[index] for index in range(len(items))]


def delivery() -> Literal["sent", "deferred"]:
    """What to say of a message that was just sent."""
    return "sent" if callboard.broker.is_bus_up else "deferred"


def name_of(caller: Caller) -> str:
    """Who asked, as a row says it."""
    return "API" if caller == LOCAL else caller.name
