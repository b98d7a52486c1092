"""The route of the audit log; workers.web.route writes an entry for every request that acts."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field

from models.audit import MAX_PAGE, AuditFilter
from models.task_query import MAX_OFFSET
from workers import audit
from workers.web.auth import Role, needs
from workers.web.fields import SINCE, UNTIL, Moment, Shape, example, up_to
from workers.web.route import make_router

_ENTRY: dict[str, Any] = {
    "id": 17, "at": "2026-11-22T09:30:00Z", "who": "ci", "via": "REST", "from_address": "10.0.0.7",
    "action": "tasks.cancel", "target": "019a3c5e-8f10-7c3a-9a55-2f1d8b6e4c21", "outcome": "done", "details": {},
}  # fmt: skip


class AuditRow(Shape):
    """Who did what, when, from where, and what came of it."""

    model_config = example(**_ENTRY)

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


class AuditPage(Shape):
    """Entries, newest first."""

    model_config = example(entries=[_ENTRY], next_before_id=17)

    entries: list[AuditRow]
    next_before_id: int | None = Field(description="Give it as before_id for the page after this one; null: no more.")


_Text = Annotated[str | None, Query(max_length=200, description="Equal to this.")]


def create_audit_router() -> APIRouter:
    """The route below /api/audit. There is none that writes, changes or clears."""
    router = make_router("audit", dependencies=[needs(Role.READ)])

    @router.get("", name="list")
    def list_entries(
        who: _Text = None,
        action: _Text = None,
        target: _Text = None,
        since: Annotated[Moment | None, SINCE] = None,
        until: Annotated[Moment | None, UNTIL] = None,
        limit: Annotated[int, up_to(MAX_PAGE)] = 100,
        before_id: Annotated[int | None, Query(ge=1, le=MAX_OFFSET, description="Go on below this entry.")] = None,
    ) -> AuditPage:
        """Who did what, newest first."""
        wanted = AuditFilter(who=who, action=action, target=target, since=since, until=until)
        rows = audit.entries(wanted, limit=limit, before_id=before_id)
        following = rows[-1].id if len(rows) == limit else None
        return AuditPage(entries=[AuditRow(**row.model_dump()) for row in rows], next_before_id=following)

    return router
