"""Brings the database's tables to this code's version, and back.

Concurrent calls are safe: PostgreSQL takes an advisory lock, SQLite a lock file beside the database; the second caller
waits and finds nothing to do. Each migration runs in a transaction, so a crash leaves the step before it.

Must not: hold table definitions (models) or steps (models/migrations/versions).
"""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from models import database, sessions
from models.revision import MIGRATIONS_DIR, current, head

__all__ = ["current", "downgrade", "head", "upgrade"]

_ADVISORY_LOCK = 0x63616C6C  # "call"


def upgrade(target: str = "head") -> str:
    """Bring the bound database up to a revision and return it. Makes the SQLite file and its folder if need be."""
    return _move(lambda config: command.upgrade(config, target))


def downgrade(target: str = "-1") -> str:
    """Take the bound database back: one step by default, `base` for an empty database; returns the revision.

    Raises:
        DatabaseError: there is nothing to go back to.
    """
    if current() is None:
        raise database.DatabaseError(f"the database {database.describe()} is empty: there is nothing to go back to")
    return _move(lambda config: command.downgrade(config, target))


def _move(step: Callable[[Config], None]) -> str:
    path = database.sqlite_path()
    if path is not None:
        try:
            path.parent.mkdir(exist_ok=True, mode=0o700)  # why: not its parents, a misspelt path must not be made.
        except OSError as error:
            raise database.DatabaseUnavailable(
                f"the folder {path.parent} cannot be made ({error.strerror}): set CALLBOARD_VAR_DIR or "
                "CALLBOARD_DATABASE_URL to a place that is writable"
            ) from error
    try:
        with _locked(path), database.engine().connect() as connection, connection.begin():
            if path is None:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
            step(_config(connection))
            return MigrationContext.configure(connection).get_current_revision() or "base"
    except DBAPIError as error:
        raise sessions.explain(error) from error
    except CommandError as error:
        raise database.DatabaseError(
            f"the database {database.describe()} cannot be moved to that revision ({error}): this code knows the "
            f"revisions up to {head()}; use the code that the database was migrated with, or name another revision"
        ) from error


@contextmanager
def _locked(path: Path | None) -> Iterator[None]:
    if path is None:
        yield
        return
    try:
        lock = path.with_name(path.name + ".migrate.lock").open("w")
    except OSError as error:
        raise database.DatabaseUnavailable(
            f"the folder {path.parent} is not writable ({error.strerror}): mend its permissions, or set "
            "CALLBOARD_DATABASE_URL"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS_DIR).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
