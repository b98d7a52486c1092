"""Old and new code work on one bus while one replaces the other, again and again (faults row 13).

    old, old ──start new──→ old, new ──SIGTERM to the old──→ new, new ──…──→ and back, as a release is taken back

| task                                | what must come of it                                                     |
|-------------------------------------|--------------------------------------------------------------------------|
| of an actor that both know          | completed, in one execution: each is shorter than the grace of a stop    |
| of an actor that only the new knows | the old leaves it alone, uncounted; completed by the new, in one          |

Odd deploys bring the new code, even ones the old code back; the last one brings the new.
"""

import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from models.task import TaskStatus
from tests.faults import new_code
from tests.faults.conftest import StartWorker
from tests.scale import FULL
from tests.servers import wait_until
from tests.soak import actors, evidence
from tests.workers.rows import row
from workers import callboard, tasks

DEPLOYS = 21 if FULL else 3
OLD = "tests.soak.actors"
NEW = "tests.soak.actors,tests.faults.new_code"
PACE_S = 0.02
"""Between two sends: two workers of four threads are never without work, and never far behind."""
LONGEST_S = 0.4
"""Of a task; the grace of a stop is 3 s."""


@contextmanager
def load() -> Iterator[dict[str, list[str]]]:
    """Sends while the block lasts; the ids by what was sent."""
    sent: dict[str, list[str]] = {"known": [], "unknown to the old": []}
    enough = threading.Event()

    def send() -> None:
        number = 0
        while not enough.wait(PACE_S):
            seconds = LONGEST_S if number % 10 == 0 else 0.05
            sent["known"].append(actors.send(actors.slow, f"known {number}", seconds))
            if number % 5 == 0:
                sent["unknown to the old"].append(actors.send(new_code.announced, f"unknown {number}"))
            number += 1

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield sent
    finally:
        enough.set()
        sender.join()


@pytest.fixture
def witness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the tasks write; who sends writes there too."""
    monkeypatch.setenv(evidence.VARIABLE, str(tmp_path / "witness"))
    return tmp_path / "witness"


def test_deploys_with_old_and_new_code_side_by_side_lose_and_double_nothing(
    start_worker: StartWorker, witness: Path
) -> None:
    def starts_of(process: "subprocess.Popen[bytes]") -> list[evidence.Execution]:
        family = {one.pid for one in psutil.Process(process.pid).children(recursive=True)}
        return [run for runs in evidence.read(witness).executions.values() for run in runs if run.pid in family]

    def is_at_work(process: "subprocess.Popen[bytes]") -> None:
        before = len(starts_of(process))
        wait_until(lambda: len(starts_of(process)) > before, within_s=30, what="the worker to run tasks")

    with load() as sent:
        present = start_worker(CALLBOARD_ACTOR_MODULES=OLD)
        wait_until(lambda: len(sent["unknown to the old"]) > 5, within_s=20, what="tasks that the old does not know")
        waiting = sent["unknown to the old"][0]
        assert (row(waiting).status, row(waiting).attempt) == (TaskStatus.PENDING, 0)
        for number in range(DEPLOYS):
            following = start_worker(CALLBOARD_ACTOR_MODULES=NEW if number % 2 == 0 else OLD)
            is_at_work(following)
            is_at_work(present)
            present.send_signal(signal.SIGTERM)
            assert present.wait(timeout=90) == 0
            present = following

    everything = [task_id for ids in sent.values() for task_id in ids]
    wait_until(
        lambda: tasks.get_task_count(TaskStatus.COMPLETED) == len(everything), within_s=60, what="all to complete"
    )
    executions = evidence.read(witness).executions
    assert {task_id: len(runs) for task_id, runs in executions.items()} == dict.fromkeys(everything, 1)
    assert {(row(task_id).attempt, row(task_id).retry_count) for task_id in everything} == {(1, 0)}
    wait_until(lambda: callboard.broker.depth("jobs").live == 0, within_s=10, what="the bus to be empty")
