"""Workers, Redis and the database die in mid-task; every row is true afterwards, and no task is lost.

| what dies                         | what must come of it                                                     |
|-----------------------------------|--------------------------------------------------------------------------|
| a worker, `kill -9`, in mid-task  | the attempt is lost, another completes it; no retry is used up            |
| a worker that its task kills      | each death is an attempt on record; its neighbours complete               |
| a worker, SIGTERM, under load     | what runs ends, what waits runs elsewhere, each once                      |
| … and a task outlasts its grace   | it is pending again at once, and runs elsewhere                           |
| Redis, before a send              | the send succeeds, the task runs when Redis is back                       |
| Redis, `kill -9`, and it returns  | waiting, delayed and running tasks all complete                           |
| the database, while tasks run     | outcomes are written when it is back; nothing starts meanwhile; each once |
| the old code, of a new actor      | its task waits, uncounted, until a worker with the new code is there      |
"""

import signal
import sqlite3
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from models import database
from models.task import TaskStatus
from tests import probes
from tests.faults.conftest import THREADS, StartWorker, await_death, kill_tree
from tests.servers import OwnPostgres, OwnRedis, wait_until
from tests.soak import actors, evidence
from tests.workers.rows import all_ended as ended
from tests.workers.rows import outcomes, row
from workers import callboard, tasks
from workers.errors import LedgerUnavailable

on_sqlite = pytest.mark.parametrize("ledger_database", ["sqlite"], indirect=True)
"""For what the bus decides; the database only keeps it."""


def is_quiet(paper: Path, seen: list[int]) -> bool:
    """Whether nothing started for a while; notes how much has."""
    time.sleep(1.5)  # why: that nothing happens takes time
    seen.append(len(probes.lines(paper)))
    return seen[-1] == seen[-2]


@pytest.fixture
def paper(tmp_path: Path) -> Path:
    return tmp_path / "evidence"


def test_a_task_whose_worker_is_killed_runs_again_and_completes(start_worker: StartWorker, paper: Path) -> None:
    first = start_worker()
    enough = paper.with_name("enough")
    message = probes.wait_for.send(str(paper), "ran", str(enough))
    wait_until(lambda: probes.lines(paper) == ["ran"], within_s=20, what="the task to start")
    wait_until(lambda: row(message.message_id).status == TaskStatus.RUNNING, within_s=10, what="the row to say so")

    kill_tree(first)
    enough.touch()
    start_worker()

    (found,) = ended(message.message_id)
    assert (found.status, found.attempt, found.retry_count) == (TaskStatus.COMPLETED, 2, 0)
    assert outcomes(message.message_id) == ["lost", "completed"]
    assert probes.lines(paper) == ["ran", "ran"]


def test_a_task_that_kills_its_worker_is_on_record_and_its_neighbours_complete(
    start_worker: StartWorker, paper: Path
) -> None:
    deadly = probes.kill_worker.send(str(paper), 2)
    neighbours = [probes.add.send(number, 1).message_id for number in range(20)]

    worker = start_worker()
    for _ in range(2):
        await_death(worker)
        worker = start_worker()

    (found,) = ended(deadly.message_id)
    assert (found.status, found.result, found.retry_count) == (TaskStatus.COMPLETED, 3, 0)
    assert outcomes(deadly.message_id) == ["lost", "lost", "completed"]
    assert probes.lines(paper) == ["ran"] * 3
    assert {task.status for task in ended(*neighbours)} == {TaskStatus.COMPLETED}


@pytest.mark.parametrize("when", ["its message waits again", "its message is leased to the dead"])
def test_a_task_whose_worker_died_at_once_is_cancelled_with_its_lost_attempt_on_record(
    start_worker: StartWorker, paper: Path, when: str
) -> None:
    task_id = probes.kill_worker.send(str(paper), 9).message_id
    await_death(start_worker())
    if when == "its message waits again":
        callboard.broker.pause_queue("jobs")
        start_worker()
        wait_until(lambda: callboard.broker.depth("jobs").waiting == 1, within_s=30, what="the lease to end")
        assert tasks.request_cancel(task_id) is tasks.CancelOutcome.CANCELLED
    else:
        assert tasks.request_cancel(task_id) is tasks.CancelOutcome.REQUESTED
        start_worker()

    (found,) = ended(task_id)
    assert (found.status, found.attempt) == (TaskStatus.CANCELLED, 1)
    assert outcomes(task_id) == ["lost"]
    assert probes.lines(paper) == ["ran"]


@pytest.mark.parametrize("ledger_database", ["postgresql"], indirect=True)  # test_supervised_workers.py has SQLite
def test_a_worker_told_to_stop_under_load_loses_and_doubles_nothing(start_worker: StartWorker, paper: Path) -> None:
    messages = probes.note.send_many([(str(paper), f"task {number}", 0.1) for number in range(120)])
    sent = [message.message_id for message in messages]
    first = start_worker()
    wait_until(lambda: len(probes.lines(paper)) > 5, within_s=20, what="some tasks to start")

    first.send_signal(signal.SIGTERM)
    assert first.wait(timeout=90) == 0
    left = len(probes.lines(paper))
    start_worker()

    assert {task.status for task in ended(*sent)} == {TaskStatus.COMPLETED}
    assert left < len(sent)
    assert Counter(probes.lines(paper)) == Counter(f"task {number}" for number in range(120))


def test_a_task_that_outlasts_the_shutdown_goes_back_at_once_and_runs_elsewhere(
    start_worker: StartWorker, paper: Path
) -> None:
    first = start_worker()
    message = probes.outlast.send(str(paper), 100.0)
    wait_until(lambda: probes.lines(paper) == ["ran"], within_s=20, what="the task to start")

    first.send_signal(signal.SIGTERM)
    first.send_signal(signal.SIGTERM)  # why: honcho and systemd signal the process group and the main process
    assert first.wait(timeout=90) == 0

    found = row(message.message_id)
    assert (found.status, found.retry_count, outcomes(message.message_id)) == (TaskStatus.PENDING, 0, ["shut_down"])
    assert callboard.broker.depth("jobs").waiting == 1
    start_worker()
    (found,) = ended(message.message_id)
    assert (found.status, found.attempt) == (TaskStatus.COMPLETED, 2)
    assert outcomes(message.message_id) == ["shut_down", "completed"]


@on_sqlite
def test_redis_killed_and_started_again_loses_nothing(
    start_worker: StartWorker, own_redis: OwnRedis, paper: Path
) -> None:
    start_worker()
    running = probes.note.send(str(paper), "running", 2.0).message_id
    wait_until(lambda: probes.lines(paper) == ["running"], within_s=20, what="the task to start")
    delayed = probes.note.send_with_options(args=(str(paper), "delayed"), delay=1_500).message_id
    waiting = [probes.note.send(str(paper), f"waiting {number}", 0.1).message_id for number in range(10)]

    own_redis.kill()
    own_redis.start()

    found = ended(running, delayed, *waiting)
    assert {task.status for task in found} == {TaskStatus.COMPLETED}
    assert {"running", "delayed", *(f"waiting {number}" for number in range(10))} == set(probes.lines(paper))


@on_sqlite
def test_a_write_lock_held_on_sqlite_delays_the_outcome_and_loses_nothing(
    start_worker: StartWorker, ledger_database: str, paper: Path
) -> None:
    start_worker()
    message = probes.note.send(str(paper), "ran", 0.3)
    wait_until(lambda: probes.lines(paper) == ["ran"], within_s=20, what="the task to start")
    holder = sqlite3.connect(ledger_database.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False)

    holder.execute("BEGIN IMMEDIATE")
    release = threading.Timer(2.0, holder.execute, args=("ROLLBACK",))
    release.start()

    (found,) = ended(message.message_id)
    release.join()
    holder.close()
    assert (found.status, found.attempt) == (TaskStatus.COMPLETED, 1)
    assert found.completed_at is not None
    assert probes.lines(paper) == ["ran"]


@pytest.mark.parametrize("ledger_database", ["own_postgres"], indirect=True)
def test_a_database_that_dies_while_tasks_run_delays_outcomes_and_starts_and_loses_nothing(
    start_worker: StartWorker, own_postgres: OwnPostgres, paper: Path
) -> None:
    start_worker()
    enough = paper.with_name("enough")
    running = [probes.wait_for.send(str(paper), f"running {n}", str(enough)).message_id for n in range(THREADS)]
    wait_until(lambda: len(probes.lines(paper)) == THREADS, within_s=20, what="the tasks to start")
    many = probes.note.send_many([(str(paper), f"waiting {number}", 0.7) for number in range(4 * THREADS)])
    waiting = [message.message_id for message in many]

    own_postgres.kill()
    enough.touch()
    with pytest.raises(LedgerUnavailable, match=r"nothing was sent: the database .* check that it is running"):
        probes.add.send(1, 2)
    seen = [-1]
    wait_until(lambda: is_quiet(paper, seen), within_s=20, what="nothing more to start")
    own_postgres.start()
    database.engine().dispose()

    ended(*running, within_s=10)  # five times the longest back-off of who writes
    found = ended(*running, *waiting)
    assert {(task.status, task.attempt) for task in found} == {(TaskStatus.COMPLETED, 1)}
    assert seen[-1] <= 3 * THREADS  # those that ran, and one or two a thread until an outcome was overdue
    assert Counter(probes.lines(paper)).most_common(1)[0][1] == 1


def test_what_is_sent_while_redis_is_gone_is_delivered_when_it_is_back(
    start_worker: StartWorker, own_redis: OwnRedis
) -> None:
    own_redis.kill()

    sent = [probes.add.send(number, 2).message_id for number in range(3)]
    assert [(row(task_id).status, row(task_id).enqueued_at) for task_id in sent] == [(TaskStatus.PENDING, None)] * 3
    own_redis.start()
    start_worker()

    assert {(task.status, task.attempt) for task in ended(*sent)} == {(TaskStatus.COMPLETED, 1)}


@on_sqlite
def test_a_task_that_the_old_code_does_not_know_waits_for_the_new_code(
    start_worker: StartWorker, paper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(evidence.VARIABLE, str(tmp_path / "witness"))
    start_worker(CALLBOARD_ACTOR_MODULES="tests.soak.actors")
    unknown = probes.note.send(str(paper)).message_id
    known = actors.send(actors.short, "known")

    ended(known)
    assert (row(unknown).status, row(unknown).attempt) == (TaskStatus.PENDING, 0)
    start_worker()

    (found,) = ended(unknown)
    assert (found.status, found.attempt, found.retry_count) == (TaskStatus.COMPLETED, 1, 0)
    assert probes.lines(paper) == ["ran"]
