"""Upkeep of several processes: whoever lives does it, and what dies in it holds nobody up for long."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime

import dramatiq
import pytest
import redis

from models import direct, task_upkeep
from tests.probes import note
from tests.servers import wait_until
from workers import Callboard
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


def make(system: Callboard, holder: str, groups: Callable[[], Findings] | None = None) -> Upkeep:
    return Upkeep(system.broker, holder=holder, settle_after_s=0.2, reconcile_s=0.3, groups=groups)


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
