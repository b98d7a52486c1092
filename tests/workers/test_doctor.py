"""`callboard doctor` finds each planted misconfiguration, says the mend, and is content where all is well."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlmodel import update

from models import database, direct, task_upkeep
from models.schedule import Schedule
from models.task import Task, TaskStatus
from periodic import schedules
from tests.servers import OwnRedis
from tests.workers import well
from tests.workers.cli.conftest import Run, run
from workers import callboard, doctor, tasks
from workers.actors.diagnostics import run_self_test
from workers.doctor import State, examine
from workers.errors import InvalidTask
from workers.registry import ImportFailure

__all__ = ["run"]

pytestmark = pytest.mark.usefixtures("system")
SELF_TEST = "diagnostics.run_self_test"
Planted = Callable[[], AbstractContextManager[str | None]]


def said(about: str | None = None, *, state: State = State.BAD) -> list[str]:
    return [one.said for one in examine(about) if one.state is state]


@pytest.fixture(autouse=True)
def settled(bus: "redis.Redis") -> Iterator[None]:
    """Persistence is as it was."""
    yield
    bus.config_set("maxmemory", "0")
    bus.delete(callboard.broker.bus_of("jobs").keys.prefix + "paused")


def _schedule(**changes: Any) -> str:
    schedules.add(SELF_TEST, "interval", "often", minutes=5)
    if changes:
        with database.writing() as session:
            session.execute(update(Schedule).values(**changes))
    return "often"


@contextmanager
def _nobody_alive() -> Iterator[str | None]:
    well.scheduling()
    yield None


@contextmanager
def _no_scheduler() -> Iterator[str | None]:
    well.alive()
    yield None


@contextmanager
def _well() -> Iterator[None]:
    well.alive()
    well.scheduling()
    yield


@contextmanager
def _paused() -> Iterator[str | None]:
    with _well():
        callboard.broker.pause_queue("health")
        run_self_test.send()
        yield "health"
        callboard.broker.resume_queue("health")


@contextmanager
def _served_by_nobody() -> Iterator[str | None]:
    well.scheduling()
    well.alive(queues=["email"])
    yield run_self_test.send().message_id


@contextmanager
def _import_failed() -> Iterator[str | None]:
    with _well():
        callboard.registry.failures.append(ImportFailure("workers.actors.media", "SyntaxError: no"))
        yield None
        callboard.registry.failures.clear()


@contextmanager
def _schedule_paused() -> Iterator[str | None]:
    with _well():
        yield _schedule(enabled=False)


@contextmanager
def _schedule_broken() -> Iterator[str | None]:
    with _well():
        yield _schedule(error="there is no actor 'gone'")


@contextmanager
def _schedule_over() -> Iterator[str | None]:
    with _well():
        yield _schedule(next_run_at=None)


@contextmanager
def _schedule_overdue() -> Iterator[str | None]:
    with _well():
        yield _schedule(next_run_at=datetime.now(UTC) - timedelta(minutes=10))


@contextmanager
def _schedule_removed() -> Iterator[str | None]:
    with _well():
        yield _schedule(removed_at=datetime.now(UTC))


@contextmanager
def _task_failed() -> Iterator[str | None]:
    with _well():
        task_id = run_self_test.send().message_id
        with database.writing() as session:
            session.execute(
                update(Task).values(status=TaskStatus.FAILED, reason="retries exhausted", error_type="OSError",
                                    error_message="no route", completed_at=datetime.now(UTC))
            )  # fmt: skip
        yield task_id


@contextmanager
def _upkeep_fails() -> Iterator[str | None]:
    now = datetime.now(UTC)
    with _well():
        with direct.transaction() as to:
            task_upkeep.take_chore(to, "relay", holder="web:h:1", now=now, until=now, last_before=now, gap_before=now)
            task_upkeep.record_failed_chore(to, "relay", holder="web:h:1", error="disk full")
        yield None


@contextmanager
def _redis_full() -> Iterator[str | None]:
    with _well():
        callboard.broker.client.config_set("maxmemory", "1")
        yield None
        callboard.broker.client.config_set("maxmemory", "0")


@contextmanager
def _not_migrated() -> Iterator[str | None]:
    with _well():
        with direct.transaction() as to:
            to.run("DELETE FROM alembic_version")
        yield None


@pytest.mark.parametrize(
    ("planted", "expected"),
    [
        (_nobody_alive, "no worker is alive: start one with `callboard worker`"),
        (_no_scheduler, "no scheduler is alive"),
        (_paused, "queue health is paused, 1 waiting: callboard queues resume health"),
        (_served_by_nobody, "no live worker serves queue health, 1 waiting"),
        (_import_failed, "workers.actors.media cannot be imported (SyntaxError: no)"),
        (_schedule_paused, "schedule often is paused: callboard schedules resume often"),
        (_schedule_broken, "schedule often cannot run: there is no actor 'gone'"),
        (_schedule_over, "will never be due again"),
        (_schedule_overdue, "and was not sent: is a scheduler alive"),
        (_schedule_removed, "is not in the timetable since"),
        (_task_failed, "retries exhausted; OSError: no route: callboard tasks retry"),
        (_upkeep_fails, "the chore relay fails on web:h:1: disk full"),
        (_redis_full, "is full"),
        (_not_migrated, "run `callboard migrate`"),
    ],
)
def test_each_misconfiguration_is_found(planted: Planted, expected: str) -> None:
    with planted() as about:
        found = said(about)

    assert any(expected in one for one in found), found


def test_a_schedule_that_is_paused_is_named_without_being_asked_about_and_is_no_fault(run: Run) -> None:
    well.alive()
    well.scheduling()
    _schedule(enabled=False)

    ended = run("doctor")

    assert "note schedule schedule often is paused: callboard schedules resume often" in " ".join(ended.out.split())
    assert ended.code == 0


def test_where_all_is_well_nothing_is_wrong(run: Run) -> None:
    well.alive()
    well.scheduling()
    about = _schedule()

    for asked in (None, about, "health", run_self_test.send_with_options(delay=3_600_000).message_id):
        assert said(asked) == []
    ended = run("doctor", "often")
    assert ended.code == 0, ended.out
    assert "schedule often (every 5 minutes) is due next at" in " ".join(ended.out.split())
    assert "clock the clocks of Redis and database agree" in " ".join(ended.out.split())


def test_a_clock_that_is_wrong_is_found() -> None:
    well.alive()
    well.scheduling()

    found = examine(now_s=lambda: time.time() - 60)

    assert any(one.state is State.BAD and "s ahead of this machine's" in one.said for one in found)


def test_a_task_that_is_delayed_or_waits_for_its_turn_is_not_wrong() -> None:
    well.alive()
    well.scheduling()
    delayed = tasks.enqueue_task(SELF_TEST, delay_s=600)
    next_in_turn = tasks.enqueue_task(SELF_TEST)

    assert any("waits for its time: it is delayed until" in one for one in said(delayed, state=State.NOTE))
    assert any("waits for its turn" in one for one in said(next_in_turn, state=State.NOTE))


def test_a_lock_that_is_held_is_named() -> None:
    from tests.workers.middleware.test_exclusive import hold

    well.alive()
    well.scheduling()
    message = hold.send()
    delivery = _delivery_of("t-holder")
    callboard.broker.locks.take("house", "t-holder", delivery, ttl_s=30.0, waits=False)

    found = said(message.message_id)

    assert any("waits for lock house, which task t-holder holds" in one for one in found), found


def _delivery_of(task_id: str) -> Any:
    from workers.broker import Delivery

    return Delivery(task_id, b"", 1, 0, "0", "jobs", "w", claim=1)


@pytest.mark.usefixtures("own_redis")
def test_with_redis_down_it_says_so_and_looks_at_the_rest(run: Run, own_redis: OwnRedis) -> None:
    well.alive()
    well.scheduling()
    own_redis.kill()

    ended = run("doctor")

    assert ended.code == 1
    assert "bad redis" in ended.out
    assert "ok  database" in ended.out


def test_with_the_database_away_the_rest_is_unknown(run: Run, tmp_path: Path) -> None:
    database.bind(f"sqlite:///{tmp_path / 'empty.db'}")
    try:
        ended = run("doctor", "often", "--json")
    finally:
        database.bind(callboard.settings.database)

    assert ended.code == 1
    rows = {row["name"]: row for row in json.loads(ended.out)}
    assert "run `callboard migrate`" in rows["database"]["said"]
    assert rows["rest"]["state"] == "unknown"


def test_what_nobody_knows_is_refused_with_the_nearest_names(run: Run) -> None:
    with pytest.raises(InvalidTask, match="did you mean health"):
        examine("helth")

    ended = run("doctor", "helth")
    assert (ended.code, ended.error_lines) == (
        2, ["callboard: there is no task, schedule or queue 'helth': did you mean health?"]
    )  # fmt: skip


def test_what_a_task_may_wait_for_without_anything_being_wrong_is_what_waiting_says() -> None:
    text = Path(doctor.__file__).with_name("waiting.py").read_text()

    for beginning in ("its time", "its retry", "its turn"):
        assert f'"{beginning}' in text
