"""Driver-level connections for the statements that every task pays for: no ORM, no pool events, no dialect layer.

`transaction()` gives one for a short transaction that writes, `single()` one for a single statement that does. Both
databases show the same few methods, and the same errors as `models.database` (DatabaseUnavailable, SchemaMissing); any
other error of the driver comes through.

SQLite: as in `models.database`, writers queue at the gate.
PostgreSQL: see models.postgres, which loads psycopg and is imported only where that is the database.

A connection is used by one thread at a time and kept for the next. After an error it is closed, never reused: nobody
knows what state it is in. After a fork the child forgets the parent's.

Must not: hold SQL of moves (models.task_moves); import SQLAlchemy, or the driver of a database that is not used.
"""

import atexit
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from models import database
from models.database import DatabaseUnavailable, SchemaMissing
from models.url import DatabaseUrl

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from models.postgres import PostgresDirect

_KEPT: Final = 20
"""Idle connections kept a process; more are closed after use."""
_READS, _WRITES, _WRITES_ALONE = 0, 1, 2
"""What a connection is lent for."""


class Direct(Protocol):
    """One connection, in a transaction that writes."""

    dialect: str

    def run(self, sql: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Execute; returns the rows of RETURNING or SELECT."""
        ...

    def run_counted(self, sql: str, arguments: Sequence[Any] = ()) -> int:
        """Execute; returns how many rows were changed."""
        ...

    def run_counted_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> int:
        """Execute once for each; returns how many rows were changed."""
        ...

    def atomic(self) -> Any:
        """A block of which all or nothing happens, inside the transaction if there is one."""
        ...


class SqliteDirect:
    """A SQLite connection."""

    dialect = "sqlite"
    errors: tuple[type[Exception], ...] = (sqlite3.Error, OSError)
    """What its driver raises."""
    unusable: tuple[type[Exception], ...] = (sqlite3.OperationalError, OSError)
    """Those of them that mean that the database cannot be used now."""

    def __init__(self, url: DatabaseUrl) -> None:
        path = Path(url.database or "")
        self._connection = sqlite3.connect(
            path, timeout=database.SQLITE_WAIT_S, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        for pragma in database.SQLITE_PRAGMAS:
            self._connection.execute(f"PRAGMA {pragma}")
        self._gate = database.Gate(path)
        self._use = _READS
        self._has_begun = False

    def begin(self, use: int) -> None:
        """Queue for the write lock and take it; who only reads needs none."""
        self._use, self._has_begun = use, False
        if use != _READS:
            self._has_begun = self._gate.begin(self._connection.execute, alone=use == _WRITES_ALONE)

    def end(self, *, commit: bool) -> None:
        """Commit or roll back, and let the next one in."""
        if self._use == _READS:
            return
        try:
            if self._has_begun:
                self._connection.execute("COMMIT" if commit else "ROLLBACK")
        finally:
            self._gate.leave()

    def run(self, sql: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Execute; returns the rows."""
        try:
            return self._connection.execute(sql, arguments).fetchall()
        except sqlite3.OperationalError as error:
            self._wait_for_turn(error)
            return self._connection.execute(sql, arguments).fetchall()

    def run_counted(self, sql: str, arguments: Sequence[Any] = ()) -> int:
        """Execute; returns how many rows were changed."""
        try:
            return self._connection.execute(sql, arguments).rowcount
        except sqlite3.OperationalError as error:
            self._wait_for_turn(error)
            return self._connection.execute(sql, arguments).rowcount

    def run_counted_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> int:
        """Execute once for each; returns how many rows were changed."""
        return self._connection.executemany(sql, rows).rowcount

    def _wait_for_turn(self, error: sqlite3.OperationalError) -> None:
        """A single statement met a stranger's lock: it has done nothing, and waits on as a transaction does, with the
        gate open to the others in between. Any other error is raised."""
        if self._use != _WRITES_ALONE or self._has_begun or "locked" not in str(error):
            raise error
        self._gate.leave()
        time.sleep(database.SQLITE_PAUSE_S)
        self._has_begun = self._gate.begin(self._connection.execute)

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """A savepoint."""
        self._connection.execute("SAVEPOINT direct")
        try:
            yield
        except BaseException:  # why: whatever ends the block, what it did is undone.
            self._connection.execute("ROLLBACK TO direct")
            self._connection.execute("RELEASE direct")
            raise
        self._connection.execute("RELEASE direct")

    def is_gone(self) -> bool:
        """A file does not go."""
        return False

    def close(self) -> None:
        """End it."""
        self._gate.close()
        self._connection.close()


class Within:
    """A caller's session as a direct connection: what is run belongs to its transaction."""

    def __init__(self, session: "Session") -> None:
        self._session = session
        self.dialect = session.get_bind().dialect.name

    def run(self, sql: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Execute; returns the rows."""
        result = self._session.connection().exec_driver_sql(sql, tuple(arguments))
        return [tuple(row) for row in result.fetchall()] if result.returns_rows else []

    def run_counted(self, sql: str, arguments: Sequence[Any] = ()) -> int:
        """Execute; returns how many rows were changed."""
        return self._session.connection().exec_driver_sql(sql, tuple(arguments)).rowcount

    def run_counted_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> int:
        """Execute once for each; returns how many rows were changed."""
        return self._session.connection().exec_driver_sql(sql, [tuple(row) for row in rows]).rowcount

    def atomic(self) -> Any:
        """A savepoint."""
        return self._session.begin_nested()


_idle: "list[SqliteDirect | PostgresDirect]" = []
_idle_for: DatabaseUrl | None = None


def reading() -> "_Lent":
    """A connection for single statements that only read; never waits for a writer. Raises as `transaction`."""
    return _Lent(_READS)


def single() -> "_Lent":
    """A connection for one statement that writes and is a transaction by itself: on SQLite a third of the calls of a
    `transaction`, on PostgreSQL the same. Raises as `transaction`, and leaves as little behind."""
    return _Lent(_WRITES_ALONE)


def transaction() -> "_Lent":
    """A connection for one short transaction: committed when the block ends, rolled back when it raises.

    On PostgreSQL each statement is committed by itself, unless the block says `with connection.atomic()`.

    Raises:
        DatabaseUnavailable: it cannot be reached, opened or locked in time. Whether a commit was done is unknown if it
            is raised at the end of the block: make what you do repeatable.
        SchemaMissing: the tables are not there.
    """
    return _Lent(_WRITES)


class _Lent:
    """A connection for the length of a block. A class, because a generator would cost each send as much as its row."""

    __slots__ = ("_connection", "_use")

    def __init__(self, use: int) -> None:
        self._use = use
        self._connection: SqliteDirect | PostgresDirect | None = None

    def __enter__(self) -> "SqliteDirect | PostgresDirect":
        try:
            connection = self._connection = _take()
            connection.begin(self._use)
        except BaseException as error:  # why: whatever it is, the connection is in an unknown state.
            self._fail(error)
            raise
        return connection

    def __exit__(self, _type: type[BaseException] | None, error: BaseException | None, _traceback: object) -> None:
        connection = self._connection
        assert connection is not None
        if error is not None:
            with suppress(*connection.errors):
                connection.end(commit=False)
            self._fail(error)
            return
        try:
            connection.end(commit=True)
            if len(_idle) < _KEPT:
                _idle.append(connection)
            else:
                _discard(connection)
        except BaseException as failed:  # why: as above; an interrupt may have landed between any two steps.
            self._fail(failed)
            raise

    def _fail(self, error: BaseException) -> None:
        """Give the connection up; raises the driver's error as one of ours."""
        connection = self._connection
        if connection is not None:
            _discard(connection)
        if isinstance(error, (connection or _kind()).errors):
            explained = explain(error)
            if isinstance(explained, DatabaseUnavailable) and connection and connection.dialect == "postgresql":
                explained.was_executing = True
                explained.may_go_on = getattr(error, "sqlstate", None) is None
            raise explained from error


def explain(error: Exception) -> Exception:
    """A driver's error as one of ours if it means "not reachable" or "not migrated", else the error itself."""
    said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "no such table" in said or "no such column" in said or type(error).__name__.startswith("Undefined"):
        return SchemaMissing(f"the database {database.describe()} is not up to date ({said}): run `callboard migrate`")
    path = database.sqlite_path()
    if path is not None and not path.exists() and path.parent.is_dir():
        return SchemaMissing(f"there is no database {path} yet: run `callboard migrate`, or `callboard up`")
    refused = said == "file is not a database" or type(error).__name__ == "InsufficientPrivilege"
    if refused or isinstance(error, (*SqliteDirect.unusable, *_kind().unusable)):
        return DatabaseUnavailable(
            f"the database {database.describe()} cannot be used ({said}): "
            "check that it is running, reachable and writable, or set CALLBOARD_DATABASE_URL"
        )
    return error


def marked(to: Direct, statement: str) -> str:
    """A statement written with `?` for its values, as the connection's driver wants it."""
    return statement if to.dialect == "sqlite" else statement.replace("?", "%s")


def stamp(dialect: str, at: datetime | None) -> Any:
    """An aware UTC time as the columns of `models.columns.UtcDateTime` hold it."""
    if at is None or dialect == "postgresql":
        return at
    return at.isoformat(" ", "microseconds")[:26]


def unstamp(value: Any) -> datetime | None:
    """A time as the database gives it back, aware."""
    if value is None:
        return None
    parsed = datetime.fromisoformat(value) if isinstance(value, str) else value
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)


def run_for_ids(to: Direct, statement: str, task_ids: Sequence[str], *before: Any) -> list[tuple[Any, ...]]:
    """Execute a statement that ends with the column that is to be one of these ids.

    Args:
        before: values of its other marks.
    """
    values = [stamp(to.dialect, value) if isinstance(value, datetime) else value for value in before]
    if to.dialect != "sqlite":
        return to.run(marked(to, statement) + " = ANY(%s)", [*values, sorted(task_ids)])
    found: list[tuple[Any, ...]] = []
    for first in range(0, len(task_ids), 500):
        part = task_ids[first : first + 500]
        found += to.run(f"{statement} IN ({', '.join('?' * len(part))})", [*values, *part])
    return found


def forget() -> None:
    """Close the idle connections: the database was bound anew."""
    while _idle:
        _discard(_idle.pop())


def _kind() -> "type[SqliteDirect | PostgresDirect]":
    if database.sqlite_path() is not None:
        return SqliteDirect
    from models.postgres import PostgresDirect  # why: psycopg takes 9 MB, and only this database needs it.

    return PostgresDirect


def _take() -> "SqliteDirect | PostgresDirect":
    global _idle_for
    url = database.bound()
    if url is not _idle_for:
        forget()
        _idle_for = url
    while True:
        try:
            connection = _idle.pop()
        except IndexError:
            return _kind()(url)
        # why: one that a restart of the server broke would raise in mid-statement, and nobody could say what was done.
        if not connection.is_gone():
            return connection
        _discard(connection)


def _discard(connection: "SqliteDirect | PostgresDirect") -> None:
    with suppress(*connection.errors):
        connection.close()


def _forget_after_fork() -> None:
    global _idle
    # why: closing them here would end the parent's. They are kept from being collected, for the same reason.
    _abandoned.append(_idle)
    _idle = []


_abandoned: list[Any] = []
atexit.register(forget)
os.register_at_fork(after_in_child=_forget_after_fork)
