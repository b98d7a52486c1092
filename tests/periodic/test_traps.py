"""What periodiq does by itself (spec/traps.md 18 and 19), and that we do not. Trap 17, its cron, is in tests/models."""

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

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
    """Stock Dramatiq, to which a test adds periodiq's middleware as its README has it."""
    broker = RedisBroker(url=own_redis.url, namespace="stock", middleware=[Retries(min_backoff=100, max_backoff=100)])
    yield broker
    broker.close()


@pytest.fixture
def stock_worker(stock: RedisBroker) -> Iterator[Callable[[], None]]:
    """Starts a worker of stock Dramatiq's."""
    made = dramatiq.Worker(stock, worker_timeout=50, worker_threads=1)
    yield made.start
    made.stop()


class Ends(dramatiq.Middleware):
    """What became of messages."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def after_skip_message(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy) -> None:
        self.seen.append("skipped")


def test_a_task_that_starts_late_runs(
    stock: RedisBroker, stock_worker: Callable[[], None], system: object, worker: dramatiq.Worker, tmp_path: Path
) -> None:
    """Trap 18: periodiq drops a task once it is 30 s late, and says so only at level INFO."""
    ran: list[int] = []
    ends = Ends()
    stock.add_middleware(periodiq.PeriodiqMiddleware(skip_delay=30))
    stock.add_middleware(ends)

    @dramatiq.actor(broker=stock, actor_name="late", periodic=periodiq.cron("* * * * *"))
    def late() -> None:
        ran.append(1)

    late.send_with_options(scheduled_at=str(pendulum.now() - LONG_AGO))
    stock_worker()
    wait_until(lambda: ends.seen, within_s=10, what="periodiq's middleware")
    assert (ran, ends.seen) == ([], ["skipped"])

    run = _claimed_late(tmp_path / "paper", fails=0)
    assert run["lateness_ms"] >= LONG_AGO.total_seconds() * 1000
    assert lines(tmp_path / "paper") == ["ran"]
    assert not any(isinstance(one, periodiq.PeriodiqMiddleware) for one in callboard.broker.middleware)


def test_the_retries_of_a_scheduled_task_run_to_their_end(
    stock: RedisBroker, stock_worker: Callable[[], None], system: object, worker: dramatiq.Worker, tmp_path: Path
) -> None:
    """Trap 18: a retry that comes when periodiq's delay is over (here 1 s) is dropped: neither done nor failed."""
    ran: list[int] = []
    ends = Ends()
    stock.add_middleware(periodiq.PeriodiqMiddleware(skip_delay=1))
    stock.add_middleware(ends)

    @dramatiq.actor(broker=stock, actor_name="fails", periodic=periodiq.cron("* * * * *"), max_retries=40)
    def fails() -> None:
        ran.append(1)
        raise ConnectionError("nobody is at home")

    stock_worker()
    fails.send_with_options(scheduled_at=str(pendulum.now()))
    wait_until(lambda: ends.seen, within_s=20, what="periodiq's middleware")
    assert 1 <= len(ran) < 41
    assert stock.client.hlen("stock:default.msgs") == 0

    _claimed_late(tmp_path / "done", fails=3)
    _claimed_late(tmp_path / "failed", fails=9, ends_as=TaskStatus.FAILED)
    assert len(lines(tmp_path / "done")) == 1 + 3
    assert len(lines(tmp_path / "failed")) == 1 + RETRIES


def test_without_redis_the_scheduler_lives_and_goes_on(
    stock: RedisBroker,
    own_redis: OwnRedis,
    sqlite_database: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Trap 19: periodiq ends. (That the process of ours lives is in test_process, over a minute in tests/faults.)"""
    stock.add_middleware(periodiq.PeriodiqMiddleware())

    @dramatiq.actor(broker=stock, actor_name="minutely", periodic=periodiq.cron("* * * * *"))
    def minutely() -> None:
        """Never run here."""

    app = ModuleType("stock_app")
    app.broker = stock  # type: ignore[attr-defined]  # where periodiq looks for it
    monkeypatch.setitem(sys.modules, "stock_app", app)
    monkeypatch.setattr(sys, "argv", ["periodiq", "stock_app:broker"])
    schedules.add("health_check", "crontab", "minutely", expression="* * * * *")
    own_redis.kill()

    with caplog.at_level(logging.CRITICAL), pytest.raises(SystemExit) as ended:
        periodiq.entrypoint()
    assert ended.value.code == 1

    agenda, moment = Agenda(callboard, []), _set_due("minutely")
    assert agenda.wake(moment) == 1
    assert agenda.wake(moment + timedelta(minutes=1)) == 0
    assert [run["outcome"] for run in schedules.runs("minutely")] == ["skipped_overlap", "sent"]


def test_a_start_in_the_same_minute_and_a_second_process_fire_nothing_twice(
    stock: RedisBroker, system: object, bus: redis.Redis
) -> None:
    """Trap 19: periodiq fires a minute at each start, and in each process."""
    stock.add_middleware(periodiq.PeriodiqMiddleware())

    @dramatiq.actor(broker=stock, actor_name="minutely", periodic=periodiq.cron("* * * * *"))
    def minutely() -> None:
        """Never run here."""

    now = pendulum.now().replace(second=0, microsecond=0)
    for _start in range(3):
        scheduler = periodiq.Scheduler([minutely])
        scheduler.send_actors([one for one in scheduler.actors if one.options["periodic"].validate(now)], now)
    assert bus.llen("stock:default") == 3

    schedules.add("health_check", "crontab", "minutely", expression="* * * * *")
    moment = _set_due("minutely")
    together = [Agenda(callboard, []) for _process in range(3)]
    processes = [threading.Thread(target=agenda.wake, args=(moment,)) for agenda in together]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    for second in range(1, 59):
        assert Agenda(callboard, []).wake(moment + timedelta(seconds=second)) == 0
    assert [run["outcome"] for run in schedules.runs("minutely")] == ["sent"]
    assert tasks.get_task_count() == 1


RETRIES = 4


def _claimed_late(paper: Path, *, fails: int, ends_as: TaskStatus = TaskStatus.COMPLETED) -> dict[str, object]:
    """A run that is LONG_AGO late, when its task has ended."""
    schedules.add(fail_times.actor_name, "interval", paper.name, hours=1, max_retries=RETRIES,
                  params={"path": str(paper), "times": fails})  # fmt: skip
    _set_due(paper.name, datetime.now(UTC) - LONG_AGO)
    assert Agenda(callboard, []).wake() == 1
    (run,) = schedules.runs(paper.name)
    wait_until(lambda: tasks.get_task_status(run["task_id"])["status"] == ends_as, within_s=30, what=f"it as {ends_as}")  # type: ignore[index]  # the row is there
    return run


def _set_due(schedule_id: str, at: datetime | None = None) -> datetime:
    """Make it due then, by default at the last full minute; returns when."""
    at = at or datetime.now(UTC).replace(second=0, microsecond=0)
    with database.writing() as session:
        session.get_one(Schedule, schedule_id).next_run_at = at
    return at
