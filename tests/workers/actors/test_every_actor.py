"""Every actor × these cases; an actor without its row in cases/<domain>.py fails the suite.

happy path        through the real worker, against real servers and files; on SQLite and on PostgreSQL
run twice         as one task: one effect; on both
killed            at each of its effects (in short each fifth) by SIGKILL, and run again: one effect (death.py)
transient fault   tried again by its own policy, and done then; the database away as well
permanent fault   failed at the first attempt, and the error says the mend
bad input         refused at the send, without a row
legacy names      those of the inventory, all of them
"""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import pytest
from dramatiq import MessageProxy, Worker

from models import database, task_query
from models.database import DatabaseUnavailable
from models.task import TaskStatus
from tests import databases
from tests.scale import FULL
from tests.servers import wait_until
from tests.workers.actors import cases
from tests.workers.actors.case import One, each
from tests.workers.actors.death import MOST_POINTS, dies_at
from tests.workers.actors.running import as_task, ended, row
from tests.workers.actors.world import NewWorld, World, make_world, sqlite_in
from tests.workers.alerts.conftest import Webhook, webhook
from tests.workers.clients.smtp_server import MailServer
from workers import callboard, tasks
from workers.errors import InvalidTask, TaskRefused
from workers.middleware.retries import Retries
from workers.registry import function_of

__all__ = ["webhook"]

CASES = cases.gather()
STEP = 1 if FULL else 5
"""From one point of death to the next: in short each fifth, which is by turns one right before and one right after."""
NO_BOUND_MS = 24 * 3_600_000
"""The tests' settings make every back-off short; under this bound an actor's own counts."""


@pytest.fixture
def worlds(bus: object, mails: MailServer, webhook: Webhook, sqlite_template: Path, tmp_path: Path) -> NewWorld:
    """Makes worlds, one after the other."""
    numbers = iter(range(1_000))

    def make() -> AbstractContextManager[World]:
        directory = tmp_path / f"world-{next(numbers)}"
        return make_world(mails, webhook, sqlite_in(directory, sqlite_template), directory)

    return make


@pytest.fixture
def world(worlds: NewWorld) -> Iterator[World]:
    """A world."""
    with worlds() as made:
        yield made


@pytest.fixture(params=["sqlite", "postgresql"])
def each_world(
    request: pytest.FixtureRequest, bus: object, mails: MailServer, webhook: Webhook, tmp_path: Path
) -> Iterator[World]:
    """A world, on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        yield request.getfixturevalue("world")
        return
    pool: databases.Pool = request.getfixturevalue("postgres_pool")
    url = pool.take()
    with make_world(mails, webhook, url, tmp_path) as made:
        yield made
    pool.give_back(url)


def all_cases() -> list[One]:
    return [One(actor, case) for actor, case in sorted(CASES.items())]


def test_every_actor_has_its_row_in_the_table() -> None:
    declared = {
        name
        for name, actor in callboard.registry.actors.items()
        if function_of(actor).__module__.startswith("workers.actors.")
    }

    assert declared == set(CASES)


@pytest.mark.parametrize("one", all_cases(), ids=str)
def test_the_happy_path(one: One, each_world: World, worker: Worker) -> None:
    world = each_world
    arguments = one.case.prepare(world)

    found = ended(tasks.enqueue_task(one.actor, params=arguments))

    assert (found.status, found.attempt) == (TaskStatus.COMPLETED, 1), found.error_message
    one.case.proves(world, found.result)
    assert world.traffic[0] == len(world.told)


@pytest.mark.parametrize("one", all_cases(), ids=str)
def test_run_twice_one_effect(one: One, each_world: World) -> None:
    world = each_world
    arguments = one.case.prepare(world)
    _attempt(one, arguments, 1)
    once, traffic = one.case.effect(world), world.traffic

    _attempt(one, arguments, 2)

    assert one.case.effect(world) == once
    assert world.traffic == traffic


@pytest.mark.parametrize("one", all_cases(), ids=str)
def test_killed_at_any_effect_and_run_again_one_effect(one: One, worlds: NewWorld) -> None:
    with worlds() as world:
        undisturbed = _run(one, world)

    died = []
    for point in range(1, MOST_POINTS + 1, STEP):
        with worlds() as world:
            arguments = one.case.prepare(world)
            last = dies_at(point, lambda: _attempt(one, arguments, 1))  # noqa: B023 - it is called at once
            if last is None:
                break
            died.append(last)
            _attempt(one, arguments, 2)
            assert one.case.effect(world) == undisturbed, f"killed {last}, its point {point}"
    else:
        pytest.fail(f"more than {MOST_POINTS} points: prepare less to do")
    assert died


def _run(one: One, world: World) -> Any:
    _attempt(one, one.case.prepare(world), 1)
    return one.case.effect(world)


def _attempt(one: One, arguments: dict[str, Any], attempt: int) -> None:
    with as_task("task-1", attempt=attempt):
        function_of(callboard.registry.resolve(one.actor))(**arguments)


@pytest.mark.parametrize("one", each(CASES, "transient"), ids=str)
def test_a_transient_fault_is_retried_by_the_actors_own_policy(one: One, world: World, worker: Worker) -> None:
    arguments = one.case.prepare(world)
    one.thing.begin(world)

    actor = callboard.registry.resolve(one.actor)
    task_id = actor.send_with_options(kwargs=arguments, max_backoff=NO_BOUND_MS).message_id
    wait_until(lambda: row(task_id).retry_count == 1, within_s=20, what=f"the first retry of {task_id}")
    waiting = row(task_id)
    one.thing.end(world)
    _run_now(task_id)

    assert re.search(one.thing.says, waiting.error_message or ""), waiting.error_message
    found = ended(task_id)
    assert (found.status, found.attempt, found.retry_count) == (TaskStatus.COMPLETED, 2, 1), found.error_message
    assert _outcomes(task_id) == ["retried", "completed"]
    one.case.proves(world, found.result)


@pytest.mark.parametrize("one", [one for one in all_cases() if one.case.uses_database], ids=str)
def test_a_database_that_is_away_is_a_transient_fault(one: One, world: World) -> None:
    arguments = one.case.prepare(world)

    with world.without_database(), pytest.raises(DatabaseUnavailable) as caught:
        _attempt(one, arguments, 1)
    _attempt(one, arguments, 2)

    may_retry = callboard.registry.resolve(one.actor).options.get("max_retries") != 0
    assert _is_retried(one.actor, arguments, caught.value) is may_retry
    once = one.case.effect(world)
    _attempt(one, arguments, 3)
    assert one.case.effect(world) == once


@pytest.mark.parametrize("one", each(CASES, "permanent"), ids=str)
def test_a_permanent_fault_fails_at_once_and_says_the_mend(one: One, world: World, worker: Worker) -> None:
    arguments = one.thing.make(world, one.case.prepare(world))

    found = ended(tasks.enqueue_task(one.actor, params=arguments))

    assert (found.status, found.reason) == (TaskStatus.FAILED, "not retryable"), found.error_message
    assert (found.attempt, found.retry_count) == (1, 0)
    assert re.search(one.thing.says, found.error_message or ""), found.error_message


@pytest.mark.parametrize("one", each(CASES, "bad_input"), ids=str)
def test_bad_input_is_refused_at_the_send(one: One, world: World) -> None:
    arguments = one.case.prepare(world) | one.thing.changes
    before = tasks.get_task_count()

    with pytest.raises(InvalidTask) as caught:
        tasks.enqueue_task(one.actor, params=arguments)

    assert caught.value.field == f"params.{one.thing.field}"
    assert tasks.get_task_count() == before


@pytest.mark.parametrize("one", all_cases(), ids=str)
def test_an_argument_that_it_does_not_have_is_refused(one: One, world: World) -> None:
    with pytest.raises(InvalidTask, match="no_such_argument"):
        tasks.enqueue_task(one.actor, params={**one.case.prepare(world), "no_such_argument": 1})


@pytest.mark.parametrize("one", all_cases(), ids=str)
def test_the_legacy_names_are_those_of_the_inventory_and_resolve(one: One) -> None:
    aliases = {alias for alias, name in callboard.registry.aliases.items() if name == one.actor}

    assert aliases == set(one.case.legacy)
    assert {callboard.registry.resolve(alias).actor_name for alias in aliases} <= {one.actor}


def _run_now(task_id: str) -> None:
    """Have a task that waits for its retry start at once."""

    def is_changed() -> bool:
        with suppress(TaskRefused):  # why: the message of the retry may be on its way still.
            tasks.change_task(task_id, eta=None)
            return True
        return False

    wait_until(is_changed, within_s=20, what=f"the retry of {task_id} to be brought forward")


def _outcomes(task_id: str) -> list[str | None]:
    with database.reading() as session:
        return [attempt.outcome for attempt in task_query.attempts(session, task_id)]


class _Recorder:
    """A broker that only notes what the policy would send again."""

    def __init__(self) -> None:
        self.delays_ms: list[int] = []
        self.get_actor = callboard.broker.get_actor

    def enqueue(self, message: object, delay: int) -> None:
        self.delays_ms.append(delay)


def _is_retried(name: str, arguments: dict[str, Any], error: Exception) -> bool:
    """Whether Callboard's policy tries the actor again after this error."""
    (policy,) = (one for one in callboard.broker.middleware if isinstance(one, Retries))
    message = MessageProxy(callboard.registry.resolve(name).message(**arguments))
    recorder = _Recorder()
    policy.after_process_message(recorder, message, exception=error)
    return len(recorder.delays_ms) == 1 and not message.failed
