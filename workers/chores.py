"""The chores of upkeep for people and programs outside; REST and CLI show these same words.

What each chore does, and when it is due, is in workers.ledger.upkeep. Must not: do one.
"""

from typing import Any

from models import chore_query, database


def list_chores() -> list[dict[str, Any]]:
    """Every chore that was ever begun, by name.

    Returns:
        Of each its `name`; `last_run_at`, when the last run that succeeded began (None: none did yet), how long it took
        (`took_ms`) and what it found (`findings`, counts by name); `error`, what a later run failed with; `holder`, the
        process that had it last; `steady_since`, since when it is done without a gap. Times are aware UTC.

    Raises:
        DatabaseError: the table cannot be read.
    """
    with database.reading() as session:
        return [chore.model_dump(exclude={"held_until"}) for chore in chore_query.chores(session)]
