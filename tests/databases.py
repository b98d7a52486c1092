"""Databases for tests, migrated once a session: a file that is copied, and databases of a server that are emptied.

A PostgreSQL database here, and who moves it:

    free ──take──→ given to a test ──give back──→ free, emptied and under another name
                                              └─→ dropped, if its schema is not what the migrations made of it

The other name keeps out whatever a test has left running: it finds its database no more.
"""

import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from models import database, schema
from tests.servers import wait_until

SHAPE = """
SELECT md5(string_agg(line, ';' ORDER BY line)) FROM (
    SELECT concat_ws(' ', c.relname, c.relkind, a.attname, a.atttypid, a.attnotnull, a.atthasdef) AS line
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid WHERE c.relnamespace = 'public'::regnamespace
    UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL SELECT conname || pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace
    UNION ALL SELECT tgname FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT 'analysed ' || starelid::regclass FROM pg_statistic s JOIN pg_class c ON c.oid = s.starelid
        WHERE c.relnamespace = 'public'::regnamespace
    UNION ALL SELECT 'at ' || version_num FROM alembic_version
) AS lines
"""
"""What a database is like but for its rows, in one word."""
EMPTY = """
DO $$ BEGIN
    EXECUTE (SELECT 'TRUNCATE ' || string_agg(format('%I', tablename), ', ') || ' RESTART IDENTITY'
        FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version');
END $$
"""
CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"


_bound: list[str] = []


@contextmanager
def bound(url: str) -> Iterator[str]:
    """Bind a database for the length of the block, then the session's own again.

    Raises RuntimeError where another is bound already: of two fixtures the later would win, and a test that says it
    runs on PostgreSQL would run on SQLite, unseen.
    """
    from workers import callboard  # why: it reads the settings, which conftest.py makes first.

    if _bound:
        raise RuntimeError(f"expected one database a test, got {url} while {_bound[0]} is bound: ask for one fixture")
    _bound.append(url)
    database.bind(url)
    try:
        yield url
    finally:
        database.engine().dispose()
        database.bind(callboard.settings.database)
        _bound.clear()


def migrated(url: str) -> None:
    """Make the tables."""
    with bound(url):
        schema.upgrade()


def sqlite_template(path: Path) -> Path:
    """A migrated SQLite file, to be copied."""
    migrated(f"sqlite:///{path}")
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return path


class Pool:
    """The migrated databases of one PostgreSQL server.

    Args:
        url: of its database `postgres`.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._server: psycopg.Connection[Any] = psycopg.connect(url, autocommit=True)
        self._free: list[str] = []
        self._shape: str | None = None

    def close(self) -> None:
        """Let go of the server."""
        self._server.close()

    def take(self) -> str:
        """The URL of an empty, migrated database that nobody else has."""
        if self._free:
            return self._url_of(self._free.pop())
        name = _new_name()
        self._server.execute(f"CREATE DATABASE {name}")
        migrated(self._url_of(name))
        if self._shape is None:
            self._shape = self._emptied(name)
        return self._url_of(name)

    def give_back(self, url: str) -> None:
        """Take it from whoever still uses it, and keep it for the next if it is as it was."""
        name = url.removeprefix(self._url.split("/postgres?")[0] + "/").split("?")[0]
        try:
            self._clear(name)
            if self._emptied(name) == self._shape:
                anew = _new_name()
                self._clear(name)
                self._server.execute(f"ALTER DATABASE {name} RENAME TO {anew}")
                self._free.append(anew)
                return
        except psycopg.Error:  # why: tables that are not there, or somebody who came back: it is not worth mending.
            pass
        self._server.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def _clear(self, name: str) -> None:
        """End all connections to it. The server's own waiting for that is in steps of 100 ms."""
        wait_until(lambda: not self._server.execute(CUT, [name]).fetchall(), within_s=10, what=f"{name} to be left")

    def _emptied(self, name: str) -> str:
        with psycopg.connect(self._url_of(name), autocommit=True) as connection:
            connection.execute(EMPTY)
            shape = connection.execute(SHAPE).fetchone()
        assert shape is not None
        return str(shape[0])

    def _url_of(self, name: str) -> str:
        return self._url.replace("/postgres?", f"/{name}?")


def _new_name() -> str:
    return f"t{uuid.uuid4().hex}"
