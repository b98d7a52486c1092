"""Sessions of SQLModel on the bound database: what `models.database.writing` and `reading` give.

Imported by the first of them, never before. Must not: hold tables, or know another database than the bound one.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlmodel import Session

from models.database import (
    POOL_OVERFLOW,
    POOL_SIZE,
    POSTGRES_CONNECT_TIMEOUT_S,
    SQLITE_PRAGMAS,
    SQLITE_WAIT_S,
    DatabaseUnavailable,
    Gate,
    SchemaMissing,
    describe,
    engine,
    sqlite_path,
)
from models.url import DatabaseUrl

_READ_ONLY = "callboard_read_only"
_READS = {_READ_ONLY: True}
"""Options of a connection that only reads."""
_POSTGRES_READS = {**_READS, "isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
"""All statements of a reader see the table as it was at the first, as on SQLite: a page that finds rows in one
statement and reads them in the next would show running ones as pending otherwise."""
_GATE = "callboard_gate"


def make_engine(url: DatabaseUrl) -> Engine:
    """The engine of a database. Opens no connection."""
    # why: a foreign key names its table by name, and a row can only be written once that table is known as well.
    from models import tables  # noqa: F401 - imported for what importing does; here, as tables may know databases

    if url.scheme == "sqlite":
        made = create_engine(
            url.render(),
            pool_size=POOL_SIZE,
            max_overflow=POOL_OVERFLOW,
            connect_args={"timeout": SQLITE_WAIT_S, "check_same_thread": False},
        )
        event.listen(made, "connect", _configure_sqlite)
        event.listen(made, "begin", _begin_sqlite)
        event.listen(made, "commit", _leave_gate)
        event.listen(made, "rollback", _leave_gate)
    else:
        made = create_engine(
            url.render(),
            pool_size=POOL_SIZE,
            max_overflow=POOL_OVERFLOW,
            pool_pre_ping=True,
            connect_args={"connect_timeout": POSTGRES_CONNECT_TIMEOUT_S, "application_name": "callboard"},
        )
    return made


@contextmanager
def writing() -> Iterator[Session]:
    """See models.database.writing."""
    with _explained(), Session(engine(), expire_on_commit=False) as session, session.begin():
        yield session


@contextmanager
def reading() -> Iterator[Session]:
    """See models.database.reading."""
    with (
        _explained(),
        engine().connect().execution_options(**_POSTGRES_READS if sqlite_path() is None else _READS) as connection,
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
    # why: none of them is an OperationalError, yet all mean that nothing can be done with this database as it is.
    return said == "file is not a database" or type(error.orig).__name__ in (
        "InsufficientPrivilege",
        "ReadOnlySqlTransaction",
    )


def _configure_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # why: sqlite3 would otherwise open deferred transactions by itself.
    for pragma in SQLITE_PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    if connection.get_execution_options().get(_READ_ONLY, False):
        connection.exec_driver_sql("BEGIN")
        return
    path = sqlite_path()
    assert path is not None
    gate = connection.info.get(_GATE)
    if gate is None:
        gate = connection.info[_GATE] = Gate(path)
    raw: sqlite3.Connection = connection.connection.dbapi_connection  # type: ignore[assignment]  # what pysqlite gives
    try:
        gate.begin(raw.execute)
    except sqlite3.Error as error:
        raise OperationalError("BEGIN IMMEDIATE", (), error) from error


def _leave_gate(connection: Connection) -> None:
    # why: SQLAlchemy says this just before the commit; who comes through the gate now waits for that instant only.
    gate = connection.info.get(_GATE)
    if gate is not None:
        gate.leave()
