"""Why a task is not running yet, in words: one case for each thing that it can wait for."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis
from dramatiq import Worker
from sqlalchemy import select, update

from models import database
from models.task import TERMINAL, Task, TaskStatus, WorkerProcess
from tests import probes
from tests.servers import OwnRedis, wait_until
from workers import callboard, tasks
from workers.actors.diagnostics import run_self_test

pytestmark = pytest.mark.usefixtures("ledger_database", "bus")

SELF_TEST = "diagnostics.run_self_test"


@pytest.fixture
def alive(ledger_database: str) -> None:
    """A worker says that it lives, and fetches nothing."""
    now = datetime.now(UTC)
    with database.writing() as session:
        session.add(WorkerProcess(worker_id="w", hostname="h", pid=1, threads=1, started_at=now, heartbeat_at=now))


@pytest.fixture
def paused() -> Iterator[None]:
    """The queue of the self-test is paused."""
    callboard.broker.pause_queue("health")
    yield
    callboard.broker.resume_queue("health")


def change(task_id: str, **values: object) -> None:
    with database.writing() as session:
        session.execute(update(Task).where(Task.task_id == task_id).values(**values))  # type: ignore[arg-type]  # SQLModel's columns


def test_a_delayed_task_waits_for_its_time() -> None:
    task_id = tasks.enqueue_task(SELF_TEST, delay_s=3_600)

    task = tasks.get_task(task_id)
    assert task is not None
    assert task.eta is not None
    assert tasks.waiting_on(task_id) == f"its time: it is delayed until {task.eta:%Y-%m-%d %H:%M:%S} UTC"


def test_a_task_that_failed_waits_for_its_retry(worker: Worker, tmp_path: Path) -> None:
    message = probes.fail_times.send_with_options(
        args=(str(tmp_path / "evidence"), 9), min_backoff=60_000, max_backoff=60_000
    )

    wait_until(lambda: "its retry 1 of 3, due at" in str(tasks.waiting_on(message.message_id)), within_s=15, what="it")


@pytest.mark.usefixtures("alive")
def test_a_task_in_a_paused_queue_says_so(paused: None) -> None:
    assert tasks.waiting_on(tasks.enqueue_task(SELF_TEST)) == "its queue 'health', which is paused"


def test_without_a_live_worker_it_says_how_to_start_one(alive: None) -> None:
    with database.writing() as session:
        session.execute(update(WorkerProcess).values(heartbeat_at=datetime(2026, 1, 1, tzinfo=UTC)))

    assert tasks.waiting_on(tasks.enqueue_task(SELF_TEST)) == (
        "a worker: none is alive, start one with `callboard worker`"
    )


@pytest.mark.parametrize("serves", [["health", "jobs"], None])
def test_where_no_live_worker_serves_its_queue_it_says_so(alive: None, serves: list[str] | None) -> None:
    task_id = tasks.enqueue_task(SELF_TEST)
    with database.writing() as session:
        session.execute(update(WorkerProcess).values(queues=["jobs"]))

    assert tasks.waiting_on(task_id) == "a worker that serves queue 'health': none of the 1 that are alive does"
    with database.writing() as session:
        session.execute(update(WorkerProcess).values(queues=serves))
    assert str(tasks.waiting_on(task_id)).startswith("its turn in queue 'health'")


@pytest.mark.parametrize("given", [None, {"jobs"}])
def test_a_worker_says_which_queues_it_serves(bus: redis.Redis, given: set[str] | None) -> None:
    made = Worker(callboard.broker, queues=given, worker_timeout=50, worker_threads=1)
    made.start()

    try:
        with database.reading() as session:
            (found,) = session.execute(select(WorkerProcess)).scalars().all()
    finally:
        made.stop(timeout=5_000)
        callboard.broker.middleware[:] = [
            one for one in callboard.broker.middleware if type(one).__name__ != "_WorkerMiddleware"
        ]
    assert found.queues == sorted(given or callboard.broker.get_declared_queues())


def test_a_task_whose_actor_is_at_its_limit_says_how_many_run(worker: Worker, tmp_path: Path) -> None:
    paper, end = tmp_path / "evidence", tmp_path / "end"
    first, second = (probes.one_at_a_time.send(str(paper), str(end)).message_id for _ in range(2))

    try:
        wait_until(
            lambda: {tasks.waiting_on(one) for one in (first, second)} == {None, "its actor's limit: 1 of 1 run"},
            within_s=15,
            what="one that runs and one that waits",
        )
    finally:
        end.touch()
    wait_until(lambda: tasks.get_task_count(TaskStatus.COMPLETED) == 2, within_s=20, what="both ends")


@pytest.mark.usefixtures("alive")
def test_a_task_of_an_actor_with_a_rate_names_it() -> None:
    waiting = tasks.waiting_on(probes.five_a_minute.send().message_id)

    assert str(waiting).endswith("and its actor's limit of 5 starts in 60 s")


@pytest.mark.usefixtures("alive")
def test_a_task_that_can_start_waits_for_its_turn() -> None:
    assert tasks.waiting_on(tasks.enqueue_task(SELF_TEST)) == "its turn in queue 'health' at a worker that serves it"


@pytest.mark.usefixtures("alive")
def test_a_task_whose_actor_this_code_does_not_have_says_so() -> None:
    task_id = tasks.enqueue_task(SELF_TEST)
    change(task_id, task_name="newer.actor")

    assert tasks.waiting_on(task_id) == "a worker whose code has the actor 'newer.actor'; the code here does not"


def test_a_task_that_is_not_on_the_bus_yet_waits_for_the_relay() -> None:
    task_id = tasks.enqueue_task(SELF_TEST)
    change(task_id, enqueued_at=None)

    assert tasks.waiting_on(task_id) == "the relay, which puts it on the bus within seconds"


def test_with_redis_away_a_task_waits_for_it(own_redis: OwnRedis) -> None:
    own_redis.kill()

    assert "Redis, which does not answer" in str(tasks.waiting_on(tasks.enqueue_task(SELF_TEST)))


def test_a_task_that_somebody_wants_cancelled_waits_for_that(own_redis: OwnRedis) -> None:
    task_id = tasks.enqueue_task(SELF_TEST)
    own_redis.kill()

    assert tasks.request_cancel(task_id) is tasks.CancelOutcome.REQUESTED
    assert "its cancellation, which was requested" in str(tasks.waiting_on(task_id))


@pytest.mark.parametrize("status", sorted({*TERMINAL, TaskStatus.RUNNING}))
def test_what_runs_or_has_ended_waits_for_nothing(bus: redis.Redis, status: TaskStatus) -> None:
    message = run_self_test.send()
    change(message.message_id, status=status)

    assert tasks.waiting_on(message.message_id) is None
    assert tasks.waiting_on("nobody") is None
