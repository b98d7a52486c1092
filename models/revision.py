"""At which revision the database is, and at which this code needs it: asked at the start of every worker.

Alembic writes the first into its own table, and knows the second from the steps, whose files are named after their
numbers. It is not asked itself: it takes 15 MB, and only `callboard migrate` has a use for it (models.schema).
"""

from pathlib import Path

from models import direct
from models.database import SchemaMissing

MIGRATIONS_DIR = Path(__file__).resolve().parent / "migrations"


def known() -> set[str]:
    """The revisions that this code has a step to."""
    return {step.name.partition("_")[0] for step in (MIGRATIONS_DIR / "versions").glob("[0-9]*_*.py")}


def head() -> str:
    """The revision that this code needs."""
    return max(known())


def current() -> str | None:
    """The revision that the bound database has; None for an empty one.

    Raises:
        DatabaseUnavailable: it cannot be opened.
    """
    try:
        with direct.reading() as to:
            rows = to.run("SELECT version_num FROM alembic_version ORDER BY version_num")
    except SchemaMissing:
        return None
    return ", ".join(row[0] for row in rows) or None
