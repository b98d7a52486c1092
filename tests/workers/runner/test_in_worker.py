"""Interrupts, retries by request, log lines and isolated tasks through the real worker, bus and database."""

import logging
import threading
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from dramatiq import Worker

from models import database, task_query
from models.task import TERMINAL, Task, TaskStatus
from tests.probes import lines
from tests.servers import wait_until
from tests.workers.runner import isolated_actors, running_actors
from workers import tasks
from workers.errors import Cancelled
from workers.runner.window import windows

pytestmark = pytest.mark.usefixtures("sqlite_database")


def row(task_id: str) -> Task:
    found = tasks.get_task(task_id)
    assert found is not None
    return found


def ended(task_id: str) -> Task:
    wait_until(lambda: row(task_id).status in TERMINAL, within_s=30, what=f"the end of {task_id}")
    return row(task_id)


def logged(task_id: str) -> list[tuple[str, str]]:
    with database.reading() as session:
        return [(line.level, line.message) for line in task_query.logs(session, task_id)]


@pytest.fixture
def paper(tmp_path: Path) -> Path:
    return tmp_path / "evidence"


def test_a_limit_that_passes_as_tasks_end_loses_none_and_costs_no_thread(worker: Worker) -> None:
    threads = threading.active_count()
    sent = [
        running_actors.end_about_then.send_with_options(
            args=(0.15 + number % 20 / 100, number % 2 == 0), time_limit=200 + number % 7 * 10
        ).message_id
        for number in range(120)
    ]
    sent += [running_actors.in_c.send_with_options(args=(0.4,), time_limit=100).message_id for _ in range(4)]

    found = [ended(task_id) for task_id in sent]

    assert {task.reason for task in found} == {None, "time limit", "retries exhausted"}
    assert all(task.result == "returned" for task in found if task.status == TaskStatus.COMPLETED)
    assert all(task.attempt == 1 for task in found)
    assert all(thread.is_alive() for thread in worker.workers)
    assert threading.active_count() == threads


def test_a_coroutine_is_waited_for_until_its_clean_up_is_done(worker: Worker, paper: Path) -> None:
    message = running_actors.clean_up_slowly.send_with_options(args=(str(paper), 2.0), time_limit=100)

    found = ended(message.message_id)

    assert (found.status, found.reason) == (TaskStatus.FAILED, "time limit")
    assert found.error_message == "the task ran longer than its time limit"
    assert lines(paper) == ["started", f"clean {message.message_id}"]


def test_a_cancelled_coroutine_ends_with_its_clean_up_and_is_not_retried(worker: Worker, paper: Path) -> None:
    message = running_actors.clean_up_slowly.send_with_options(args=(str(paper), 0.1), max_retries=3)
    wait_until(lambda: lines(paper) == ["started"], within_s=20, what="the coroutine to start")

    assert windows.interrupt(message.message_id, Cancelled)

    found = ended(message.message_id)
    assert (found.status, found.attempt, found.retry_count) == (TaskStatus.CANCELLED, 1, 0)
    assert lines(paper) == ["started", f"clean {message.message_id}"]


def test_a_coroutine_that_returns_in_spite_of_it_has_returned(worker: Worker) -> None:
    message = running_actors.insist.send_with_options(args=(7,), time_limit=100)

    assert ended(message.message_id).result == 7


def test_a_coroutine_that_awaits_nothing_stops_at_its_checkpoint(worker: Worker) -> None:
    message = running_actors.never_awaits.send_with_options(time_limit=100)

    assert ended(message.message_id).reason == "time limit"


def test_retry_with_a_delay_comes_back_then_and_uses_up_a_retry(worker: Worker, paper: Path) -> None:
    message = running_actors.put_off.send(str(paper), 700)

    found = ended(message.message_id)

    assert (found.reason, found.retry_count, found.attempt) == ("retries exhausted", 1, 2)
    (gap,) = [later - earlier for earlier, later in pairwise(map(datetime.fromisoformat, lines(paper)))]
    assert gap >= timedelta(milliseconds=700)


def test_without_jitter_the_back_off_is_exact(worker: Worker) -> None:
    message = running_actors.fail_evenly.send()

    wait_until(lambda: row(message.message_id).retry_count == 1, within_s=10, what="the retry")
    with database.reading() as session:
        (attempt,) = task_query.attempts(session, message.message_id)
    waiting = row(message.message_id)
    assert waiting.eta is not None
    assert attempt.finished_at is not None
    assert waiting.eta - attempt.finished_at == timedelta(seconds=2)


def test_what_a_task_logs_by_pythons_means_is_kept_and_bounded(worker: Worker) -> None:
    message = running_actors.write_lines.send(3)

    ended(message.message_id)
    kept = logged(message.message_id)
    assert kept[:3] == [("error", "line 0"), ("error", "line 1"), ("error", "line 2")]
    assert kept[3][1].startswith("it went wrong\nTraceback")
    assert len(kept) == 4
    assert not [one for one in logging.getLogger().handlers if type(one).__name__ == "TaskLogHandler"][1:]


def test_a_line_logged_within_a_transaction_of_the_task_waits_for_no_lock(worker: Worker) -> None:
    message = running_actors.log_in_a_transaction.send_with_options(time_limit=5_000)

    found = ended(message.message_id)
    assert (found.status, found.progress_message) == (TaskStatus.COMPLETED, "held")
    assert logged(message.message_id) == [("error", "in the middle")]


def test_an_isolated_task_has_its_row_its_lines_and_its_children(worker: Worker, paper: Path) -> None:
    message = running_actors.isolated_parent.send_with_options(args=(str(paper),), correlation_id="request-7")

    found = ended(message.message_id)

    assert found.status == TaskStatus.COMPLETED, found.error_message
    child = ended(str(found.result))
    assert (child.parent_id, child.correlation_id, child.status) == (
        message.message_id,
        "request-7",
        TaskStatus.COMPLETED,
    )
    assert logged(message.message_id) == [("warning", "sending")]
    assert lines(paper) == ["child"]


def test_an_isolated_task_that_dies_fails_alone(worker: Worker) -> None:
    dying = isolated_actors.die.send_with_options(args=("segfault",), max_retries=0)
    good = [isolated_actors.who.send(number).message_id for number in range(5)]

    found = ended(dying.message_id)
    assert (found.status, found.reason, found.error_type, found.attempt) == ("failed", "poison", "ChildDied", 3)
    assert found.error_message == "the task's child process was killed by SIGSEGV in mid-task"
    assert {ended(task_id).status for task_id in good} == {TaskStatus.COMPLETED}


def test_the_hard_limit_says_time_limit(worker: Worker, paper: Path) -> None:
    message = isolated_actors.spin.send_with_options(args=(str(paper),), max_retries=0)

    found = ended(message.message_id)
    assert (found.reason, found.error_message) == (
        "time limit",
        "the child process was killed at the hard limit of 0.4 s",
    )
