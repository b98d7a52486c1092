"""The routes that load balancers, orchestrators and people ask: does the process live, is the system ready.

Anybody may ask them. Who shows no token is told which part is not ready; what it said, and where it is, only who may
read the rest too.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse

from workers import readiness
from workers.web.fields import Shape, example
from workers.web.problems import described, problem
from workers.web.route import make_router


class Live(Shape):
    """The process answers."""

    model_config = example(status="live")

    status: str = "live"


_CHECK: dict[str, Any] = {"name": "redis", "ok": True, "detail": "Redis at localhost:6379 takes writes"}


class CheckRow(Shape):
    """One thing that has to be so."""

    model_config = example(**_CHECK)

    name: str
    ok: bool | None
    """Null: it cannot be known now."""
    detail: str


class Ready(Shape):
    """What has to be so for a task to be taken and run now."""

    model_config = example(status="ready", checks=[_CHECK])

    status: str = "ready"
    checks: list[CheckRow]


def _is_known(request: Request) -> bool:
    return getattr(request.state, "caller", None) is not None


def create_health_router() -> APIRouter:
    """The routes below /health."""
    router = make_router("health", prefix="/health", responses={})

    @router.get("/live")
    async def live() -> Live:
        """The process answers."""
        return Live()

    @router.get("/ready", response_model=Ready, responses=described(503))
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
