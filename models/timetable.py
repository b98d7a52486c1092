"""Timetables: which set of declarations is in force, and when a scheduler was last alive.

During a rolling deploy processes of two codes run: the older one must not take the newer one's schedules away. So each
process says from time to time that its set is alive, and of those that are, the one that was brought last is in force.
"""

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import func, select
from sqlmodel import Field, Session, SQLModel, col

from models.columns import UtcDateTime
from models.direct import Direct
from models.task_moves import unstamp

IN_FORCE_S: Final = 60.0
"""A timetable whose processes have been silent for so long gives way to the one before it."""


class Timetable(SQLModel, table=True):
    """A set of declarations that some code brought."""

    __tablename__ = "timetables"

    revision: int | None = Field(default=None, primary_key=True)
    """Counts up: later brought is newer."""
    fingerprint: str = Field(max_length=64, unique=True)
    """Of the declarations."""
    asserted_at: datetime = Field(sa_type=UtcDateTime)
    """When a process that has it last said so."""


def assert_timetable(session: Session, fingerprint: str, now: datetime) -> bool:
    """Say that a process with these declarations is alive; returns whether they are the ones in force.

    Two processes that bring the same new one at once: the second's transaction fails, and is to be made again.
    """
    mine = session.execute(select(Timetable).where(col(Timetable.fingerprint) == fingerprint)).scalar_one_or_none()
    if mine is None:
        mine = Timetable(fingerprint=fingerprint, asserted_at=now)
        session.add(mine)
    mine.asserted_at = now
    session.flush()
    newest = session.execute(
        select(func.max(col(Timetable.revision))).where(
            col(Timetable.asserted_at) > now - timedelta(seconds=IN_FORCE_S)
        )
    ).scalar_one()
    return bool(newest == mine.revision)


def seen_at(to: Direct) -> datetime | None:
    """When a scheduler last said that it is alive; None if none ever did."""
    return unstamp(to.run("SELECT max(asserted_at) FROM timetables")[0][0])
