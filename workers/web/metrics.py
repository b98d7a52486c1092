"""The route that Prometheus scrapes."""

from fastapi import APIRouter, Request, Response

from workers.web.auth import Role, needs
from workers.web.route import make_router


def create_metrics_router() -> APIRouter:
    """/metrics, to be mounted here or in an application of one's own."""
    router = make_router("metrics", prefix="", responses={})

    @router.get(
        "/metrics",
        name="scrape",
        dependencies=[needs(Role.READ)],
        response_class=Response,
        responses={
            200: {
                "description": "Every metric, in Prometheus's text format, or in OpenMetrics if that is asked for.",
                "content": {"text/plain": {"example": 'callboard_up{part="database"} 1.0\n'}},
            }
        },
    )
    def metrics(request: Request) -> Response:
        """What this installation does, for Prometheus; the same from every process."""
        from workers.metrics import exposition  # why: the library is loaded by who is scraped only.

        text, content_type = exposition(request.headers.get("accept", ""))
        return Response(text, headers={"Content-Type": content_type})

    return router
