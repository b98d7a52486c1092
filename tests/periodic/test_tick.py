"""What periodiq asks and sends: the tick, which is no task and raises nothing."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pendulum
import periodiq
import pytest
import redis
from dramatiq.brokers.redis import RedisBroker

from models import database, schema
from models.schedule import Schedule
from periodic import schedules
from periodic.agenda import Agenda
from periodic.declaration import Declaration, crontab
from periodic.process import declare_tick
from workers import callboard, tasks

CHECK = Declaration("health", "health.check_system", crontab("0 0 1 1 *"))


@pytest.fixture
def scheduler(bus: redis.Redis, redis_url: str) -> Iterator[periodiq.Scheduler]:
    """periodiq's own, with our tick as its only actor."""
    broker, upkeep = RedisBroker(url=redis_url), callboard.upkeep("scheduler")
    broker.add_middleware(periodiq.PeriodiqMiddleware())
    yield periodiq.Scheduler([declare_tick(broker, Agenda(callboard, [CHECK]), upkeep)])
    upkeep.stop()
    broker.close()


def wake(scheduler: periodiq.Scheduler) -> timedelta:
    """As periodiq does it; returns how long it would sleep."""
    now = pendulum.now()
    scheduler.send_actors([one for one in scheduler.actors if one.options["periodic"].validate(now)], now)
    (tick,) = scheduler.actors
    return tick.options["periodic"].next_valid_date(now) - pendulum.now()  # type: ignore[no-any-return]  # pendulum's


def test_a_wake_up_sends_what_is_due_and_is_itself_no_task(
    scheduler: periodiq.Scheduler, bus: redis.Redis, sqlite_database: str
) -> None:
    wake(scheduler)
    with database.writing() as session:
        row = session.get_one(Schedule, "health")
        row.next_run_at = pendulum.now("UTC").subtract(seconds=1)

    naps = wake(scheduler)

    assert naps <= timedelta(seconds=0.9)
    assert [row["task_name"] for row in tasks.list_tasks()] == ["health.check_system"]
    assert bus.keys("*periodic*") == []


def test_it_raises_nothing_whatever_it_meets_and_goes_on_when_that_is_mended(
    scheduler: periodiq.Scheduler, tmp_path: Path, sqlite_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    database.bind(f"sqlite:///{tmp_path / 'without-tables.db'}")

    for _ in range(3):
        assert wake(scheduler) < timedelta(seconds=1)
    (said,) = caplog.messages
    assert said.startswith("the scheduler cannot work now, and tries again: the database ")
    schema.upgrade()
    wake(scheduler)

    assert [row["id"] for row in schedules.list()] == ["health"]
