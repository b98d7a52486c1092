"""The route of upkeep: what the processes of the system do for all, and what it found."""

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel

from workers import chores
from workers.web.auth import Role, needs
from workers.web.problems import AsciiJson, described


class ChoreRow(BaseModel):
    """A chore: its last run and what it found."""

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
    router = APIRouter(
        prefix="/api/chores",
        tags=["chores"],
        default_response_class=AsciiJson,
        responses=described(_503="Unavailable"),
    )

    @router.get("", dependencies=[needs(Role.READ)])
    def list_chores() -> list[ChoreRow]:
        """Every chore that was ever begun, by name."""
        return [ChoreRow(**row) for row in chores.list_chores()]

    return router
