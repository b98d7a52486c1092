"""The route of upkeep: what the processes of the system do for all, and what it found."""

from datetime import datetime

from fastapi import APIRouter

from workers import chores
from workers.web.auth import Role, needs
from workers.web.fields import Shape, example
from workers.web.problems import described
from workers.web.route import make_router


class ChoreRow(Shape):
    """A chore: its last run and what it found."""

    model_config = example(
        name="relay", last_run_at="2026-11-22T12:00:00Z", took_ms=3, findings={"sent": 0}, error=None,
        holder="worker:host:4711", steady_since="2026-11-22T08:00:00Z",
    )  # fmt: skip

    name: str
    last_run_at: datetime | None
    """When the last run that succeeded began; null if none did yet."""
    took_ms: int | None
    findings: dict[str, int]
    """Of that run: counts by name."""
    error: str | None
    """What a later run failed with; null once one succeeds."""
    holder: str
    """The process that had it last."""
    steady_since: datetime
    """Since when it is done without a gap."""


def create_chore_router() -> APIRouter:
    """The route below /api/chores, to be mounted here or in an application of one's own."""
    router = make_router("chores", responses=described(503))

    @router.get("", name="list", dependencies=[needs(Role.READ)])
    def list_chores() -> list[ChoreRow]:
        """Every chore that was ever begun, by name."""
        return [ChoreRow(**row) for row in chores.list_chores()]

    return router
