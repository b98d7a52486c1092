"""The one database: which it is, how it is opened, and what its errors mean to a person.

`bind(url)` names it; `writing()` and `reading()` are the only ways in. Both give a SQLModel session whose
transaction commits when the block ends and rolls back when it raises.

SQLite takes part with four rules (spec/traps.md 20, 23): WAL, so that readers never wait for the writer; a writing
transaction starts with BEGIN IMMEDIATE, because one that starts deferred and upgrades later fails at once with
"database is locked" whatever the time-out; writers of all processes queue at a lock file (`Gate`) before that, because
SQLite's own wait is a sleep that grows, so that under load the unlucky wait for many turns; and a busy time-out for
whoever does not come through the gate.

Must not: read the environment, or hold tables.
"""

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlmodel import Session

SQLITE_WAIT_S = 10.0
"""How long a SQLite writer waits for another's transaction before it is an error."""
SQLITE_PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "wal_autocheckpoint=4000")
"""Of every connection to SQLite. A checkpoint syncs twice and its commit waits for it; a row touches five pages, so at
SQLite's own 1,000 pages every 200th send pays, and a send costs half as much again. 4,000 are 16 MB."""

POSTGRES_CONNECT_TIMEOUT_S = 5
POOL_SIZE = 5
POOL_OVERFLOW = 15
"""A process opens at most POOL_SIZE + POOL_OVERFLOW connections; PostgreSQL's max_connections must hold them all."""

_READ_ONLY = "callboard_read_only"
_GATE = "callboard_gate"


class DatabaseError(Exception):
    """The database did not do what was asked; the message says which database, what it said, and the mend."""

    was_executing = False
    """Whether it went away while it was executing, so that what was asked may have been done all the same."""


class DatabaseUnavailable(DatabaseError):
    """The database cannot be reached or opened now. Trying again later may help."""


class SchemaMissing(DatabaseError):
    """The database answers but its tables are not there or are older than this code: run `callboard migrate`."""


_engine: Engine | None = None
_url = ""


class Gate:
    """Where SQLite's writers queue, one file beside the database; held from before BEGIN IMMEDIATE to the commit.

    Not for two threads at once. If its process dies the kernel lets go of it.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(f"{path}.write.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def begin(self, execute: Callable[[str], object], *, alone: bool = False) -> bool:
        """Wait for the turn, then execute BEGIN IMMEDIATE.

        Args:
            alone: what comes is a single statement, a transaction by itself: nothing to begin if there was no wait.

        Returns:
            Whether a transaction was begun.

        The wait for the one before is unbounded, but each holder's is not: who arrives here after SQLITE_WAIT_S has
        only one try left, so that a lock that a stranger holds costs all who wait the same.
        """
        arrived_s = time.monotonic()
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            waited_s = time.monotonic() - arrived_s
            if waited_s < 0.1:
                if not alone:
                    execute("BEGIN IMMEDIATE")
                return not alone
            execute(f"PRAGMA busy_timeout={max(1, round((SQLITE_WAIT_S - waited_s) * 1000))}")
            try:
                execute("BEGIN IMMEDIATE")
            finally:
                execute(f"PRAGMA busy_timeout={round(SQLITE_WAIT_S * 1000)}")
        except BaseException:  # why: an interrupt too must not leave with the gate shut behind it.
            self.leave()
            raise
        return True

    def leave(self) -> None:
        """Let the next one in."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """End it; whoever forgets it ends it too."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    __del__ = close


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
    global _engine, _url
    if _engine is not None:
        _engine.dispose()
    _url = normalise_url(url)
    _engine = _make_engine(_url)


def engine() -> Engine:
    """The bound engine; raises DatabaseError if `bind` has not been called."""
    if _engine is None:
        raise DatabaseError("no database is bound: import `workers` first, or call models.database.bind(url)")
    return _engine


def bound_url() -> str:
    """The bound database's URL, password and all; empty if `bind` has not been called."""
    return _url


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
    # why: none of them is an OperationalError, yet all mean that nothing can be done with this database as it is.
    return said == "file is not a database" or type(error.orig).__name__ in (
        "InsufficientPrivilege",
        "ReadOnlySqlTransaction",
    )


def _make_engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.drivername == "sqlite":
        made = create_engine(
            parsed,
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
    gate.begin(connection.exec_driver_sql)


def _leave_gate(connection: Connection) -> None:
    # why: SQLAlchemy says this just before the commit; who comes through the gate now waits for that instant only.
    gate = connection.info.get(_GATE)
    if gate is not None:
        gate.leave()


def sqlite_path() -> Path | None:
    """The file of a bound SQLite database; None on PostgreSQL."""
    url = engine().url
    return Path(url.database) if url.drivername == "sqlite" and url.database else None
