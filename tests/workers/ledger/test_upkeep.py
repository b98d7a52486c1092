"""Upkeep of several processes: whoever lives does it, and what dies in it holds nobody up for long."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dramatiq
import pytest
import redis

from models import direct, task_moves, task_upkeep
from models.task import TaskStatus
from tests.probes import lines, note, wait_for
from tests.servers import wait_until
from workers import Callboard, tasks
from workers.ledger import relay
from workers.ledger.rescue import Strays
from workers.ledger.upkeep import Findings, Upkeep

DIES_IN_A_CHORE = """
import os, signal
from workers import callboard
from workers.ledger.upkeep import Upkeep

def die():
    print("dying", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

Upkeep(callboard.broker, holder="mortal", settle_after_s=1.0, groups=die).run_due()
"""


def make(system: Callboard, holder: str, groups: Callable[[], Findings] | None = None, **more: Any) -> Upkeep:
    return Upkeep(system.broker, holder=holder, settle_after_s=0.2, reconcile_s=0.3, groups=groups, **more)


def last_run(name: str) -> datetime | None:
    with direct.reading() as to:
        standing = task_upkeep.standings(to).get(name)
    return standing and standing.last_run_at


def test_what_the_bus_lost_is_sent_by_a_process_that_never_swept(
    system: Callboard, bus: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.ledger.reconcile.YOUNG_S", 0.0)
    gone, here = make(system, "gone"), make(system, "here")
    gone.run_due()
    task_id = note.send("/dev/null").message_id
    bus.flushall()

    def is_back() -> bool:
        here.run_due()
        return bool(bus.hexists("{callboard}:messages", task_id))

    wait_until(is_back, within_s=20, what="the message to be back")


def test_a_bus_that_was_emptied_is_swept_out_of_turn(
    system: Callboard, worker: dramatiq.Worker, bus: redis.Redis
) -> None:
    wait_until(lambda: last_run("sweep"), within_s=20, what="the first sweep")
    swept_at = last_run("sweep")
    wait_until(lambda: system.broker.generation.number, within_s=20, what="the bus to be known")
    bus.flushall()

    wait_until(lambda: last_run("sweep") != swept_at, within_s=30, what="another one, long before its time")


@pytest.mark.usefixtures("ledger_database", "worker")
def test_a_relay_that_comes_too_late_has_nothing_run_again(system: Callboard, bus: redis.Redis, tmp_path: Path) -> None:
    paper = tmp_path / "paper"
    system.broker.pause_queue("jobs")
    task_id = note.send(str(paper)).message_id
    with direct.transaction() as to:
        task_moves.mark_published(to, [task_id], None)
        looked_at = task_upkeep.unsent(to, before=datetime.now(UTC) + timedelta(seconds=1), limit=10)
    system.broker.resume_queue("jobs")
    wait_until(lambda: status_of(task_id) == TaskStatus.COMPLETED, within_s=20, what="its end")
    wait_until(lambda: not bus.hlen("{callboard}:messages"), within_s=20, what="the first copy to leave the bus")

    assert relay.publish(system.broker, looked_at) == 1
    wait_until(lambda: not bus.hlen("{callboard}:messages"), within_s=20, what="the second copy to leave the bus")
    assert (lines(paper), len(tasks.attempts(task_id))) == (["ran"], 1)


def say_that_it_runs(task_id: str) -> None:
    """On the worker that the row names, for long."""
    with direct.transaction() as to:
        sql = "UPDATE background_tasks SET status = 'running', completed_at = NULL, result = NULL, started_at = ?"
        values = (direct.stamp(to.dialect, datetime.now(UTC) - timedelta(minutes=1)), task_id)
        to.run(direct.marked(to, f"{sql} WHERE task_id = ?"), values)
        to.run(direct.marked(to, "DELETE FROM task_attempts WHERE task_id = ?"), (task_id,))


@pytest.mark.usefixtures("ledger_database", "worker")
def test_a_row_that_only_says_that_a_live_worker_runs_it_goes_back(system: Callboard, tmp_path: Path) -> None:
    paper = tmp_path / "paper"
    task_id = note.send(str(paper)).message_id
    wait_until(lambda: status_of(task_id) == TaskStatus.COMPLETED, within_s=20, what="its end")
    say_that_it_runs(task_id)
    here = make(system, "here", interrupt=lambda _task_id: None)

    wait_until(lambda: here.run_due() or status_of(task_id) == TaskStatus.COMPLETED, within_s=20, what="its end")
    assert lines(paper) == ["ran", "ran"]
    assert [one["outcome"] for one in tasks.attempts(task_id)] == ["lost", "completed"]


@pytest.mark.usefixtures("ledger_database", "worker")
def test_what_a_live_worker_runs_is_left_to_it(system: Callboard, tmp_path: Path) -> None:
    paper, until = tmp_path / "paper", tmp_path / "until"
    task_id = wait_for.send(str(paper), "ran", str(until)).message_id
    wait_until(lambda: status_of(task_id) == TaskStatus.RUNNING, within_s=20, what="it to run")
    say_that_it_runs(task_id)
    strays = Strays(system.ledger)

    assert [strays.rescue() for _ in range(3)] == [0, 0, 0]
    until.touch()
    wait_until(lambda: status_of(task_id) == TaskStatus.COMPLETED, within_s=20, what="its end")
    assert [one["outcome"] for one in tasks.attempts(task_id)] == ["completed"]


def status_of(task_id: str) -> str | None:
    task = tasks.get_task(task_id)
    return task and task.status


def test_a_process_that_dies_in_a_chore_is_followed_by_another(system: Callboard, sqlite_database: str) -> None:
    child = subprocess.run(
        [sys.executable, "-c", DIES_IN_A_CHORE],
        env={**os.environ, "CALLBOARD_DATABASE_URL": sqlite_database},
        stdout=subprocess.PIPE,
        check=False,
    )
    assert child.stdout == b"dying\n"
    done: list[str] = []
    here = make(system, "here", groups=lambda: {"completed": done.append("done") or 0})

    here.run_due()
    assert done == [], "it is held"
    wait_until(lambda: here.run_due() or done, within_s=20, what="the chore to be taken over")


def test_a_chore_that_fails_says_so_and_is_tried_again(system: Callboard, caplog: pytest.LogCaptureFixture) -> None:
    answers: list[Findings | Exception] = [ValueError("no luck"), {"completed": 3}]

    def groups() -> Findings:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    here = make(system, "here", groups=groups)
    here.run_due()
    assert shown() == ("no luck", None)
    assert "the chore groups cannot be done now" in caplog.text

    wait_until(lambda: here.run_due() or not answers, within_s=20, what="another turn")
    assert shown() == (None, '{"completed": 3}')


def shown() -> tuple[str | None, str | None]:
    with direct.reading() as to:
        [(error, findings, last_run_at)] = to.run(
            "SELECT error, findings, last_run_at FROM chores WHERE name = 'groups'"
        )
    return error, findings if last_run_at else None
