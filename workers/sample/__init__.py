"""Sample data: a small believable set of records, so that each actor can be tried at once; a domain a file.

Each module has `rows(now)`, new rows with ids of their own, about the time at which they are loaded (`upkeep` gets the
settings as well, which say where things are). Rows refer to each other by those ids, whichever module they stand in:
they are stored in the order in which their tables refer to another.

Only ever into the embedded database, and only where all tables that it would fill are empty.
"""

from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlmodel import SQLModel

from models import database
from workers.errors import CallboardError
from workers.sample import events, jobs, people, permits, reports, sla, tickets, upkeep
from workers.settings import Settings

DOMAINS = (people, reports, permits, sla, jobs, tickets, events)


def rows(settings: Settings, now: datetime) -> list[SQLModel]:
    """All rows, new ones at each call."""
    return [row for domain in DOMAINS for row in domain.rows(now)] + upkeep.rows(settings, now)


def load(settings: Settings, now: datetime | None = None) -> dict[str, int]:
    """Store the sample data, all of it or, if any of its tables has a row, none.

    Args:
        now: aware; about which time it is; by default the present.

    Returns:
        Table → how many rows were added; empty if none.

    Raises:
        CallboardError: the database is a configured one, where invented records have no place.
    """
    if not settings.is_embedded_database:
        raise CallboardError("sample data goes only into the embedded database: unset CALLBOARD_DATABASE_URL to try it")
    of_table: dict[str, list[SQLModel]] = {}
    for row in rows(settings, now or datetime.now(UTC)):
        of_table.setdefault(str(row.__tablename__), []).append(row)
    in_order = [table for table in SQLModel.metadata.sorted_tables if table.name in of_table]
    with database.writing() as session:
        if any(session.execute(select(func.count()).select_from(table)).scalar_one() for table in in_order):
            return {}
        for table in in_order:
            session.add_all(of_table[table.name])
            session.flush()  # why: rows without relationships are written in no particular order.
    return {table.name: len(of_table[table.name]) for table in in_order}
