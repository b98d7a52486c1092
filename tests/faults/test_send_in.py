"""`actor.send_in(session, …)` joins the caller's transaction: committed, it runs; rolled back, it never was; a crash
before the commit leaves nothing, and one between commit and bus loses nothing."""

import os
import sys
from collections import Counter
from pathlib import Path

import pytest

from models import database
from models.task import TERMINAL, TaskStatus
from tests import probes, warm
from tests.faults.conftest import StartWorker
from tests.scale import FULL
from tests.servers import OwnRedis, wait_until
from workers import tasks

TIMES = 1_000 if FULL else 50
CODE_OF_A_CALLER = """
import os, signal, sys
from models import database
from tests import probes
paper, times, moment = sys.argv[1], int(sys.argv[2]), sys.argv[3]
with database.writing() as session:
    for number in range(times):
        probes.note.send_in(session, paper, f"task {number}")
    session.flush()
    if moment == "after the commit":
        session.connection().connection.driver_connection.commit()
    os.kill(os.getpid(), signal.SIGKILL)
"""
"""It commits by the driver, which tells nobody, and dies: as a crash between the commit and the bus would have it."""


class Unwanted(Exception):
    """What rolls a transaction back here."""


def send_and_roll_back(paper: str, line: str) -> None:
    with database.writing() as session:
        probes.note.send_in(session, paper, line)
        raise Unwanted


def all_end() -> None:
    wait_until(
        lambda: tasks.get_task_count() == sum(tasks.get_task_count(status) for status in TERMINAL),
        within_s=60,
        what="each row to be terminal",
    )


def test_what_is_committed_runs_and_what_is_rolled_back_never_was(start_worker: StartWorker, tmp_path: Path) -> None:
    paper = tmp_path / "paper"
    start_worker()

    for number in range(TIMES):
        with database.writing() as session:
            probes.note.send_in(session, str(paper), f"task {number}")
        with pytest.raises(Unwanted):
            send_and_roll_back(str(paper), f"rolled back {number}")

    all_end()
    assert tasks.get_task_count(TaskStatus.COMPLETED) == tasks.get_task_count() == TIMES
    assert Counter(probes.lines(paper)) == Counter(f"task {number}" for number in range(TIMES))


@pytest.mark.parametrize(("moment", "expected"), [("before the commit", 0), ("after the commit", TIMES)])
def test_a_caller_that_dies_leaves_all_or_nothing(
    start_worker: StartWorker, own_redis: OwnRedis, ledger_database: str, tmp_path: Path, moment: str, expected: int
) -> None:
    paper = tmp_path / "paper"
    environment = {
        **os.environ,
        "CALLBOARD_ACTOR_MODULES": "tests.probes",
        "CALLBOARD_REDIS_URL": own_redis.url,
        "CALLBOARD_DATABASE_URL": ledger_database,
    }
    command = [sys.executable, "-c", CODE_OF_A_CALLER, str(paper), str(TIMES), moment]
    assert warm.run(command, env=environment).returncode == -9

    start_worker()
    all_end()

    assert tasks.get_task_count() == expected
    assert Counter(probes.lines(paper)) == Counter(f"task {number}" for number in range(expected))
