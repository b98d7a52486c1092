"""The routes of alerts: what is or was the matter, and who takes care of it."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import Field

from workers import alerts, audit
from workers.web.auth import Caller, Role, needs
from workers.web.fields import Shape, example, up_to
from workers.web.problems import Refused, described
from workers.web.route import make_router

_MAX_ID = 2**31 - 1


_ALERT: dict[str, Any] = {
    "alert_id": 7, "rule": "task_failed", "key": "task_failed:email.send_confirmation",
    "message": "email.send_confirmation: 12 failed for good within 600 s", "count": 12,
    "opened_at": "2026-11-22T12:00:00Z", "seen_at": "2026-11-22T12:04:10Z", "closed_at": None,
    "acknowledged_at": None, "acknowledged_by": None, "notices": ["01a20585-de3c-7055-a83c-5d9e6c98de3f"],
    "told": ["json-1a2b3c opened"],
}  # fmt: skip


class AlertRow(Shape):
    """A condition that began, and perhaps ended."""

    model_config = example(**_ALERT)

    alert_id: int
    rule: str
    key: str = Field(description="What it is about; at most one alert of a key is open.")
    message: str = Field(description="As of the last time that the condition was seen.")
    count: int = Field(description="How often it happened, or how many it concerns.")
    opened_at: datetime
    seen_at: datetime | None
    closed_at: datetime | None = Field(description="Null while it is open.")
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    notices: list[str] = Field(description="Ids of the tasks that tell of its opening and its end.")
    told: list[str] = Field(description="Channels that took a notice, each with the event.")


class AlertPage(Shape):
    """Alerts, newest first."""

    model_config = example(alerts=[_ALERT], next_before_id=None)

    alerts: list[AlertRow]
    next_before_id: int | None = Field(description="Pass as before_id for the next page; null on the last one.")


class Acknowledged(Shape):
    """Somebody takes care of it."""

    model_config = example(alert_id=7, message="Alert acknowledged")

    alert_id: int
    message: str


def create_alert_router() -> APIRouter:
    """The routes below /api/alerts, to be mounted here or in an application of one's own."""
    router = make_router("alerts")

    @router.get("", name="list", dependencies=[needs(Role.READ)])
    def list_alerts(
        only_open: Annotated[bool, Query(description="Leave out those that are over.")] = True,
        limit: Annotated[int, up_to(alerts.MAX_PAGE)] = 100,
        before_id: Annotated[int | None, Query(ge=1, le=_MAX_ID, description="Go on below this alert.")] = None,
    ) -> AlertPage:
        """Alerts, newest first."""
        rows = alerts.list_alerts(only_open=only_open, limit=limit, before_id=before_id)
        return AlertPage(
            alerts=[AlertRow(**row) for row in rows],
            next_before_id=rows[-1]["alert_id"] if len(rows) == limit else None,
        )

    @router.post("/{alert_id}/acknowledge", responses=described(404))
    def acknowledge(
        alert_id: Annotated[int, Path(ge=1, le=_MAX_ID, description="As GET /api/alerts lists it.")],
        caller: Annotated[Caller, needs(Role.OPERATE)],
    ) -> Acknowledged:
        """Say that somebody takes care of it; whoever said so first stays."""
        if not alerts.acknowledge(alert_id, by=caller.name):
            raise Refused(404, f"there is no alert {alert_id}")
        audit.record("alerts.acknowledge", alert_id)
        return Acknowledged(alert_id=alert_id, message="Alert acknowledged")

    return router
