"""What a task reports: masked, bounded, and inert outside a worker."""

import pytest

from tests.workers.runner.conftest import Notes, as_task
from workers.errors import Cancelled, TimeLimitExceeded
from workers.runner import current
from workers.runner.current import LINES_PER_ATTEMPT, CurrentTask, current_task
from workers.runner.surround import run_here
from workers.runner.window import windows


class Interrupting(Notes):
    """A sink in whose midst an interrupt comes."""

    def log(self, task_id: str, attempt: int, level: str, line: str, at: object) -> None:
        """Be interrupted, and go on."""
        assert windows.interrupt(task_id, Cancelled)
        self.lines.append((task_id, attempt, level, line))


def test_an_interrupt_that_comes_while_a_line_is_kept_lands_after_it() -> None:
    sink = Interrupting()
    before = current.report_to(sink)

    with as_task(CurrentTask(id="t-1")) as task, pytest.raises(Cancelled):
        run_here(task, lambda: (task.log.info("kept"), pytest.fail("it went on")), (), {})
    current.report_to(before)

    assert sink.lines == [("t-1", 1, "info", "kept")]


def test_lines_of_an_attempt_are_bounded(notes: Notes) -> None:
    task = CurrentTask(id="t-1")

    for number in range(LINES_PER_ATTEMPT + 5):
        task.log.info("%d %s", number, "x" * 3_000)

    assert len(notes.lines) == LINES_PER_ATTEMPT
    assert len(notes.lines[0][3]) == 2_000


def test_a_checkpoint_raises_what_is_due(notes: Notes) -> None:
    with as_task(CurrentTask(id="t-1", time_limit_s=-1.0)) as task, pytest.raises(TimeLimitExceeded):
        run_here(task, lambda: current_task().checkpoint(), (), {})


def test_outside_a_worker_the_task_is_inert(notes: Notes) -> None:
    task = current_task()

    task.log.info("line")
    task.progress(1, 2)
    task.checkpoint()

    assert (task.id, notes.lines, notes.values) == (None, [], [])
