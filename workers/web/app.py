"""The FastAPI application: routes, error documents, body bound."""

from fastapi import FastAPI

from workers import callboard
from workers.web import openapi, problems
from workers.web.alerts import create_alert_router
from workers.web.audit import create_audit_router
from workers.web.auth import Guard
from workers.web.chores import create_chore_router
from workers.web.correlation import Correlated
from workers.web.cross_site import SameSiteOnly
from workers.web.decisions import create_decision_router
from workers.web.events import create_event_router
from workers.web.fleet import create_fleet_router
from workers.web.headers import BrowserGuard
from workers.web.health import create_health_router
from workers.web.limits import BodyLimit
from workers.web.metrics import create_metrics_router
from workers.web.queues import create_queue_router
from workers.web.rate import RateLimit
from workers.web.reference import create_reference_router
from workers.web.route import max_body_bytes
from workers.web.routes import create_task_router
from workers.web.schedules import create_schedule_router
from workers.web.statistics import create_statistics_router


def create_app() -> FastAPI:
    """A new application over this process's Callboard."""
    app = FastAPI(
        title="Callboard",
        version="1",
        summary="Background tasks: send them, see them, cancel them.",
        strict_content_type=True,
        docs_url=None,
        redoc_url=None,
    )
    problems.install(app)
    app.include_router(create_task_router())
    app.include_router(create_chore_router())
    app.include_router(create_schedule_router())
    app.include_router(create_fleet_router())
    app.include_router(create_queue_router())
    app.include_router(create_statistics_router())
    app.include_router(create_event_router())
    app.include_router(create_health_router())
    app.include_router(create_alert_router())
    app.include_router(create_audit_router())
    app.include_router(create_metrics_router())
    app.include_router(create_decision_router())
    settings = callboard.settings
    app.add_middleware(
        BodyLimit,
        max_bytes_of=max_body_bytes,
        timeout_s=settings.api_body_timeout_s,
    )
    # why in this order (the last is the outermost): nothing of a stranger's request is read, and what is refused for
    # its site, its size or its rate did nothing that the audit log would name.
    app.add_middleware(Guard, limit=RateLimit(settings.api_rate_per_s))
    app.add_middleware(SameSiteOnly)
    app.add_middleware(Correlated)
    app.add_middleware(BrowserGuard)

    openapi.install(app)
    app.include_router(create_reference_router(app.openapi))
    return app
