"""The routes that load balancers, orchestrators and people ask: does the process live, is the system ready.

Anybody may ask them. Who shows no token is told which part is not ready; what it said, and where it is, only who may
read the rest too.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from workers import readiness
from workers.web.problems import AsciiJson, described, problem


class Live(BaseModel):
    """The process answers."""

    status: str = "live"


class CheckRow(BaseModel):
    """One thing that has to be so."""

    name: str
    ok: bool | None
    """Null: it cannot be known now."""
    detail: str


class Ready(BaseModel):
    """What has to be so for a task to be taken and run now."""

    model_config = ConfigDict(json_schema_extra={"example": {
        "status": "ready", "checks": [{"name": "redis", "ok": True, "detail": "Redis at localhost:6379 takes writes"}],
    }})  # fmt: skip

    status: str = "ready"
    checks: list[CheckRow]


def _is_known(request: Request) -> bool:
    return getattr(request.state, "caller", None) is not None


def create_health_router() -> APIRouter:
    """The routes below /health."""
    router = APIRouter(prefix="/health", tags=["health"], default_response_class=AsciiJson)

    @router.get("/live")
    async def live() -> Live:
        """The process answers."""
        return Live()

    @router.get("/ready", response_model=Ready, responses=described(_503="Unavailable"))
    def ready(is_known: Annotated[bool, Depends(_is_known)]) -> Ready | JSONResponse:
        """A task would be taken and run now: Redis, database, a worker, a scheduler, every module of actors. If not,
        503 and what is wrong; answered within seconds, also where a server hangs."""
        checks = readiness.check_all()
        rows = [CheckRow(name=one.name, ok=one.ok, detail=one.detail if is_known else "") for one in checks]
        wrong = [one for one in rows if one.ok is False]
        if not wrong:
            return Ready(checks=rows)
        said = "; ".join(one.detail or one.name for one in wrong)
        mend = "" if is_known else ": ask with a token for what is wrong, or run `callboard doctor`"
        return problem(503, f"not ready: {said}{mend}", slug="not-ready", checks=[row.model_dump() for row in rows])

    return router
