"""Cancelling races with starting (faults row 9): who is answered cancelled never runs.

Where the answer is "requested", a worker has it already: it runs, or it is cancelled before it does.
"""

import threading
from pathlib import Path
from queue import SimpleQueue

from models.task import TERMINAL, TaskStatus
from tests import probes
from tests.faults.conftest import StartWorker
from tests.scale import FULL
from tests.servers import wait_until
from workers import tasks

PAIRS = 10_000 if FULL else 300
CANCELLERS = 2


def test_a_task_that_was_answered_cancelled_never_ran(start_worker: StartWorker, tmp_path: Path) -> None:
    paper = tmp_path / "paper"
    start_worker()
    probes.note.send(str(paper), "awake")
    wait_until(lambda: probes.lines(paper) == ["awake"], within_s=20, what="the worker to be awake")
    sent: SimpleQueue[str | None] = SimpleQueue()
    answers: dict[str, bool] = {}

    def cancel() -> None:
        while (task_id := sent.get()) is not None:
            answers[task_id] = tasks.request_cancel(task_id) is tasks.CancelOutcome.CANCELLED

    cancellers = [threading.Thread(target=cancel) for _ in range(CANCELLERS)]
    for thread in cancellers:
        thread.start()
    tokens: dict[str, str] = {}
    for number in range(PAIRS):
        task_id = probes.note.send(str(paper), f"task {number}").message_id
        tokens[task_id] = f"task {number}"
        sent.put(task_id)
    for _ in cancellers:
        sent.put(None)
    for thread in cancellers:
        thread.join()

    def status(task_id: str) -> str:
        row = tasks.get_task(task_id)
        assert row is not None
        return row.status

    wait_until(lambda: tasks.get_task_count() == sum(tasks.get_task_count(one) for one in TERMINAL),
               within_s=60, what="each row to be terminal")  # fmt: skip
    ran = probes.lines(paper)
    assert len(ran) == len(set(ran))
    ran_ids = {task_id for task_id, token in tokens.items() if token in set(ran)}
    cancelled_ids = {task_id for task_id, answer in answers.items() if answer}
    print(f"{len(cancelled_ids)} of {PAIRS} were cancelled before they started")
    assert not ran_ids & cancelled_ids
    assert {status(task_id) for task_id in set(tokens) - ran_ids} <= {TaskStatus.CANCELLED}
    assert {status(task_id) for task_id in ran_ids} <= {TaskStatus.COMPLETED, TaskStatus.CANCELLED}
