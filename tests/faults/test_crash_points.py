"""A process dies at each step of a task's way; afterwards there is one terminal row that is true (faults row 7)."""

import os
import sys
from pathlib import Path

import pytest
from sqlmodel import select

from models import database
from models.task import TERMINAL, Task, TaskStatus
from tests import probes, warm
from tests.faults.conftest import StartWorker, await_death
from tests.faults.crash import SENDER_POINTS, WORKER_POINTS
from tests.servers import OwnRedis, wait_until
from workers import callboard

BEFORE_THE_COMMIT = [point for point in WORKER_POINTS if point not in {"committed", "told"}]
CODE_OF_A_SENDER = "import sys; from tests import probes; probes.note.send(sys.argv[1])"


def rows() -> list[Task]:
    with database.reading() as session:
        return list(session.exec(select(Task)).all())


def armed(point: str, directory: Path) -> dict[str, str]:
    """Variables of a process that is to die at this point."""
    return {
        "CALLBOARD_ACTOR_MODULES": "tests.probes,tests.faults.crash",
        "CALLBOARD_TEST_CRASH": point,
        "CALLBOARD_TEST_CRASH_ONCE": str(directory / "crashed"),
    }


def all_end() -> None:
    wait_until(lambda: all(row.status in TERMINAL for row in rows()), within_s=30, what="each row to be terminal")


@pytest.mark.parametrize("point", BEFORE_THE_COMMIT)
def test_a_worker_that_dies_on_the_way_leaves_a_task_that_completes_once(
    start_worker: StartWorker, tmp_path: Path, point: str
) -> None:
    paper = tmp_path / "paper"
    first = start_worker(**armed(point, tmp_path))
    probes.note.send(str(paper))
    await_death(first)

    start_worker()
    all_end()

    (row,) = rows()
    assert (row.status, row.result, row.retry_count) == (TaskStatus.COMPLETED, "ran", 0)
    ran_before_the_crash = point not in {"fetched", "claimed"}
    ended_before_the_crash = ran_before_the_crash and row.attempt == 1
    assert len(probes.lines(paper)) == (2 if ran_before_the_crash and not ended_before_the_crash else 1)


@pytest.mark.parametrize("point", SENDER_POINTS)
def test_a_sender_that_dies_on_the_way_leaves_a_task_that_runs_or_nothing(
    start_worker: StartWorker, own_redis: OwnRedis, ledger_database: str, tmp_path: Path, point: str
) -> None:
    paper = tmp_path / "paper"
    environment = {
        **os.environ,
        **armed(point, tmp_path),
        "CALLBOARD_REDIS_URL": own_redis.url,
        "CALLBOARD_DATABASE_URL": ledger_database,
    }
    command = [sys.executable, "-c", CODE_OF_A_SENDER, str(paper)]
    sender = warm.run(command, env=environment)
    assert sender.returncode == -9

    start_worker()
    all_end()

    ran = len(probes.lines(paper))
    assert [row.status for row in rows()] == [TaskStatus.COMPLETED] * ran
    assert ran == 1


@pytest.mark.parametrize("point", ["committed", "told"])
def test_an_outcome_that_was_committed_before_the_crash_stands_and_nothing_runs_again(
    start_worker: StartWorker, tmp_path: Path, point: str
) -> None:
    paper = tmp_path / "paper"
    first = start_worker(**armed(point, tmp_path))
    probes.note.send(str(paper))
    await_death(first)
    (before,) = rows()

    start_worker()
    wait_until(lambda: callboard.broker.depth("jobs").live == 0, within_s=30, what="the message to be refused and gone")

    (row,) = rows()
    assert (before.status, before.result, before.retry_count) == (TaskStatus.COMPLETED, "ran", 0)
    assert row == before
    assert probes.lines(paper) == ["ran"]
