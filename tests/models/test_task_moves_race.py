"""Two connections that move one row at the same time on PostgreSQL: the second waits for the first one's commit, and
then decides by what that one left. (On SQLite writers stand in line.)

| first, not committed yet          | second                       | what must come of it                            |
|-----------------------------------|------------------------------|-------------------------------------------------|
| rescue declares the attempt lost  | its outcome                  | the outcome is true and kept; the attempt too   |
| the outcome                       | rescue                       | nothing is lost                                 |
| the outcome of an attempt to be   | rescue                       | nothing is lost; the row waits for its retry    |
| retried                           |                              |                                                 |
| the next attempt starts           | the outcome of a lost one    | too late: row and lost attempt stay             |
"""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from models import direct, task_moves
from models.direct import Direct
from models.task import AttemptOutcome, TaskStatus
from models.task_moves import Loss
from tests.models.rows import LATER, WORKER, a_start, an_end, attempts, row, running
from tests.servers import wait_until

pytestmark = pytest.mark.usefixtures("postgres_database")

Move = Callable[[Direct], Any]


def one_behind_the_other(first: Move, second: Move) -> tuple[Any, Any]:
    """Make both moves; the second is waiting for the first one's lock when that is committed. What they returned."""
    came: list[Any] = []

    def wait_and_move() -> None:
        with direct.transaction() as to:
            came.append(second(to))

    def is_waiting() -> bool:
        with direct.reading() as to:
            sql = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            return bool(to.run(sql)[0][0])

    thread = threading.Thread(target=wait_and_move)
    with direct.transaction() as to, to.atomic():
        did = first(to)
        thread.start()
        wait_until(is_waiting, within_s=10, what="the second to wait for the first")
    thread.join(10)
    return did, came[0]


def lose(task_id: str) -> Move:
    return lambda to: task_moves.lose(to, [Loss(task_id, 1, WORKER)], LATER)


def end(task_id: str, **fields: Any) -> Move:
    return lambda to: task_moves.end(to, [an_end(task_id, **fields)])


def outcomes(task_id: str) -> list[str | None]:
    return [one.outcome for one in attempts(task_id)]


def test_an_outcome_that_waits_for_rescue_is_kept() -> None:
    task_id = running()

    lost, moved = one_behind_the_other(lose(task_id), end(task_id, result="7"))

    assert lost == moved == {(task_id, 1)}
    assert (row(task_id).status, row(task_id).result) == (TaskStatus.COMPLETED, 7)
    assert outcomes(task_id) == [AttemptOutcome.COMPLETED]


@pytest.mark.parametrize("status", [TaskStatus.COMPLETED, TaskStatus.PENDING])
def test_rescue_that_waits_for_an_outcome_finds_nothing_lost(status: TaskStatus) -> None:
    task_id = running()
    outcome = AttemptOutcome.COMPLETED if status is TaskStatus.COMPLETED else AttemptOutcome.RETRIED

    moved, lost = one_behind_the_other(end(task_id, status=status, outcome=outcome), lose(task_id))

    assert (moved, lost) == ({(task_id, 1)}, set())
    assert (row(task_id).status, row(task_id).enqueued_at is None) == (status, False)
    assert outcomes(task_id) == [outcome]


def test_an_outcome_that_waits_for_the_next_attempt_to_start_is_too_late() -> None:
    task_id = running()
    with direct.transaction() as to:
        lose(task_id)(to)

    started, moved = one_behind_the_other(lambda to: task_moves.start(to, [a_start(task_id, 2, "w-2")]), end(task_id))

    assert set(started) == {(task_id, 2)}
    assert moved == set()
    assert (row(task_id).status, row(task_id).attempt, row(task_id).worker_id) == (TaskStatus.RUNNING, 2, "w-2")
    assert outcomes(task_id) == [AttemptOutcome.LOST, None]
