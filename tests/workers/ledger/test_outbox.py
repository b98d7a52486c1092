"""`send_in`: commit, and the task goes out; roll back, and it never existed; die between, and the relay sends it."""

import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
from dramatiq import Message, Worker
from sqlalchemy import create_engine
from sqlalchemy.orm import scoped_session, sessionmaker
from sqlmodel import Session

from models import database
from models.task import Task
from tests import probes
from tests.conftest import FAST
from tests.scale import FULL
from tests.servers import OwnRedis, wait_until
from workers import callboard, tasks
from workers.errors import InvalidTask
from workers.ledger.relay import relay

ROUNDS = 1_000 if FULL else 20
"""How often each way is gone; 1000 in the long form."""
PROJECT_DIR = Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.usefixtures("ledger_database", "bus")


def row(message: Message[object]) -> Task | None:
    return tasks.get_task(message.message_id)


def on_the_bus(*task_ids: str) -> set[str]:
    return set(task_ids) - callboard.broker.absent([("jobs", task_id) for task_id in task_ids])


def test_what_is_committed_goes_out_at_once_and_only_then() -> None:
    sent = []
    for _ in range(ROUNDS):
        with Session(database.engine()) as session:
            message = probes.note.send_in(session, "/dev/null")
            sent.append(message.message_id)
            session.commit()

    assert on_the_bus(*sent) == set(sent)
    found = [tasks.get_task(task_id) for task_id in sent]
    assert all(one is not None and one.enqueued_at is not None for one in found)
    assert relay(callboard.broker, grace_s=-1) == 0


def test_before_the_commit_there_is_nothing_for_others_to_see(bus: redis.Redis) -> None:
    with Session(database.engine()) as session:
        message = probes.note.send_in(session, "/dev/null")
        session.flush()

        assert row(message) is None
        assert on_the_bus(message.message_id) == set()
        session.commit()
    assert on_the_bus(message.message_id) == {message.message_id}


def test_what_is_rolled_back_never_existed() -> None:
    sent = []
    for number in range(ROUNDS):
        session = Session(database.engine())
        sent.append(probes.note.send_in(session, "/dev/null").message_id)
        session.rollback() if number % 2 else session.close()

    assert on_the_bus(*sent) == set()
    assert all(tasks.get_task(task_id) is None for task_id in sent)
    assert relay(callboard.broker, grace_s=-1) == 0


def test_a_rolled_back_savepoint_drops_its_sends_only() -> None:
    with Session(database.engine()) as session, session.begin():
        first = probes.note.send_in(session, "first")
        with session.begin_nested():
            kept = probes.note.send_in(session, "kept")
        savepoint = session.begin_nested()
        dropped = probes.note.send_in(session, "dropped")
        savepoint.rollback()
        last = probes.note.send_in(session, "last")
        assert on_the_bus(first.message_id, kept.message_id) == set()

    ids = {message.message_id for message in (first, kept, dropped, last)}
    assert on_the_bus(*ids) == ids - {dropped.message_id}
    assert row(dropped) is None


@pytest.mark.parametrize("moment", ["committed", "joined"])
def test_a_sender_killed_after_its_commit_loses_nothing_and_before_it_leaves_nothing(
    moment: str, ledger_database: str, own_redis: OwnRedis, tmp_path: Path
) -> None:
    paper = tmp_path / "sent"
    command = [sys.executable, "-m", "tests.workers.ledger.dying_senders", str(ROUNDS), moment, str(paper)]
    environment = {
        **os.environ, **FAST, "CALLBOARD_REDIS_URL": own_redis.url, "CALLBOARD_DATABASE_URL": ledger_database,
    }  # fmt: skip

    subprocess.run(command, cwd=PROJECT_DIR, env=environment, check=True, timeout=300)

    sent = probes.lines(paper)
    assert len(sent) == ROUNDS
    assert on_the_bus(*sent) == set()
    relayed = 0
    while some := relay(callboard.broker, grace_s=-1):
        relayed += some
    expected = set(sent) if moment == "committed" else set()
    assert (relayed, on_the_bus(*sent)) == (len(expected), expected)
    assert {task_id for task_id in sent if tasks.get_task(task_id)} == expected


def test_a_task_sent_in_a_transaction_runs(worker: Worker, tmp_path: Path) -> None:
    paper = tmp_path / "evidence"
    with Session(database.engine()) as session:
        message = probes.note.send_in(session, str(paper), "ran")
        session.commit()

    wait_until(lambda: (found := row(message)) and found.status == "completed", within_s=20, what="its end")
    assert probes.lines(paper) == ["ran"]


def test_the_options_of_a_send_hold_for_it_too() -> None:
    eta = datetime.now(UTC) + timedelta(hours=1)
    with Session(database.engine()) as session:
        message = probes.note.send_in_with_options(
            session, args=("/dev/null",), eta=eta, priority=9, correlation_id="c"
        )
        session.commit()

    found = row(message)
    assert found is not None
    assert found.eta is not None
    assert abs(found.eta - eta) < timedelta(seconds=10)
    assert (found.priority, found.correlation_id) == (9, "c")
    assert on_the_bus(message.message_id) == {message.message_id}


def test_wrong_parameters_are_refused_and_the_callers_transaction_goes_on() -> None:
    with Session(database.engine()) as session:
        with pytest.raises(InvalidTask, match=r"params\.paht: there is no such parameter; did you mean 'path'"):
            probes.note.send_in(session, paht="x")
        message = probes.note.send_in(session, "/dev/null")
        session.commit()

    assert row(message) is not None


def test_a_session_on_another_database_is_refused_and_says_what_to_do(tmp_path: Path) -> None:
    other = create_engine(f"sqlite:///{tmp_path / 'other.db'}")
    with Session(other) as session, pytest.raises(InvalidTask, match="expected one on Callboard's own database") as e:
        probes.note.send_in(session, "/dev/null")
    other.dispose()

    assert e.value.field == "session"
    assert "CALLBOARD_DATABASE_URL" in str(e.value)


def test_a_callers_own_engine_on_our_database_will_do(ledger_database: str) -> None:
    theirs = create_engine(database.normalise_url(ledger_database))
    make = scoped_session(sessionmaker(theirs))
    message = probes.note.send_in(make, "/dev/null")
    make.commit()
    make.remove()
    theirs.dispose()

    assert on_the_bus(message.message_id) == {message.message_id}


def test_a_bus_that_is_down_leaves_the_task_to_the_relay(own_redis: OwnRedis) -> None:
    own_redis.kill()
    with Session(database.engine()) as session:
        message = probes.note.send_in(session, "/dev/null")
        session.commit()

    found = row(message)
    assert found is not None
    assert found.enqueued_at is None


def test_a_session_is_forgotten_with_its_sends() -> None:
    def use() -> "weakref.ref[Session]":
        session = Session(database.engine())
        for _ in range(3):
            probes.note.send_in(session, "/dev/null")
            session.commit()
        session.close()
        return weakref.ref(session)

    found: Callable[[], Session | None] = use()
    gc.collect()

    assert found() is None
