"""`callboard bench` measures what the rows say, with the workers that there are, and leaves nothing behind."""

import json

import pytest
from dramatiq import Worker

from models.task import TaskStatus
from tests.workers import well
from tests.workers.cli.conftest import Run, run
from workers import bench, tasks
from workers.errors import CallboardError, InvalidTask

__all__ = ["run"]


def test_it_measures_and_leaves_no_row(run: Run, sqlite_database: str, worker: Worker) -> None:
    ended = run("bench", "--tasks", "30", "--json")

    found = json.loads(ended.out)
    assert (ended.code, found["tasks"], found["completed"], found["workers"]) == (0, 30, 30, 1)
    assert 0 < found["wait_p50_s"] <= found["wait_p95_s"] <= found["drain_s"]
    assert 0 <= found["run_p50_s"] <= found["run_p95_s"]
    assert found["completed_per_s"] == pytest.approx(30 / found["drain_s"])
    assert tasks.get_task_count() == 0


def test_rows_that_are_kept_are_found_by_what_it_says(run: Run, sqlite_database: str, worker: Worker) -> None:
    ended = run("bench", "--tasks", "3", "--keep")

    correlation_id = ended.out.rpartition("--correlation ")[2].strip()
    rows = tasks.find_tasks(tasks.make_filter(correlation_id=correlation_id)).rows
    assert ended.code == 0
    assert [(row.status, row.priority) for row in rows] == [(TaskStatus.COMPLETED, 1)] * 3


@pytest.mark.usefixtures("system")
def test_without_a_worker_nothing_is_sent() -> None:
    with pytest.raises(CallboardError, match="start one with `callboard worker`"):
        bench.Bench(5)

    assert tasks.get_task_count() == 0


@pytest.mark.usefixtures("system")
def test_what_does_not_end_in_time_is_cancelled_and_forgotten() -> None:
    well.alive()

    with bench.Bench(5) as running:
        running.send()
        running.wait(0.1)
        with pytest.raises(CallboardError, match="none of 5 tasks completed in time"):
            running.measured()

    assert tasks.get_task_count() == 0


@pytest.mark.parametrize("count", [0, -1, bench.MAX_TASKS + 1])
def test_a_count_out_of_bounds_is_refused(count: int) -> None:
    with pytest.raises(InvalidTask, match="tasks: expected 1–100,000"):
        bench.Bench(count)
