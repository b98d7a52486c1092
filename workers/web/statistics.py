"""The routes of statistics. Each calls `workers.statistics`."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from workers import statistics
from workers.web.auth import Role, needs
from workers.web.problems import AsciiJson, described
from workers.web.shapes import Moment

_READ = [needs(Role.READ)]


class Stats(BaseModel):
    """What ended in a span of time, and what is under way now."""

    since: datetime
    until: datetime
    completed: int
    failed: int
    cancelled: int
    success_rate: float | None
    """Completed among completed and failed, 0–1; null if there are neither."""
    pending: int
    running: int


class Bucket(BaseModel):
    """What ended in one bucket."""

    at: datetime
    completed: int
    failed: int
    cancelled: int


class Timeseries(BaseModel):
    """Buckets in order, none left out."""

    since: datetime
    until: datetime
    bucket_s: int
    buckets: list[Bucket]


def create_statistics_router() -> APIRouter:
    """The routes below /api/stats."""
    router = APIRouter(
        prefix="/api/stats",
        tags=["statistics"],
        default_response_class=AsciiJson,
        responses=described(_422="Unprocessable content", _503="Unavailable"),
    )

    @router.get("", dependencies=_READ)
    def stats(since: Moment | None = None, until: Moment | None = None) -> Stats:
        """What ended in a span of time (by default the last 24 hours; at most 31 days), and what is under way."""
        return Stats(**statistics.stats(since, until))

    @router.get("/timeseries", dependencies=_READ)
    def timeseries(
        since: Moment | None = None,
        until: Moment | None = None,
        bucket_s: Annotated[int | None, Query(ge=1, le=86_400, description="Seconds of a bucket.")] = None,
    ) -> Timeseries:
        """The same by buckets, of which there are at most 500."""
        return Timeseries(**statistics.timeseries(since, until, bucket_s))

    return router
