"""Tasks that always take their process down, beside a thousand good ones (faults row 10).

| task                                   | what must come of it                                                   |
|----------------------------------------|------------------------------------------------------------------------|
| kills itself, segfaults, eats memory   | failed as poison, after three deaths at most                           |
| a neighbour, wherever it ran           | completed, within a minute                                             |
| the worker                             | up, both processes                                                     |

What cannot be decoded never starts: tests/workers/broker/test_poison.py.
"""

from collections import Counter
from pathlib import Path

import psutil

from models import database, task_query
from models.task import TaskStatus
from tests import probes
from tests.faults import mortal_probes
from tests.faults.conftest import StartWorkers
from tests.servers import wait_until
from tests.workers.rows import row
from workers import callboard, tasks

NEIGHBOURS = 1_000
MAX_DEATHS = 3


def test_poison_is_quarantined_and_a_thousand_neighbours_complete(supervise: StartWorkers, tmp_path: Path) -> None:
    paper = tmp_path / "paper"
    workers = supervise()
    workers.wait_for_workers(2)

    def send_neighbours() -> list[str]:
        quarter = NEIGHBOURS // (len(mortal_probes.DEATHS) + 1)
        return tasks.send_many([probes.note.message(str(paper), "good", 0.01) for _ in range(quarter)])

    deadly: dict[str, str] = {}
    neighbours = send_neighbours()
    for how in mortal_probes.DEATHS:
        deadly[how] = mortal_probes.die.send(str(tmp_path / "deaths"), how).message_id
        neighbours += send_neighbours()
    wait_until(
        lambda: tasks.get_task_count(TaskStatus.COMPLETED) == NEIGHBOURS, within_s=60, what="each neighbour to complete"
    )
    wait_until(lambda: tasks.get_task_count(TaskStatus.FAILED) == len(deadly), within_s=60, what="the quarantine")

    assert {(row(task_id).status, row(task_id).reason) for task_id in deadly.values()} == {
        (TaskStatus.FAILED, "poison")
    }
    died = Counter(probes.lines(tmp_path / "deaths"))
    assert set(died) == set(deadly)
    assert max(died.values()) <= MAX_DEATHS
    for task_id in deadly.values():
        with database.reading() as session:
            *before, last = [attempt.outcome for attempt in task_query.attempts(session, task_id)]
        assert (set(before), last) == ({"lost"}, "crashed")
    assert {row(task_id).status for task_id in neighbours} == {TaskStatus.COMPLETED}
    assert workers.process.poll() is None
    # Each has died several times, so the next is started after the longest back-off.
    wait_until(lambda: all(map(psutil.pid_exists, workers.workers().values())), within_s=60, what="both processes")
    wait_until(lambda: callboard.broker.depth("jobs").live == 0, within_s=20, what="the bus to be empty")
