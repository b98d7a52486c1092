"""Driver-level connections for the statements that every task pays for: no ORM, no pool events, no dialect layer.

`transaction()` gives one for a short transaction that writes, `single()` one for a single statement that does. Both
databases show the same few methods, and the same errors as `models.database` (DatabaseUnavailable, SchemaMissing); any
other error of the driver comes through.

SQLite: as in `models.database`, writers queue at the gate.
PostgreSQL: connections are in autocommit, so that a single statement is a single round trip; `atomic()` is for more.
psycopg waits for ever for a server that is frozen: a watchdog shuts the socket after `ANSWER_WITHIN_S`.

A connection is used by one thread at a time and kept for the next. After an error it is closed, never reused: nobody
knows what state it is in. After a fork the child forgets the parent's.

Must not: hold SQL of moves (models.task_batches).
"""

import os
import select
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol

import psycopg
from sqlalchemy import make_url
from sqlalchemy.orm import Session

from models import database
from models.database import DatabaseUnavailable, SchemaMissing

ANSWER_WITHIN_S: Final = 15.0
"""How long one statement may take before its server counts as gone."""
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

    def __init__(self, path: Path) -> None:
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
        self._use = use
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
        return self._connection.execute(sql, arguments).fetchall()

    def run_counted(self, sql: str, arguments: Sequence[Any] = ()) -> int:
        """Execute; returns how many rows were changed."""
        return self._connection.execute(sql, arguments).rowcount

    def run_counted_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> int:
        """Execute once for each; returns how many rows were changed."""
        return self._connection.executemany(sql, rows).rowcount

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

    def close(self) -> None:
        """End it."""
        self._gate.close()
        self._connection.close()


class PostgresDirect:
    """A PostgreSQL connection in autocommit."""

    dialect = "postgresql"

    def __init__(self, url: str) -> None:
        parsed = make_url(url).set(drivername="postgresql")
        self._connection = psycopg.connect(
            parsed.render_as_string(hide_password=False),
            autocommit=True,
            connect_timeout=database.POSTGRES_CONNECT_TIMEOUT_S,
            application_name="callboard",
        )
        # why: the same few statements all the time. A transaction-pooling PgBouncer must be 1.21 or newer for it.
        self._connection.prepare_threshold = 3

    def begin(self, _use: int) -> None:
        """Nothing: a statement alone is a transaction."""
        _watchdog.watch(self)

    def end(self, *, commit: bool) -> None:
        """Nothing, as `begin`."""
        _watchdog.release(self)

    def run(self, sql: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Execute; returns the rows."""
        cursor = self._connection.execute(sql, arguments)
        return cursor.fetchall() if cursor.description is not None else []

    def run_counted(self, sql: str, arguments: Sequence[Any] = ()) -> int:
        """Execute; returns how many rows were changed."""
        return self._connection.execute(sql, arguments).rowcount

    def run_counted_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> int:
        """Execute once for each; returns how many rows were changed."""
        with self._connection.cursor() as cursor:
            cursor.executemany(sql, rows)
            return cursor.rowcount

    def atomic(self) -> Any:
        """A transaction, or a savepoint inside one."""
        return self._connection.transaction()

    def is_gone(self) -> bool:
        """Whether the server has closed it, or has anything to say although nothing was asked."""
        poller = select.poll()
        poller.register(self._connection.fileno(), select.POLLIN)
        return bool(poller.poll(0))

    def cut(self) -> None:
        """Shut the socket: whoever waits for an answer gets an error."""
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self._connection.fileno())) as alias:
            alias.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End it."""
        self._connection.close()


class Within:
    """A caller's session as a direct connection: what is run belongs to its transaction."""

    def __init__(self, session: Session) -> None:
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


class _Watchdog:
    """Cuts connections whose server has not answered in time. Its thread starts with the first connection."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since_s: dict[PostgresDirect, float] = {}
        self._started = False

    def watch(self, connection: PostgresDirect) -> None:
        """From now on it has `ANSWER_WITHIN_S`."""
        self._since_s[connection] = time.monotonic()
        if not self._started:
            with self._lock:
                if not self._started:
                    self._started = True
                    threading.Thread(target=self._run, name="callboard-database-watchdog", daemon=True).start()

    def release(self, connection: PostgresDirect) -> None:
        """It has answered."""
        self._since_s.pop(connection, None)

    def _run(self) -> None:
        while True:
            time.sleep(1.0)  # why: a watch, not a wait for anything
            overdue_s = time.monotonic() - ANSWER_WITHIN_S
            for connection, since_s in list(self._since_s.items()):
                if since_s < overdue_s:
                    self._since_s.pop(connection, None)
                    connection.cut()


_watchdog = _Watchdog()
_idle: list[SqliteDirect | PostgresDirect] = []
_idle_for = ""


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

    def __enter__(self) -> SqliteDirect | PostgresDirect:
        try:
            connection = self._connection = _take()
            connection.begin(self._use)
        except BaseException as error:  # why: whatever it is, the connection is in an unknown state.
            self._fail(error)
            raise
        return connection

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: object) -> None:
        connection = self._connection
        assert connection is not None
        if error is not None:
            with suppress(sqlite3.Error, psycopg.Error):
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
        if isinstance(error, sqlite3.Error | psycopg.Error | OSError):
            explained = explain(error)
            if isinstance(explained, DatabaseUnavailable) and isinstance(connection, PostgresDirect):
                explained.was_executing = True
            raise explained from error


_UNUSABLE: Final = (
    *(sqlite3.OperationalError, psycopg.OperationalError, psycopg.InterfaceError, OSError),
    psycopg.InternalError,  # why: a standby, or a primary that was demoted, says "read-only transaction" with it.
)


def explain(error: Exception) -> Exception:
    """A driver's error as one of ours if it means "not reachable" or "not migrated", else the error itself."""
    said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "no such table" in said or "no such column" in said or type(error).__name__.startswith("Undefined"):
        return SchemaMissing(f"the database {database.describe()} is not up to date ({said}): run `callboard migrate`")
    path = database.sqlite_path()
    if path is not None and not path.exists() and path.parent.is_dir():
        return SchemaMissing(f"there is no database {path} yet: run `callboard migrate`, or `callboard up`")
    refused = said == "file is not a database" or type(error).__name__ == "InsufficientPrivilege"
    if refused or isinstance(error, _UNUSABLE):
        return DatabaseUnavailable(
            f"the database {database.describe()} cannot be used ({said}): "
            "check that it is running, reachable and writable, or set CALLBOARD_DATABASE_URL"
        )
    return error


def stamp(dialect: str, at: datetime | None) -> Any:
    """An aware UTC time as the columns of `models.columns.UtcDateTime` hold it."""
    if at is None or dialect == "postgresql":
        return at
    return at.isoformat(" ", "microseconds")[:26]


def forget() -> None:
    """Close the idle connections: the database was bound anew."""
    while _idle:
        _discard(_idle.pop())


def _take() -> SqliteDirect | PostgresDirect:
    global _idle_for
    url = database.bound_url()
    if url != _idle_for:
        forget()
        _idle_for = url
    while True:
        try:
            connection = _idle.pop()
        except IndexError:
            path = database.sqlite_path()
            return PostgresDirect(url) if path is None else SqliteDirect(path)
        # why: one that a restart of the server broke would raise in mid-statement, and nobody could say what was done.
        if isinstance(connection, SqliteDirect) or not connection.is_gone():
            return connection
        _discard(connection)


def _discard(connection: SqliteDirect | PostgresDirect) -> None:
    if isinstance(connection, PostgresDirect):
        _watchdog.release(connection)
    with suppress(sqlite3.Error, psycopg.Error, OSError):
        connection.close()


def _forget_after_fork() -> None:
    global _idle, _watchdog
    # why: closing them here would end the parent's. They are kept from being collected, for the same reason.
    _abandoned.append(_idle)
    _idle, _watchdog = [], _Watchdog()


_abandoned: list[Any] = []
os.register_at_fork(after_in_child=_forget_after_fork)
