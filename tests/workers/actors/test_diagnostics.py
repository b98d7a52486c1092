"""`diagnostics.run_self_test`: progress, log lines, failure on demand, bounds."""

import pytest
from dramatiq import Worker

from models import database, task_query
from models.task import TaskStatus
from tests.servers import wait_until
from tests.workers.actors.running import ended, row
from workers import tasks
from workers.errors import InvalidTask

pytestmark = pytest.mark.usefixtures("system")


def test_progress_is_seen_while_it_runs(worker: Worker) -> None:
    task_id = tasks.enqueue_task("diagnostics.run_self_test", params={"steps": 4, "seconds": 1.6})

    wait_until(lambda: 0 < (row(task_id).progress or 0) < 1, within_s=10, what="progress between 0 and 1")
    seen = row(task_id)
    assert seen.status == TaskStatus.RUNNING
    assert (seen.progress_message or "").endswith(" of 4")
    assert (ended(task_id).progress, row(task_id).progress_message) == (1.0, "step 4 of 4")


def test_each_step_leaves_a_log_line(worker: Worker) -> None:
    task_id = tasks.enqueue_task("diagnostics.run_self_test", params={"steps": 3, "seconds": 0})

    ended(task_id)
    with database.reading() as session:
        lines = [(line.attempt, line.level, line.message) for line in task_query.logs(session, task_id)]
    assert lines == [(1, "info", f"step {step} of 3 done") for step in (1, 2, 3)]


def test_it_fails_at_the_step_that_it_was_asked_to(worker: Worker) -> None:
    task_id = tasks.enqueue_task("diagnostics.run_self_test", params={"steps": 3, "seconds": 0, "fail_at": 2})

    found = ended(task_id)
    assert (found.status, found.reason) == (TaskStatus.FAILED, "not retryable")
    assert found.error_message == "the self-test failed at step 2, as asked by fail_at=2"
    with database.reading() as session:
        last = task_query.logs(session, task_id)[-1]
    assert (last.level, last.message) == ("error", "step 2 of 3 fails, as asked")


@pytest.mark.parametrize(
    "params",
    [{"steps": 0}, {"steps": 1_001}, {"steps": "many"}, {"seconds": -0.1}, {"seconds": 3_601}, {"seconds": "NaN"},
     {"seconds": float("nan")}, {"seconds": float("inf")}, {"fail_at": 0}, {"steps": None}],
)  # fmt: skip
def test_what_is_out_of_bounds_is_refused(bus: object, params: dict[str, object]) -> None:
    (name,) = params

    with pytest.raises(InvalidTask, match=r"expected \(steps=5, seconds=1\.0, fail_at=None\)") as caught:
        tasks.enqueue_task("diagnostics.run_self_test", params=params)

    assert caught.value.field == f"params.{name}"
    assert tasks.get_task_count() == 0


@pytest.mark.parametrize("params", [{}, {"steps": 1_000, "seconds": 0}, {"steps": "7", "seconds": "0.5", "fail_at": 9}])
def test_what_is_within_bounds_is_taken(bus: object, params: dict[str, object]) -> None:
    assert tasks.enqueue_task("diagnostics.run_self_test", params=params)
