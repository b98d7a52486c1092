"""A system in which all is well but what a test breaks: a worker and a scheduler say that they live."""

from datetime import UTC, datetime, timedelta

from sqlmodel import col, delete

from models import database
from models.task import WorkerProcess
from models.timetable import Timetable


def alive(*, queues: list[str] | None = None, heard_of: timedelta = -timedelta(hours=1)) -> None:
    """A worker process that was heard of so long ago; by default it stays alive. queues: that it serves."""
    at = datetime.now(UTC) - heard_of
    with database.writing() as session:
        session.add(
            WorkerProcess(
                worker_id="h:1:w", hostname="h", pid=1, threads=1, started_at=at, heartbeat_at=at, queues=queues
            )
        )


def scheduling(*, heard_of: timedelta = timedelta(0)) -> None:
    """A scheduler that was heard of so long ago, and no other."""
    with database.writing() as session:
        session.execute(delete(Timetable).where(col(Timetable.revision).is_not(None)))
        session.add(Timetable(fingerprint="of a test", asserted_at=datetime.now(UTC) - heard_of))
