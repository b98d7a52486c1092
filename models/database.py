"""The one database: which it is, how it is opened, and what its errors mean to a person.

`bind(url)` names it; `writing()` and `reading()` are the only ways in. Both give a SQLModel session whose
transaction commits when the block ends and rolls back when it raises.

SQLite takes part with three rules (spec/traps.md 20, 23): WAL, so that readers never wait for the writer; a writing
transaction starts with BEGIN IMMEDIATE, because one that starts deferred and upgrades later fails at once with
"database is locked" whatever the time-out; and a busy time-out for the wait itself.

Must not: read the environment, or hold tables.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlmodel import Session

SQLITE_BUSY_TIMEOUT_MS = 30_000
"""How long a SQLite writer waits for another's transaction before it is an error."""

POSTGRES_CONNECT_TIMEOUT_S = 5
POOL_SIZE = 5
POOL_OVERFLOW = 15
"""A process opens at most POOL_SIZE + POOL_OVERFLOW connections; PostgreSQL's max_connections must hold them all."""

_READ_ONLY = "callboard_read_only"


class DatabaseError(Exception):
    """The database did not do what was asked; the message says which database, what it said, and the mend."""


class DatabaseUnavailable(DatabaseError):
    """The database cannot be reached or opened now. Trying again later may help."""


class SchemaMissing(DatabaseError):
    """The database answers but its tables are not there or are older than this code: run `callboard migrate`."""


_engine: Engine | None = None


def normalise_url(url: str) -> str:
    """Accept the forms that people have in DATABASE_URL and return SQLAlchemy's, with our driver.

    Args:
        url: `sqlite:///path`, `postgresql://…`, `postgres://…` or `postgresql+psycopg://…`.

    Raises:
        ValueError: not a database URL, or a database other than SQLite and PostgreSQL.
    """
    try:
        parsed = make_url(re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url))
    except (ArgumentError, ValueError):
        raise ValueError("expected sqlite:///path/to/file.db or postgresql://user:password@host/database") from None
    if parsed.drivername not in ("sqlite", "postgresql+psycopg"):
        raise ValueError(f"expected sqlite:/// or postgresql://, got the scheme {parsed.drivername!r}")
    if parsed.drivername == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise ValueError("expected a file, as in sqlite:///var/callboard.db: processes cannot share a memory database")
    return parsed.render_as_string(hide_password=False)


def bind(url: str) -> None:
    """Name the database that `reading()` and `writing()` use from here on. Opens no connection.

    Args:
        url: as `normalise_url` takes it.
    """
    global _engine
    if _engine is not None:
        _engine.dispose()
    _engine = _make_engine(normalise_url(url))


def engine() -> Engine:
    """The bound engine; raises DatabaseError if `bind` has not been called."""
    if _engine is None:
        raise DatabaseError("no database is bound: import `workers` first, or call models.database.bind(url)")
    return _engine


def describe() -> str:
    """The bound database as text for people, its password hidden."""
    return engine().url.render_as_string(hide_password=True)


@contextmanager
def writing() -> Iterator[Session]:
    """A session for a transaction that writes. Keep it short: on SQLite every other writer waits for it.

    Raises:
        DatabaseUnavailable: it could not be reached, opened or locked in time; nothing was committed.
        SchemaMissing: the tables are not there.
    """
    with _explained(), Session(engine(), expire_on_commit=False) as session, session.begin():
        yield session


@contextmanager
def reading() -> Iterator[Session]:
    """A session that only reads; it never waits for a writer. Raises as `writing()` does."""
    with (
        _explained(),
        engine().connect().execution_options(**{_READ_ONLY: True}) as connection,
        Session(connection, expire_on_commit=False) as session,
    ):
        yield session


@contextmanager
def _explained() -> Iterator[None]:
    """Turn driver errors that mean "not reachable" or "not migrated" into ours; let all others through."""
    try:
        yield
    except PoolTimeout as error:
        raise DatabaseUnavailable(
            f"all {POOL_SIZE + POOL_OVERFLOW} connections of this process to {describe()} are in use: "
            "run fewer threads a process (CALLBOARD_THREADS) and more processes"
        ) from error
    except DBAPIError as error:
        explained = explain(error)
        if explained is error:
            raise
        raise explained from error


def explain(error: DBAPIError) -> Exception:
    """A driver's error as one of ours if it means "not reachable" or "not migrated", else the error itself."""
    said = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
    if "no such table" in said or "no such column" in said or type(error.orig).__name__.startswith("Undefined"):
        return SchemaMissing(f"the database {describe()} is not up to date ({said}): run `callboard migrate`")
    path = sqlite_path()
    if path is not None and not path.exists() and path.parent.is_dir():
        return SchemaMissing(f"there is no database {path} yet: run `callboard migrate`, or `callboard up`")
    if isinstance(error, OperationalError) or error.connection_invalidated or _refuses_use(error, said):
        return DatabaseUnavailable(
            f"the database {describe()} cannot be used ({said}): "
            "check that it is running, reachable and writable, or set CALLBOARD_DATABASE_URL"
        )
    return error


def _refuses_use(error: DBAPIError, said: str) -> bool:
    # why: neither is an OperationalError, yet both mean that nothing can be done with this database as it is.
    return said == "file is not a database" or type(error.orig).__name__ == "InsufficientPrivilege"


def _make_engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.drivername == "sqlite":
        made = create_engine(
            parsed,
            pool_size=POOL_SIZE,
            max_overflow=POOL_OVERFLOW,
            connect_args={"timeout": SQLITE_BUSY_TIMEOUT_MS / 1000, "check_same_thread": False},
        )
        event.listen(made, "connect", _configure_sqlite)
        event.listen(made, "begin", _begin_sqlite)
    else:
        made = create_engine(
            parsed,
            pool_size=POOL_SIZE,
            max_overflow=POOL_OVERFLOW,
            pool_pre_ping=True,
            connect_args={"connect_timeout": POSTGRES_CONNECT_TIMEOUT_S, "application_name": "callboard"},
        )
    return made


def _forget_connections() -> None:
    if _engine is not None:
        _engine.dispose(close=False)


# why: a connection opened before fork() is shared by both sides afterwards and breaks (spec/traps.md 24).
os.register_at_fork(after_in_child=_forget_connections)


def _configure_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # why: sqlite3 would otherwise open deferred transactions by itself.
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    read_only = connection.get_execution_options().get(_READ_ONLY, False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def sqlite_path() -> Path | None:
    """The file of a bound SQLite database; None on PostgreSQL."""
    url = engine().url
    return Path(url.database) if url.drivername == "sqlite" and url.database else None
