"""Task history by the hour: exact, written over, and made anew where tasks ended late."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from models import database, direct, task_rollup
from models.task import Task, TaskAttempt, TaskStatus
from models.task_hour import TaskHour
from tests.factories.storing import NOW, store
from tests.factories.upkeep import past_task
from tests.models import crowd
from tests.workers.actors.running import all_rows

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
NOON = (NOW - 2 * DAY).replace(hour=12, minute=0)
KEPT = 30 * DAY

pytestmark = pytest.mark.usefixtures("ledger_database")


def ended(at: datetime, *, waited_s: float = 1, ran_s: float = 2, **changes: Any) -> str:
    """Store a task that ended at that time."""
    started_at = at - timedelta(seconds=ran_s)
    times = {"created_at": started_at - timedelta(seconds=waited_s), "started_at": started_at, "completed_at": at}
    return past_task(NOW - at, **{**times, **changes})


def roll_up(now: datetime = NOON + 3 * HOUR, kept_for: timedelta = KEPT) -> list[datetime]:
    """What a run does; the hours that it did."""
    hours = []
    for number, (hour, count) in enumerate(task_rollup.wanting(now, kept_for=kept_for)):
        task_rollup.roll_up(hour, count, NOW + timedelta(microseconds=number))
        hours.append(hour)
    return hours


def rows() -> list[tuple[datetime, str, str, int]]:
    return sorted((row.hour_at, row.task_name, row.status, row.count) for row in all_rows(TaskHour))


def test_an_hour_has_a_row_for_each_actor_and_outcome() -> None:
    ended(NOON)
    ended(NOON + HOUR - timedelta(microseconds=1))
    ended(NOON + timedelta(minutes=1), status=TaskStatus.FAILED)
    ended(NOON + timedelta(minutes=1), task_name="other.task")
    ended(NOON + HOUR)

    assert roll_up() == [NOON, NOON + HOUR]

    assert rows() == [
        (NOON, "other.task", "completed", 1),
        (NOON, "past.task", "completed", 2),
        (NOON, "past.task", "failed", 1),
        (NOON + HOUR, "past.task", "completed", 1),
    ]


def test_percentiles_are_by_nearest_rank_in_whatever_slices_they_were_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_rollup, "SLICE_ROWS", 7)
    for number in range(1, 101):
        ended(NOON + timedelta(seconds=30 * number), waited_s=number, ran_s=number / 10)

    roll_up()

    (row,) = all_rows(TaskHour)
    assert (row.count, row.wait_p50_s, row.wait_p95_s, row.wait_p99_s) == (100, 50, 95, 99)
    assert (row.run_p50_s, row.run_p95_s, row.run_p99_s) == pytest.approx((5, 9.5, 9.9))


def test_the_wait_ends_at_the_first_start_and_the_run_is_the_last_attempts() -> None:
    task_id = ended(NOON, waited_s=100, ran_s=2, attempt=3)
    started_at = NOON - timedelta(seconds=90)
    attempt = {"task_id": task_id, "worker_id": "w"}
    store(TaskAttempt, {**attempt, "number": 1, "started_at": started_at}, {})
    store(TaskAttempt, {**attempt, "number": 2, "started_at": NOON}, {})

    roll_up()

    (row,) = all_rows(TaskHour)
    assert (row.wait_p99_s, row.run_p99_s) == (12, 2)


def test_what_never_started_waited_until_its_end_and_a_clock_that_was_set_back_counts_as_nothing() -> None:
    ended(NOON, status=TaskStatus.CANCELLED, created_at=NOON - timedelta(seconds=9), started_at=None)
    ended(NOON, ran_s=-5, waited_s=-5)

    roll_up()

    found = {row.status: (row.wait_p50_s, row.run_p50_s) for row in all_rows(TaskHour)}
    assert found == {"cancelled": (9, 0), "completed": (0, 0)}


def test_what_ended_late_is_counted_by_the_next_run_and_nothing_else_is_made_anew() -> None:
    ended(NOON)
    ended(NOON + HOUR)
    assert roll_up() == [NOON, NOON + HOUR]
    assert roll_up() == []

    ended(NOON + timedelta(minutes=5))
    assert roll_up() == [NOON]
    assert rows()[0] == (NOON, "past.task", "completed", 2)


def test_a_task_that_was_retried_by_hand_counts_where_it_ended_last() -> None:
    task_id = ended(NOON, status=TaskStatus.FAILED)
    roll_up()

    with database.writing() as session:
        task = session.get_one(Task, task_id)
        task.status, task.completed_at = TaskStatus.COMPLETED, NOON + HOUR

    assert roll_up() == [NOON, NOON + HOUR]
    assert rows() == [(NOON + HOUR, "past.task", "completed", 1)]


def test_a_run_that_died_is_gone_on_with() -> None:
    for hours in range(3):
        ended(NOON + hours * HOUR)
    hour, count = next(task_rollup.wanting(NOON + 4 * HOUR, kept_for=KEPT))
    task_rollup.roll_up(hour, count, NOW)

    assert roll_up(NOON + 4 * HOUR) == [NOON + HOUR, NOON + 2 * HOUR]


def test_the_present_hour_is_left_and_so_is_what_retention_is_at() -> None:
    ended(NOON)
    ended(NOON + 3 * HOUR)
    ended(NOON + 3 * HOUR + timedelta(minutes=59))

    assert roll_up(NOON + 3 * HOUR + timedelta(minutes=59)) == [NOON]
    with direct.transaction() as to:
        to.run("DELETE FROM background_tasks")
    assert roll_up(NOON + 24 * HOUR, kept_for=DAY) == []
    assert rows() == [(NOON, "past.task", "completed", 1)]


def test_a_crowd_over_many_days_is_counted_to_the_last() -> None:
    crowd.fill(3_000, first=NOW - 6 * DAY, last=NOW - DAY)

    hours = roll_up(NOW)

    assert len(hours) == pytest.approx(120, abs=1)
    assert sum(row.count for row in all_rows(TaskHour)) == 3_000 - 2 * 3  # of a thousand two have not ended
    assert roll_up(NOW) == []
