"""What `/metrics` shows agrees with the ledger after workers were killed under load; nobody counts from memory."""

import random
from collections import Counter
from pathlib import Path

from prometheus_client.openmetrics import parser
from sqlalchemy import func
from sqlmodel import col, select

from models import database
from models.task import TERMINAL, AttemptOutcome, Task, TaskAttempt, TaskStatus
from tests import probes
from tests.faults.conftest import StartWorker, kill_tree
from tests.servers import wait_until
from workers import tasks
from workers.metrics import exposition

KILLS = 4
TASKS = 300


def shown() -> Counter[str]:
    """The counters, as a scraper reads them, summed over actors and queues; those of an end are by its status."""
    text, _ = exposition("application/openmetrics-text; version=1.0.0")
    found: Counter[str] = Counter()
    for family in parser.text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            if sample.name.endswith(("_total", "_count")):
                name = sample.name.removeprefix("callboard_")
                found[sample.labels.get("status", name)] += int(sample.value)
    return found


def by_status() -> dict[str, int]:
    with database.reading() as session:
        rows = session.execute(select(col(Task.status), func.count()).group_by(col(Task.status))).all()
    return {str(status): int(count) for status, count in rows}


def attempts_that(*outcomes: AttemptOutcome) -> int:
    with database.reading() as session:
        statement = select(func.count()).where(col(TaskAttempt.outcome).in_(outcomes))
        return int(session.execute(statement).scalar_one())


def test_counters_agree_with_the_ledger_after_workers_were_killed(start_worker: StartWorker, tmp_path: Path) -> None:
    paper, dice = tmp_path / "evidence", random.Random(6)
    workers = [start_worker() for _ in range(2)]
    sent: list[str] = []
    for number in range(TASKS):
        kind = number % 10
        if kind == 0:
            sent.append(probes.fail_times.send(str(tmp_path / f"{number}"), 1).message_id)
        elif kind == 1:
            sent.append(probes.refuse.send().message_id)
        else:
            sent.append(probes.note.send(str(paper), f"{number}", 0.05).message_id)
    for task_id in dice.sample(sent, 10):
        tasks.request_cancel(task_id)
    for kill in range(KILLS):
        wait_until(lambda kill=kill: len(probes.lines(paper)) > 30 * (kill + 1), within_s=60, what="some tasks")
        kill_tree(workers.pop(0))
        workers.append(start_worker())
    wait_until(
        lambda: sum(count for status, count in by_status().items() if status in TERMINAL) == TASKS,
        within_s=90, what="the end of all tasks",
    )  # fmt: skip

    # why a wait: this one is counted by a chore, every ten seconds.
    wait_until(lambda: shown()["tasks_enqueued_total"] == TASKS, within_s=30, what="all tasks to be counted")

    found, rows = shown(), by_status()

    assert {name: found[name] for name in ("completed", "failed", "cancelled")} == {
        name: rows.get(TaskStatus(name), 0) for name in ("completed", "failed", "cancelled")
    }
    assert found["task_retries_total"] == attempts_that(AttemptOutcome.RETRIED) >= 10
    assert found["task_attempts_lost_total"] >= attempts_that(AttemptOutcome.LOST) >= 1
    ran = [outcome for outcome in AttemptOutcome if outcome is not AttemptOutcome.LOST]
    assert found["task_run_seconds_count"] == attempts_that(*ran)
