"""The FastAPI application: routes, error documents, body bound."""

from fastapi import FastAPI

from workers import callboard
from workers.web import problems
from workers.web.alerts import create_alert_router
from workers.web.audit import Audited, create_audit_router
from workers.web.auth import Guard
from workers.web.chores import create_chore_router
from workers.web.limits import BodyLimit
from workers.web.metrics import create_metrics_router
from workers.web.routes import create_task_router

BODY_OVERHEAD_BYTES = 16 * 1024
"""What a request's body may have beyond the parameters themselves."""


def create_app() -> FastAPI:
    """A new application over this process's Callboard."""
    app = FastAPI(
        title="Callboard",
        version="1",
        summary="Background tasks: send them, see them, cancel them.",
        strict_content_type=True,
    )
    problems.install(app)
    app.include_router(create_task_router())
    app.include_router(create_chore_router())
    app.include_router(create_alert_router())
    app.include_router(create_audit_router())
    app.include_router(create_metrics_router())
    app.add_middleware(BodyLimit, max_bytes=callboard.settings.params_max_bytes + BODY_OVERHEAD_BYTES)
    app.add_middleware(Audited)
    app.add_middleware(Guard)

    @app.get("/health/live", tags=["health"])
    async def live() -> dict[str, str]:
        """The process answers."""
        return {"status": "live"}

    return app
