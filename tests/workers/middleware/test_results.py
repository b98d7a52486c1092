"""Dramatiq's own ways to a result, answered from the ledger; the tasks run in a real worker process."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from dramatiq import Message, group, pipeline
from dramatiq.results import ResultFailure, ResultMissing, ResultTimeout
from sqlalchemy import update

from models import database
from models.task import Task
from tests import probes
from tests.faults.conftest import StartWorker, start_worker
from tests.servers import wait_until
from workers import tasks

__all__ = ["start_worker"]

pytestmark = pytest.mark.usefixtures("ledger_database")
PATIENCE_MS = 40_000


def test_groups_and_pipelines_give_their_results(start_worker: StartWorker, tmp_path: Path) -> None:
    paper = tmp_path / "evidence"
    made = group([probes.add.message(number, 1) for number in range(3)])
    made.add_completion_callback(probes.note.message(str(paper), "done"))
    nested = group([group([probes.add.message(1, 1)]), pipeline([probes.add.message(1, 1), probes.add.message(10)])])
    assert (made.run(), nested.run()) == (made, nested)
    assert (made.completed_count, made.completed) == (0, False)

    start_worker()

    made.wait(timeout=PATIENCE_MS)
    assert (made.completed_count, made.completed) == (3, True)
    assert list(made.get_results()) == [1, 2, 3]
    assert list(nested.get_results(block=True, timeout=PATIENCE_MS)) == [[2], 12]
    assert nested.completed
    wait_until(lambda: probes.lines(paper) == ["done"], within_s=20, what="the callback")


def test_a_failure_a_skip_and_a_retried_task_end_as_they_do_in_stock_dramatiq(
    start_worker: StartWorker, tmp_path: Path
) -> None:
    failed, skipped = probes.refuse.send(), probes.skip.send()
    retried = probes.fail_times.send(str(tmp_path / "evidence"), 1)
    cancelled = probes.add.send_with_options(args=(1, 1), delay=3_600_000)
    assert tasks.cancel_task(cancelled.message_id, by="Ada")

    start_worker()

    with pytest.raises(ResultFailure, match="actor raised PermanentError: this will never work") as raised:
        failed.get_result(block=True, timeout=PATIENCE_MS)
    assert (raised.value.orig_exc_type, raised.value.orig_exc_msg) == ("PermanentError", "this will never work")
    assert skipped.get_result(block=True, timeout=PATIENCE_MS) is None
    assert retried.get_result(block=True, timeout=PATIENCE_MS) == 2
    with pytest.raises(ResultFailure, match="the task was cancelled by Ada"):
        cancelled.get_result()


def _prune(message: Message[Any]) -> None:
    with database.writing() as session:
        pruned = {"status": "completed", "result_pruned_at": datetime.now(UTC)}
        session.execute(update(Task).where(Task.task_id == message.message_id).values(**pruned))  # type: ignore[arg-type]  # SQLModel's columns


@pytest.mark.usefixtures("bus")
@pytest.mark.parametrize("happens", [lambda _message: None, _prune], ids=["it waits", "its result is pruned"])
def test_a_result_that_is_not_there_is_missing(happens: Callable[[Message[Any]], None]) -> None:
    message = probes.add.send(1, 1)
    happens(message)

    with pytest.raises(ResultMissing):
        message.get_result()
    with pytest.raises(ResultTimeout):
        message.get_result(block=True, timeout=50)
    with pytest.raises(ResultMissing):
        probes.add.message(1, 1).get_result()
