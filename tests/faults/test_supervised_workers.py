"""`callboard worker` under load: what is told to stop, dies, hangs or is renewed loses nothing and doubles nothing.

| what happens                          | what must come of it                                                |
|---------------------------------------|---------------------------------------------------------------------|
| SIGTERM under load                    | running tasks end, each runs once, status 0                         |
| … and a task outlasts the drain       | it is pending again at once; the end comes in time, status 0        |
| SIGHUP under load                     | one process after the other is replaced, each task runs once        |
| `kill -9` of a worker process         | it alone is started again                                           |
| `kill -9` of one that is booting      | the same, without Dramatiq's wait of 30 s for it                    |
| SIGSTOP of a worker process           | it is killed after the stall time-out and started again             |
| a worker thread dies                  | its process ends itself with status 70, its siblings' tasks finish  |
| `kill -9` of the supervisor           | its workers finish what runs and end                                |
| a death, restarting switched off      | the others finish what runs, status 1                               |
"""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from models.task import TaskStatus
from tests import probes
from tests.conftest import FAST
from tests.faults import mortal_probes
from tests.faults.conftest import BIN, Started, StartWorkers, kill_tree
from tests.scale import FULL
from tests.servers import OwnRedis, wait_until
from tests.workers.rows import all_ended as ended
from tests.workers.rows import row
from workers import callboard
from workers.middleware.watch import EXIT_UNWELL

ROLLS = 20 if FULL else 1
on_sqlite = pytest.mark.parametrize("ledger_database", ["sqlite"], indirect=True)


@pytest.fixture
def paper(tmp_path: Path) -> Path:
    return tmp_path / "evidence"


def has_ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def send(paper: Path, count: int, seconds: float) -> list[str]:
    many = probes.note.send_many([(str(paper), f"task {number}", seconds) for number in range(count)])
    return [message.message_id for message in many]


def assert_each_ran_once(paper: Path, sent: list[str], *workers: Started) -> None:
    assert {(task.status, task.attempt) for task in ended(*sent)} == {(TaskStatus.COMPLETED, 1)}
    assert Counter(probes.lines(paper)) == Counter(f"task {number}" for number in range(len(sent)))
    wait_until(lambda: callboard.broker.depth("jobs").live == 0, within_s=10, what="the bus to be empty")
    assert not any("Traceback" in one.output for one in workers)


@on_sqlite
def test_told_to_stop_under_load_it_loses_and_doubles_nothing(supervise: StartWorkers, paper: Path) -> None:
    sent = send(paper, 300, 0.1)
    first = supervise()
    wait_until(lambda: len(probes.lines(paper)) > 20, within_s=30, what="some tasks to start")

    first.process.send_signal(signal.SIGTERM)
    assert first.process.wait(timeout=90) == 0
    left = len(probes.lines(paper))
    second = supervise()

    assert_each_ran_once(paper, sent, first, second)
    assert left < len(sent)
    assert "is killed" not in first.output


@on_sqlite
def test_a_task_that_outlasts_the_drain_is_given_back_and_holds_up_no_end(supervise: StartWorkers, paper: Path) -> None:
    workers = supervise("--processes", "1", "--drain-s", "1")
    sent = send(paper, 1, 100.0)
    wait_until(lambda: len(probes.lines(paper)) == 1, within_s=30, what="the task to start")

    workers.process.send_signal(signal.SIGTERM)

    assert workers.process.wait(timeout=90) == 0  # Dramatiq's own wait is ten minutes
    found = row(sent[0])
    assert (found.status, found.attempt, found.retry_count) == (TaskStatus.PENDING, 1, 0)
    assert callboard.broker.depth("jobs").waiting == 1


@on_sqlite
def test_a_worker_process_that_is_killed_while_it_boots_is_soon_started_again(
    supervise: StartWorkers, tmp_path: Path
) -> None:
    workers = supervise(
        *("--processes", "1"),
        CALLBOARD_ACTOR_MODULES="tests.faults.dies_at_boot",
        CALLBOARD_TEST_BOOT_DEATH=str(tmp_path / "died"),
    )

    workers.wait_for_workers(1)  # it waits for less than Dramatiq's own 30 s

    assert (tmp_path / "died").exists()


@on_sqlite
def test_a_rolling_restart_under_load_replaces_each_process_and_runs_everything_once(
    supervise: StartWorkers, paper: Path
) -> None:
    workers = supervise()
    before = workers.wait_for_workers(2)
    sent = send(paper, 300 * ROLLS, 0.2)
    wait_until(lambda: len(probes.lines(paper)) > 20, within_s=30, what="some tasks to start")

    for number in range(ROLLS):
        workers.process.send_signal(signal.SIGHUP)
        wait_until(
            lambda number=number: workers.output.count("worker.2  | is up again") > number,  # type: ignore[misc]  # mypy cannot infer lambdas with defaults
            within_s=60,
            what=f"the end of restart {number}",
        )

    assert_each_ran_once(paper, sent, workers)
    after = workers.workers()
    assert set(before) == set(after) == {"worker.1", "worker.2"}
    assert not set(before.values()) & set(after.values())
    said = workers.output
    assert said.index("worker.1  | is up again") < said.index("worker.2  | is told to stop")
    assert workers.process.poll() is None


@on_sqlite
def test_a_killed_worker_process_is_started_again_alone(supervise: StartWorkers, paper: Path) -> None:
    workers = supervise()
    before = workers.wait_for_workers(2)
    sent = send(paper, 100, 0.05)
    wait_until(lambda: len(probes.lines(paper)) > 10, within_s=30, what="some tasks to start")

    os.kill(before["worker.1"], signal.SIGKILL)

    after = workers.wait_for_workers(3)
    assert after["worker.1"] != before["worker.1"]
    assert after["worker.2"] == before["worker.2"]
    assert {task.status for task in ended(*sent)} == {TaskStatus.COMPLETED}
    assert psutil.pid_exists(before["worker.2"])


@on_sqlite
def test_a_process_that_stands_still_is_killed_and_its_tasks_run_elsewhere(
    supervise: StartWorkers, paper: Path
) -> None:
    workers = supervise(
        *("--processes", "1"), CALLBOARD_BUS_TIMEOUT_S="1", CALLBOARD_STALL_TIMEOUT_S="4", CALLBOARD_THREADS="2"
    )
    before = workers.wait_for_workers(1)
    sent = send(paper, 6, 1.0)
    wait_until(lambda: len(probes.lines(paper)) > 1, within_s=30, what="some tasks to start")

    os.kill(before["worker.1"], signal.SIGSTOP)

    workers.wait_for("worker.1  | has given no sign of life for ")
    workers.wait_for("worker.1  | ended with status -9; starting it again in ")
    assert {task.status for task in ended(*sent)} == {TaskStatus.COMPLETED}
    assert workers.workers()["worker.1"] != before["worker.1"]


@on_sqlite
def test_a_worker_thread_that_dies_is_noticed_and_its_process_replaced(supervise: StartWorkers, paper: Path) -> None:
    workers = supervise("--processes", "1")
    workers.wait_for_workers(1)
    beside = probes.note.send(str(paper), "beside", 2.5).message_id
    wait_until(lambda: probes.lines(paper) == ["beside"], within_s=20, what="the neighbour to start")

    bomb = mortal_probes.leave_a_bomb.send(str(paper)).message_id

    workers.wait_for("is unwell and ends itself, to be started again: 3 of 4 worker threads are left")
    workers.wait_for(f"worker.1  | ended with status {EXIT_UNWELL}; starting it again in ")
    workers.wait_for_workers(2)
    after = probes.note.send(str(paper), "after").message_id
    assert {(task.status, task.attempt) for task in ended(bomb, beside, after)} == {(TaskStatus.COMPLETED, 1)}
    assert Counter(probes.lines(paper)) == Counter(["beside", "armed", "after"])


@on_sqlite
def test_a_thread_that_dies_with_its_message_in_hand_gives_it_back(supervise: StartWorkers, paper: Path) -> None:
    workers = supervise("--processes", "1")
    workers.wait_for_workers(1)

    torn = mortal_probes.tear_at_the_thread.send(str(paper)).message_id

    workers.wait_for("3 of 4 worker threads are left")
    workers.wait_for_workers(2)
    (found,) = ended(torn)
    assert (found.status, found.attempt, found.result) == (TaskStatus.COMPLETED, 2, 2)
    assert probes.lines(paper) == ["torn", "torn"]


@on_sqlite
def test_if_the_supervisor_is_killed_its_workers_finish_what_runs_and_end(supervise: StartWorkers, paper: Path) -> None:
    workers = supervise()
    workers.wait_for_workers(2)
    sent = send(paper, 4, 1.0)
    wait_until(lambda: len(probes.lines(paper)) == 4, within_s=20, what="the tasks to start")

    workers.process.kill()
    workers.process.wait(timeout=90)

    wait_until(
        lambda: all(has_ended(one) for one in workers.family),
        within_s=20,
        what="the end of its processes",
    )
    assert len(workers.family) >= 4
    assert {(row(task_id).status, row(task_id).attempt) for task_id in sent} == {(TaskStatus.COMPLETED, 1)}


@on_sqlite
def test_without_restarting_a_death_ends_it_after_the_others_have_finished(
    supervise: StartWorkers, paper: Path
) -> None:
    workers = supervise(CALLBOARD_RESTART_WORKERS="false", CALLBOARD_THREADS="1")
    before = workers.wait_for_workers(2)
    enough = paper.with_name("enough")
    sent = [probes.wait_for.send(str(paper), f"task {number}", str(enough)).message_id for number in range(2)]
    wait_until(lambda: len(probes.lines(paper)) == 2, within_s=20, what="the tasks to start")

    os.kill(before["worker.2"], signal.SIGKILL)
    enough.touch()

    assert workers.process.wait(timeout=90) == 1
    assert "is not to be started again (CALLBOARD_RESTART_WORKERS)" in workers.output
    left = {row(task_id).status for task_id in sent} - {TaskStatus.COMPLETED}
    assert left in ({TaskStatus.RUNNING}, {TaskStatus.PENDING})  # the other may have rescued it before it ended


@on_sqlite
def test_a_process_that_stood_still_and_goes_on_is_not_taken_for_unwell(supervise: StartWorkers, paper: Path) -> None:
    workers = supervise(*("--processes", "1"), CALLBOARD_BUS_TIMEOUT_S="1", CALLBOARD_STALL_TIMEOUT_S="4")
    before = workers.wait_for_workers(1)
    still = [workers.process.pid, *(one.pid for one in workers.family)]

    for pid in still:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(5)  # why: standing still takes time
    for pid in reversed(still):
        os.kill(pid, signal.SIGCONT)

    assert_each_ran_once(paper, send(paper, 10, 0.1), workers)
    assert workers.workers() == before


@pytest.fixture
def plain(own_redis: OwnRedis, ledger_database: str, tmp_path: Path) -> Iterator[Started]:
    """`dramatiq workers` as a process manager would run it, without a supervisor of ours."""
    environment = {
        **os.environ,
        **FAST,
        "CALLBOARD_REDIS_URL": own_redis.url,
        "CALLBOARD_DATABASE_URL": ledger_database,
        "CALLBOARD_ACTOR_MODULES": "tests.probes,tests.faults.mortal_probes",
    }
    command = [str(BIN / "dramatiq"), "workers", "--processes", "1", "--threads", "2"]
    made = Started(command, environment, tmp_path / "plain.log")
    yield made
    kill_tree(made.process)
    print("worker:", made.output)


@on_sqlite
def test_plain_dramatiq_workers_end_with_a_status_of_their_own_when_a_thread_dies(plain: Started, paper: Path) -> None:
    mortal_probes.leave_a_bomb.send(str(paper))

    assert plain.process.wait(timeout=90) == EXIT_UNWELL
    assert "1 of 2 worker threads are left" in plain.output


@on_sqlite
def test_a_worker_process_does_not_outlive_its_main_process(plain: Started) -> None:
    wait_until(lambda: "Worker process is ready" in plain.output, within_s=30, what="the worker")
    (worker,) = psutil.Process(plain.process.pid).children()

    plain.process.kill()
    plain.process.wait(timeout=90)

    wait_until(lambda: has_ended(worker), within_s=20, what="the end of the worker process")
