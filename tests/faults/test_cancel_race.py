"""Cancelling races with starting (faults row 9): each task is either answered cancelled and never runs, or it runs."""

import threading
from pathlib import Path
from queue import SimpleQueue

from models.task import TERMINAL, TaskStatus
from tests import probes
from tests.faults.conftest import StartWorker
from tests.servers import wait_until
from tests.soak.sender import was_cancelled
from tests.workers.broker.scale import FULL
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
            answers[task_id] = was_cancelled(tasks.cancel_task(task_id))

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
    assert ran_ids | cancelled_ids == set(tokens)
    assert {status(task_id) for task_id in cancelled_ids} <= {TaskStatus.CANCELLED}
    assert {status(task_id) for task_id in ran_ids} <= {TaskStatus.COMPLETED}
