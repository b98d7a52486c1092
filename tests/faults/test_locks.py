"""A lock's holder is killed, frozen or robbed: never two tokens at once in a store that compares them.

| what happens to the holder       | what must come of it                                                   |
|----------------------------------|------------------------------------------------------------------------|
| its worker is killed             | who waits has the lock after its ttl; its own next attempt later         |
| its worker is frozen, and wakes  | another has it with a higher token; the one that wakes is interrupted    |
| its lock is another's            | an isolated one is killed; its row says LockLost                         |
"""

import signal
import subprocess
from pathlib import Path

import psutil
import pytest
import redis

from models.task import TaskStatus
from tests import probes
from tests.faults import lock_probes
from tests.faults.conftest import StartWorker, kill_tree
from tests.servers import OwnRedis, wait_until
from tests.workers.rows import ended
from workers import callboard
from workers.broker.lock import HeldLock
from workers.broker.parcel import Delivery

MODULES = {"CALLBOARD_ACTOR_MODULES": "tests.faults.lock_probes"}
LONG_S = 60.0
pytestmark = pytest.mark.parametrize("ledger_database", ["sqlite"], indirect=True)


@pytest.fixture
def paper(tmp_path: Path) -> Path:
    return tmp_path / "evidence"


def said(paper: Path, what: str) -> list[int]:
    """The tokens of the lines that begin so."""
    return [int(line.rpartition(" ")[2]) for line in probes.lines(paper) if line.startswith(f"{what} ")]


def signal_tree(process: "subprocess.Popen[bytes]", number: int) -> None:
    for one in (*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)):
        one.send_signal(number)


def test_the_lock_of_a_killed_worker_is_free_after_its_ttl(start_worker: StartWorker, paper: Path) -> None:
    first = start_worker(**MODULES)
    killed = lock_probes.stay.send(str(paper), "killed", LONG_S).message_id
    wait_until(lambda: said(paper, "in killed") != [], within_s=30, what="the holder to run")
    waiting = lock_probes.stay.send(str(paper), "waiting").message_id
    kill_tree(first)
    start_worker(**MODULES)

    assert [ended(task_id).status for task_id in (waiting, killed)] == [TaskStatus.COMPLETED] * 2
    tokens = said(paper, "in")
    assert len(tokens) == 3
    assert tokens == sorted(set(tokens))


def test_a_frozen_holder_wakes_with_a_stale_token_and_is_interrupted(start_worker: StartWorker, paper: Path) -> None:
    lease = {"CALLBOARD_LEASE_S": "20"}  # its task is to stay its own meanwhile
    first = start_worker(**MODULES, **lease)
    frozen = lock_probes.stay.send(str(paper), "frozen", LONG_S).message_id
    wait_until(lambda: said(paper, "in frozen") != [], within_s=30, what="the holder to run")
    signal_tree(first, signal.SIGSTOP)
    start_worker(**MODULES, **lease)
    second = lock_probes.stay.send(str(paper), "second").message_id

    assert ended(second).status == TaskStatus.COMPLETED
    (stale,), (higher,) = said(paper, "in frozen"), said(paper, "in second")
    assert higher > stale
    signal_tree(first, signal.SIGCONT)
    wait_until(lambda: said(paper, "lost frozen") == [stale], within_s=30, what="the frozen one to be interrupted")
    row = ended(frozen)
    assert (row.status, row.error_type) == (TaskStatus.FAILED, "LockLost")


def test_an_isolated_holder_knows_its_token_and_is_killed_when_it_is_robbed(
    start_worker: StartWorker, own_redis: OwnRedis, paper: Path
) -> None:
    start_worker(**MODULES)
    robbed = lock_probes.stay_in_a_child.send(str(paper), "robbed", LONG_S).message_id
    wait_until(lambda: said(paper, "in robbed") != [], within_s=30, what="the holder to run")
    thief = Delivery(message_id="thief", record=b"", fence=1, losses=0, score="0", queue_name="jobs", owner="w",
                     claim=1)  # fmt: skip
    key = callboard.broker.bus_of("jobs").keys.prefix + "lock:vault"
    stolen: list[int] = []

    def is_robbed() -> bool:
        with redis.Redis.from_url(own_redis.url) as server:
            server.delete(key)
        taken = callboard.broker.locks.take("vault", "thief", thief, ttl_s=15, waits=False)
        if isinstance(taken, HeldLock):
            stolen.append(taken.token)
        return bool(stolen)

    wait_until(is_robbed, within_s=30, what="the thief to take the lock")

    row = ended(robbed)

    assert stolen[0] > said(paper, "in robbed")[0]
    assert (row.status, row.error_type) == (TaskStatus.FAILED, "LockLost")
    assert row.error_message is not None
    assert "could not be renewed" in row.error_message
