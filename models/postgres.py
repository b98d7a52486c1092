"""Driver-level connections to PostgreSQL, for models.direct.

They are in autocommit, so that a single statement is a single round trip; `atomic()` is for more. psycopg waits for
ever for a server that is frozen: a watchdog shuts the socket after `ANSWER_WITHIN_S`.

Must not: be imported where the database is SQLite: psycopg takes 9 MB.
"""

import os
import select
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import psycopg

from models import database
from models.url import DatabaseUrl

ANSWER_WITHIN_S: Final = 15.0
"""How long one statement may take before its server counts as gone."""


class PostgresDirect:
    """A PostgreSQL connection in autocommit."""

    dialect = "postgresql"
    errors: tuple[type[Exception], ...] = (psycopg.Error, OSError)
    """What its driver raises."""
    unusable: tuple[type[Exception], ...] = (
        *(psycopg.OperationalError, psycopg.InterfaceError, OSError),
        psycopg.InternalError,  # why: a standby, or a primary that was demoted, says "read-only transaction" with it.
    )
    """Those of them that mean that the database cannot be used now."""

    def __init__(self, url: DatabaseUrl) -> None:
        self._connection = psycopg.connect(
            url.with_scheme("postgresql").render(),
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

    def link(self) -> tuple[str, bool, bool]:
        """What it is connected to (a name, an address, or the folder of a socket); whether the server asked for a
        password or a ticket; whether TLS is used."""
        wire = self._connection.pgconn
        return (wire.host or b"").decode(), wire.used_password or wire.used_gssapi, wire.ssl_in_use

    def close(self) -> None:
        """End it."""
        _watchdog.release(self)
        self._connection.close()


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


def _forget_after_fork() -> None:
    global _watchdog
    _watchdog = _Watchdog()  # why: the parent's thread is not in this process.


_watchdog = _Watchdog()
os.register_at_fork(after_in_child=_forget_after_fork)
