"""A worker process says that it is alive, and is seen to be gone when it stops or falls silent."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlmodel import select

from models import database
from models.task import WorkerProcess
from tests.servers import wait_until
from workers.ledger.presence import MISSED_BEATS, Presence

pytestmark = pytest.mark.usefixtures("ledger_database")
HEARTBEAT_S = 0.1


def rows() -> list[WorkerProcess]:
    with database.reading() as session:
        return list(session.exec(select(WorkerProcess)).all())


def beats_after(moment: datetime) -> Callable[[], bool]:
    return lambda: rows()[0].heartbeat_at > moment


def test_it_beats_while_it_lives_and_says_when_it_stops() -> None:
    presence = Presence(heartbeat_s=HEARTBEAT_S, threads=4)
    presence.start()
    (started,) = rows()

    wait_until(beats_after(started.heartbeat_at), within_s=5, what="a second beat")
    presence.stop()

    (stopped,) = rows()
    assert (started.worker_id, started.threads, started.stopped_at) == (presence.worker_id, 4, None)
    assert stopped.stopped_at is not None
    assert stopped.started_at == started.started_at


def test_a_process_that_starts_again_is_another_worker() -> None:
    presence = Presence(heartbeat_s=HEARTBEAT_S, threads=1)
    presence.start()
    first = presence.worker_id
    presence.stop()
    presence.take_id()
    presence.start()
    presence.stop()

    assert first != presence.worker_id
    assert {row.worker_id for row in rows()} == {first, presence.worker_id}


def test_a_worker_is_dead_after_five_missed_beats() -> None:
    now = datetime(2026, 11, 22, tzinfo=UTC)

    assert Presence(heartbeat_s=3.0, threads=1).alive_since(now) == now - timedelta(seconds=3.0 * MISSED_BEATS)
