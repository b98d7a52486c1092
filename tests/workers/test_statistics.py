"""What ended how, in all and by buckets: the same from Python and over HTTP, and out of an index."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import event

from models import database, task_statistics
from models.task import Task
from tests.workers.web.conftest import api, api_url
from tests.workers.web.test_problems import problem_of
from workers import statistics
from workers.errors import InvalidTask

__all__ = ["api", "api_url"]

pytestmark = pytest.mark.usefixtures("ledger_database")
NOON = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def row(name: str, status: str, at: datetime | None = None) -> Task:
    return Task(
        task_id=name, task_name="n", queue="jobs", status=status, created_at=NOON - timedelta(days=9), completed_at=at
    )


@pytest.fixture(autouse=True)
def rows(ledger_database: str) -> None:
    """Five that ended around noon, two under way."""
    second, micro = timedelta(seconds=1), timedelta(microseconds=1)
    ended = [
        ("a", "completed", NOON), ("b", "completed", NOON + HOUR - micro), ("c", "failed", NOON + 59 * second),
        ("d", "cancelled", NOON + 60 * second), ("e", "completed", NOON + HOUR), ("f", "failed", NOON - micro),
    ]  # fmt: skip
    with database.writing() as session:
        session.add_all([row(*one) for one in ended])
        session.add_all([row("g", "pending"), row("h", "running")])


def test_what_ended_in_a_span_is_counted_by_status_and_what_is_under_way_now() -> None:
    assert statistics.stats(NOON, NOON + HOUR) == {
        "since": NOON, "until": NOON + HOUR, "completed": 2, "failed": 1, "cancelled": 1, "success_rate": 2 / 3,
        "pending": 1, "running": 1,
    }  # fmt: skip


def test_where_nothing_ended_there_is_no_success_rate() -> None:
    found = statistics.stats(NOON + 2 * HOUR, NOON + 3 * HOUR)

    assert (found["completed"], found["success_rate"]) == (0, None)


def test_the_last_day_is_what_is_shown_where_nothing_is_said(api: httpx2.Client) -> None:
    with database.writing() as session:
        session.add(row("now", "completed", datetime.now(UTC)))

    found = api.get("/api/stats").json()

    assert (found["completed"], found["failed"], found["success_rate"]) == (1, 0, 1.0)


def test_buckets_are_in_order_and_none_is_left_out(api: httpx2.Client) -> None:
    asked = {"since": NOON.isoformat(), "until": (NOON + HOUR).isoformat(), "bucket_s": 60}

    found = api.get("/api/stats/timeseries", params=asked).json()

    counts: list[tuple[int, int, int]] = [
        (one["completed"], one["failed"], one["cancelled"]) for one in found["buckets"]
    ]
    assert len(counts) == 60
    assert counts[0] == (1, 1, 0)
    assert counts[1] == (0, 0, 1)
    assert counts[59] == (1, 0, 0)
    assert sum(map(sum, counts)) == 4
    times = [datetime.fromisoformat(one["at"]) for one in found["buckets"]]
    assert times == [NOON + timedelta(minutes=minute) for minute in range(60)]


def test_a_span_is_moved_out_to_whole_buckets_whose_length_fits_it() -> None:
    found = statistics.timeseries(NOON + timedelta(seconds=1), NOON + timedelta(seconds=3_599))

    assert (found["bucket_s"], found["since"], found["until"]) == (30, NOON, NOON + HOUR)
    assert sum(one["completed"] for one in found["buckets"]) == 2


@pytest.mark.parametrize(
    ("asked", "field"),
    [({"bucket_s": 7}, "bucket_s"), ({"bucket_s": 1}, "bucket_s"), ({"bucket_s": 0}, "bucket_s"),
     ({"since": "2026-01-01T00:00:00Z"}, "since"), ({"until": "1999-01-01T00:00:00Z", "since": "2000-01-01T00:00:00Z"},
     "since"), ({"since": "now"}, "since"), ({"since": "2026-11-20T12:00:00"}, "since"),
     ({"until": "9999-12-31T23:59:59-01:00"}, "until")],
)  # fmt: skip
def test_a_span_that_cannot_be_shown_is_refused(api: httpx2.Client, asked: dict[str, Any], field: str) -> None:
    assert problem_of(api.get("/api/stats/timeseries", params=asked), 422)["field"] == field


def test_naive_times_are_refused() -> None:
    with pytest.raises(InvalidTask, match="aware"):
        statistics.stats(NOON.replace(tzinfo=None), NOON)


def test_both_are_read_from_the_index_alone(ledger_database: str) -> None:
    asked: list[tuple[str, Any]] = []
    event.listen(database.engine(), "before_cursor_execute", lambda *of: asked.append((of[2], of[3])))
    with database.reading() as session:
        task_statistics.ended(session, NOON, NOON + HOUR)
        task_statistics.ended_by_bucket(session, NOON, NOON + HOUR, 60)
    explain = "EXPLAIN QUERY PLAN " if ledger_database.startswith("sqlite") else "EXPLAIN "
    statements = asked[-2:]
    with database.reading() as session:
        connection = session.connection()
        if not ledger_database.startswith("sqlite"):
            connection.exec_driver_sql("SET enable_seqscan = off")
        plans = [
            " ".join(str(line) for line in connection.exec_driver_sql(explain + sql, values).all())
            for sql, values in statements
        ]

    assert len(plans) == 2
    for plan in plans:
        assert "ix_background_tasks_completed_at" in plan
