"""The routes of statistics. Each calls `workers.statistics`."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query

from workers import statistics
from workers.web.auth import Role, needs
from workers.web.fields import SINCE, UNTIL, Moment, Shape, example
from workers.web.route import make_router

_READ = [needs(Role.READ)]


_BUCKET: dict[str, Any] = {"at": "2026-11-22T12:00:00Z", "completed": 40, "failed": 2, "cancelled": 0}


class Stats(Shape):
    """What ended in a span of time, and what is under way now."""

    model_config = example(since="2026-11-21T12:00:00Z", until="2026-11-22T12:00:00Z", completed=95, failed=5,
                           cancelled=1, success_rate=0.95, pending=3, running=2)  # fmt: skip

    since: datetime
    until: datetime
    completed: int
    failed: int
    cancelled: int
    success_rate: float | None
    """Completed among completed and failed, 0–1; null if there are neither."""
    pending: int
    running: int


class Bucket(Shape):
    """What ended in one bucket."""

    model_config = example(**_BUCKET)

    at: datetime
    """When the bucket begins."""
    completed: int
    failed: int
    cancelled: int


class Timeseries(Shape):
    """Buckets in order, none left out."""

    model_config = example(since="2026-11-22T12:00:00Z", until="2026-11-22T13:00:00Z", bucket_s=3600, buckets=[_BUCKET])

    since: datetime
    until: datetime
    bucket_s: int
    buckets: list[Bucket]


def create_statistics_router() -> APIRouter:
    """The routes below /api/stats."""
    router = make_router("statistics", prefix="/api/stats")

    @router.get("", name="show", dependencies=_READ)
    def stats(since: Annotated[Moment | None, SINCE] = None, until: Annotated[Moment | None, UNTIL] = None) -> Stats:
        """What ended in a span of time (by default the last 24 hours; at most 31 days), and what is under way."""
        return Stats(**statistics.stats(since, until))

    @router.get("/timeseries", dependencies=_READ)
    def timeseries(
        since: Annotated[Moment | None, SINCE] = None,
        until: Annotated[Moment | None, UNTIL] = None,
        bucket_s: Annotated[int | None, Query(ge=1, le=86_400, description="Seconds of a bucket.")] = None,
    ) -> Timeseries:
        """The same by buckets, of which there are at most 500."""
        return Timeseries(**statistics.timeseries(since, until, bucket_s))

    return router
