"""The one query behind every view of upkeep: which chores were done, by whom, and what they found.

Must not: take or record a chore (models.task_upkeep).
"""

from sqlalchemy import select
from sqlmodel import Session, col

from models.task_tables import Chore


def chores(session: Session) -> list[Chore]:
    """Every chore that some process has ever begun, by name."""
    return list(session.execute(select(Chore).order_by(col(Chore.name))).scalars())
