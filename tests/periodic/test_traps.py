"""What periodiq does by itself (spec/traps.md 18 and 19), and that we do not. Trap 17, its cron, is in tests/models."""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dramatiq
import pendulum
import periodiq
import pytest
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import Retries

from models import database
from models.schedule import Schedule
from models.task import TaskStatus
from periodic import schedules
from periodic.agenda import Agenda
from tests.probes import fail_times, lines
from tests.servers import OwnRedis, wait_until
from workers import callboard, tasks

LONG_AGO = timedelta(seconds=40)


@pytest.fixture
def stock(own_redis: OwnRedis) -> Iterator[RedisBroker]:
    """Stock Dramatiq with periodiq's middleware, as its README has it."""
    broker = RedisBroker(url=own_redis.url, namespace="stock", middleware=[Retries(min_backoff=1, max_backoff=1)])
    broker.add_middleware(periodiq.PeriodiqMiddleware(skip_delay=30))
    yield broker
    broker.close()


def test_a_retry_of_a_scheduled_task_that_is_older_than_periodiqs_delay_runs(
    stock: RedisBroker, system: object, worker: dramatiq.Worker, tmp_path: Path
) -> None:
    """Trap 18: periodiq drops a task, and its retries, once it is 30 s late, and says so only at level INFO."""
    ran: list[int] = []
    ended: list[str] = []

    class Watch(dramatiq.Middleware):
        def after_skip_message(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy) -> None:
            ended.append("skipped")

    stock.add_middleware(Watch())

    @dramatiq.actor(broker=stock, actor_name="late", periodic=periodiq.cron("* * * * *"), max_retries=5)
    def late() -> None:
        ran.append(1)

    theirs = dramatiq.Worker(stock, worker_timeout=50, worker_threads=1)
    theirs.start()
    try:
        late.send_with_options(scheduled_at=str(pendulum.now() - LONG_AGO), retries=1)
        wait_until(lambda: ended, within_s=10, what="periodiq's middleware")
    finally:
        theirs.stop()
    assert (ran, ended) == ([], ["skipped"])

    paper = tmp_path / "paper"
    schedules.add(fail_times.actor_name, "interval", "late", hours=1, params={"path": str(paper), "times": 2})
    long_ago = datetime.now(UTC) - LONG_AGO
    _set_due("late", long_ago)
    assert Agenda(callboard, []).wake() == 1

    (run,) = schedules.runs("late")
    wait_until(lambda: tasks.get_task_status(run["task_id"])["status"] == TaskStatus.COMPLETED, within_s=20, what="it")  # type: ignore[index]  # the row is there
    assert run["lateness_ms"] >= LONG_AGO.total_seconds() * 1000
    assert len(lines(paper)) == 3
    assert not any(isinstance(one, periodiq.PeriodiqMiddleware) for one in callboard.broker.middleware)


def test_periodiq_ends_when_redis_is_away_and_fires_a_minute_again_after_a_restart(
    stock: RedisBroker, own_redis: OwnRedis, bus: redis.Redis, sqlite_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Trap 19. That our process lives on, and fires once, is in test_process."""
    caplog.set_level(logging.CRITICAL, logger="periodiq")

    @dramatiq.actor(broker=stock, actor_name="minutely", periodic=periodiq.cron("* * * * *"))
    def minutely() -> None:
        """Never run here."""

    now = pendulum.now().replace(second=0, microsecond=0)
    for _restart in range(2):
        scheduler = periodiq.Scheduler([minutely])
        scheduler.send_actors([one for one in scheduler.actors if one.options["periodic"].validate(now)], now)
    assert stock.client.llen("stock:default") == 2

    schedules.add("health_check", "crontab", "minutely", expression="* * * * *")
    _set_due("minutely", datetime.fromtimestamp(now.timestamp(), UTC))
    moment = datetime.fromtimestamp(now.timestamp(), UTC) + timedelta(seconds=1)
    assert [Agenda(callboard, []).wake(moment) for _restart in range(2)] == [1, 0]

    own_redis.kill()
    with pytest.raises(redis.ConnectionError):
        periodiq.Scheduler([minutely]).send_actors([minutely], now)
    assert Agenda(callboard, []).wake(moment + timedelta(minutes=1)) == 0
    assert [run["outcome"] for run in schedules.runs("minutely")] == ["skipped_overlap", "sent"]


def _set_due(schedule_id: str, at: datetime) -> None:
    with database.writing() as session:
        session.get_one(Schedule, schedule_id).next_run_at = at
