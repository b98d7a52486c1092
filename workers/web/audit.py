"""The audit log in the REST API: an entry for every request that acts, and the route that shows them."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.audit import MAX_PAGE, AuditFilter
from models.task_query import MAX_OFFSET
from workers import audit
from workers.web.auth import LOCAL, Role, needs
from workers.web.problems import AsciiJson, described
from workers.web.shapes import Moment

_ACTING = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Audited:
    """Writes what a request did into the audit log before its answer goes out.

    A request that matched no route did nothing. One whose route recorded nothing by itself is recorded by the route's
    tag and name, with what stood in the path as its target.

    Args:
        app: the application behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Open a sheet for the request and write it when its status is known."""
        if scope["type"] != "http" or scope["method"] not in _ACTING:
            await self._app(scope, receive, send)
            return
        caller = scope.get("state", {}).get("caller", LOCAL)
        client = scope.get("client")
        with audit.sheet_of(caller.name, client[0] if client else "unix", "REST") as sheet:

            async def write_and_send(message: Message) -> None:
                if message["type"] == "http.response.start":
                    await run_in_threadpool(_write, sheet, scope, message["status"])
                await send(message)

            await self._app(scope, receive, write_and_send)


def _write(sheet: audit.Sheet, scope: Scope, status: int) -> None:
    route: Any = scope.get("route")
    if route is None or status == 405:
        return
    if not sheet.entries:
        tag = (getattr(route, "tags", None) or ["api"])[0]
        target = " ".join(str(value) for value in scope.get("path_params", {}).values())
        sheet.record(f"{tag}.{route.name}", target)
    if status < 400:
        sheet.write(audit.DONE)
    else:
        sheet.write(audit.REFUSED if status < 500 else audit.FAILED, status=status)


class AuditRow(BaseModel):
    """Who did what, when, from where, and what came of it."""

    id: int
    at: datetime
    who: str
    """Name of the token, or of the user at the command line."""
    via: str
    """`REST`, `CLI` or `Python`."""
    from_address: str
    action: str
    target: str
    outcome: str
    """`done`, `refused` (not allowed, or not possible) or `failed`."""
    details: dict[str, Any]


class AuditPage(BaseModel):
    """Entries, newest first."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "entries": [
                    {
                        "id": 17, "at": "2026-11-22T09:30:00Z", "who": "ci", "via": "REST", "from_address": "10.0.0.7",
                        "action": "tasks.cancel", "target": "019a3c5e-8f10-7c3a-9a55-2f1d8b6e4c21", "outcome": "done",
                        "details": {},
                    }
                ],
                "next_before_id": 17,
            }
        }
    )  # fmt: skip

    entries: list[AuditRow]
    next_before_id: int | None = Field(description="Give it as before_id for the page after this one; null: no more.")


_Text = Annotated[str | None, Query(max_length=200)]


def create_audit_router() -> APIRouter:
    """The route below /api/audit. There is none that writes, changes or clears."""
    router = APIRouter(
        prefix="/api/audit",
        tags=["audit"],
        default_response_class=AsciiJson,
        responses=described(_422="Unprocessable content", _503="Unavailable"),
        dependencies=[needs(Role.READ)],
    )

    @router.get("")
    def list_entries(
        who: _Text = None,
        action: _Text = None,
        target: _Text = None,
        since: Moment | None = None,
        until: Moment | None = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
        before_id: Annotated[int | None, Query(ge=1, le=MAX_OFFSET)] = None,
    ) -> AuditPage:
        """Who did what, newest first."""
        wanted = AuditFilter(who=who, action=action, target=target, since=since, until=until)
        rows = audit.entries(wanted, limit=limit, before_id=before_id)
        following = rows[-1].id if len(rows) == limit else None
        return AuditPage(entries=[AuditRow(**row.model_dump()) for row in rows], next_before_id=following)

    return router
