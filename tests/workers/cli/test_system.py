"""`queues`, `workers`, `locks` and `top` in a terminal: what Python and REST say, with the same words."""

import json
import os
import pty
import select
import subprocess
import sys
from pathlib import Path

import pytest
from dramatiq import Worker

from models import database
from models.task import TaskStatus
from tests.servers import OwnRedis, end, wait_until
from tests.workers import well
from tests.workers.cli.conftest import Run
from tests.workers.rows import ended, row
from workers import callboard, queues
from workers.actors.diagnostics import run_self_test

COMMAND = str(Path(sys.executable).parent / "callboard")
_IN_OWN_TERMINAL = (
    "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], "
    "sys.argv[1:])"
)
"""A terminal of its own, so that Ctrl-C in it is a signal for this process alone."""

pytestmark = pytest.mark.usefixtures("system")


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal in which nothing is folded."""
    monkeypatch.setenv("COLUMNS", "150")


def test_a_queue_is_listed_paused_resumed_and_purged(run: Run) -> None:
    task_id = run_self_test.send().message_id

    assert run("queues", "pause", "health").out == "health paused: 1 waiting\n"
    listed = next(line for line in run("queues", "list").out.splitlines() if line.startswith("health"))
    assert listed.split()[:2] == ["health", "1"]
    assert listed.split()[-1] == "paused"
    assert run("queues", "resume", "health").out == "health resumed: 1 waiting\n"
    rows = json.loads(run("queues", "list", "--json").out)
    assert [one["name"] for one in rows] == [one["name"] for one in queues.list_queues()]
    assert run("queues", "purge", "health", "--yes").out == "health purged: 1 tasks cancelled\n"
    assert (row(task_id).status, row(task_id).reason) == (TaskStatus.CANCELLED, "by CLI, purging the queue")
    assert json.loads(run("queues", "purge", "health", "--yes", "--json").out)["cancelled"] == 0


def test_a_purge_of_more_than_one_call_takes_all(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run_self_test.send_many([{}] * 5)

    while (part := queues.purge_queue("health", by="a test", limit=2))["remaining"]:
        assert part["cancelled"] == 2

    assert part["cancelled"] == 1


def test_a_queue_that_nobody_has_is_wrong_usage(run: Run) -> None:
    for verb in ("pause", "resume", "purge"):
        ended_with = run("queues", verb, "helth")
        assert (ended_with.code, ended_with.error_lines) == (
            2, ["callboard: there is no queue 'helth': did you mean health?"]
        )  # fmt: skip


def test_with_redis_away_it_is_unavailable(run: Run, own_redis: OwnRedis) -> None:
    own_redis.kill()

    assert run("queues", "list").code == 3
    assert run("locks").code == 3


def test_workers_are_listed(run: Run, worker: Worker) -> None:
    listed = run("workers", "list")

    assert callboard.ledger.presence.worker_id in listed.out
    assert listed.out.endswith("1 of 1\n")
    found = json.loads(run("workers", "list", "--json").out)
    assert (found["total_count"], found["workers"][0]["alive"]) == (1, True)


def test_without_a_worker_it_says_how_to_start_one(run: Run) -> None:
    assert run("workers", "list").error_lines == ["no worker is alive: start one with `callboard worker`"]


def test_locks_are_listed_with_their_counts(run: Run, worker: Worker) -> None:
    from tests.workers.middleware.test_exclusive import gate, hold

    gate.set()
    ended(hold.send().message_id)
    gate.clear()

    (found,) = [one for one in json.loads(run("locks", "--json").out) if one["name"] == "house"]
    assert (found["holder"], found["acquired"], found["lost"]) == (None, 1, 0)
    assert "house" in run("locks").out


def test_top_shows_queues_workers_and_counts_once(run: Run) -> None:
    well.alive()
    run_self_test.send()

    out = run("top", "--once").out

    assert "now 0 running, 1 pending; in 5 min 0 completed, 0 failed, 0 cancelled" in out
    assert next(line for line in out.splitlines() if line.startswith("health")).split()[1] == "1"
    assert "h:1:w" in out
    assert json.loads(run("top", "--json").out)["stats"]["pending"] == 1


def test_top_with_redis_away_shows_the_rest(run: Run, own_redis: OwnRedis) -> None:
    well.alive()
    own_redis.kill()

    out = run("top", "--once").out

    assert "h:1:w" in out
    assert "Redis" in out


@pytest.mark.parametrize("key", [b"q", b"\x03"])
def test_top_lives_in_a_terminal_and_leaves_cleanly(key: bytes) -> None:
    well.alive()
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _IN_OWN_TERMINAL, COMMAND, "top", "--every", "0.2"], stdin=slave, stdout=slave,
        stderr=slave,
        env=os.environ | {"DATABASE_URL": database.bound_url(), "TERM": "xterm", "COLUMNS": "120", "LINES": "40"},
    )  # fmt: skip
    os.close(slave)
    shown = b""

    def reads(awaited: bytes) -> bool:
        nonlocal shown
        if select.select([master], [], [], 0.1)[0]:
            try:
                shown += os.read(master, 65_536)
            except OSError:  # why: so Linux says that the other side is closed.
                return True
        return awaited in shown

    try:
        wait_until(lambda: reads(b"h:1:w"), within_s=60, what="the picture")
        os.write(master, key)
        wait_until(lambda: reads(b"\x1b[?1049l"), within_s=30, what="the screen as it was")
        wait_until(lambda: reads(b"\0") or process.poll() is not None, within_s=30, what="its end")
        assert process.wait(timeout=90) == 0
    finally:
        end(process)
        os.close(master)
    assert b"Traceback" not in shown
