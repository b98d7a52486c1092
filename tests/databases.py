"""Databases for tests, migrated once a run: a file and a server's data that are copied, databases that are emptied.

The processes of a run share a folder. Whoever needs a template first makes it there, while the others wait for it.

A PostgreSQL database here, and who moves it:

    a copy of TEMPLATE ──take──→ given to a test ──give back──→ free, emptied and under another name ──take──→ …
                                                            └─→ dropped, if its schema is no longer TEMPLATE's

The other name keeps out whatever a test has left running: it finds its database no more.
"""

import fcntl
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from models import database, schema
from tests.servers import OwnPostgres, wait_until

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
DO $$ DECLARE used text; BEGIN
    SELECT string_agg(oid::regclass::text, ', ') INTO used FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> 'alembic_version'
        AND pg_relation_size(oid) > 0;
    IF used IS NOT NULL THEN EXECUTE 'TRUNCATE ' || used || ' RESTART IDENTITY CASCADE'; END IF;
END $$
"""
"""Of the tables in which there was ever anything: each takes a millisecond, and most tests use few."""
SHARED_DIR_VARIABLE = "CALLBOARD_TEST_SHARED_DIR"
"""The environment variable that names the folder of a run, in its processes."""
TEMPLATE = "migrated"
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


@contextmanager
def _one_at_a_time(directory: Path) -> Iterator[None]:
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def sqlite_template(directory: Path) -> Path:
    """A migrated SQLite file, to be copied."""
    made = directory / "template.db"
    with _one_at_a_time(directory):
        if not made.exists():
            path = directory / "unfinished.db"
            migrated(f"sqlite:///{path}")
            with sqlite3.connect(path) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.close()
            path.rename(made)
    return made


def postgres_template(directory: Path) -> Path:
    """The data of a stopped server with two migrated databases: `postgres`, and TEMPLATE to copy others from."""
    made = directory / "postgres-template"
    with _one_at_a_time(directory):
        if not made.exists():
            unfinished = directory / "unfinished"
            unfinished.mkdir()
            server = OwnPostgres(unfinished)
            migrated(server.url)
            with psycopg.connect(server.url, autocommit=True) as connection:
                connection.execute(EMPTY)
            with psycopg.connect(server.url.replace("/postgres?", "/template1?"), autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {TEMPLATE} TEMPLATE postgres")
            server.stop()
            (unfinished / "data").rename(made)
    return made


@contextmanager
def shared_postgres(directory: Path) -> Iterator[str]:
    """One server for all processes of a run; yields the URL of its database `postgres`."""
    template = postgres_template(directory)
    place = directory / "postgres"
    with _one_at_a_time(directory):
        place.mkdir(exist_ok=True)
        server = OwnPostgres(place, like=template)
    try:
        yield server.url
    finally:
        with _one_at_a_time(directory):  # why: who comes just now must not begin with data that are being removed.
            server.cleanup()


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
        url = copy_of_template(self._url)
        if self._shape is None:
            self._shape = self._emptied(self._name_of(url))
        return url

    def give_back(self, url: str) -> None:
        """Take it from whoever still uses it, and keep it for the next if it is as it was."""
        name = self._name_of(url)
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

    def _name_of(self, url: str) -> str:
        return url.removeprefix(self._url.split("/postgres?")[0] + "/").split("?")[0]

    def _url_of(self, name: str) -> str:
        return self._url.replace("/postgres?", f"/{name}?")


def copy_of_template(url: str) -> str:
    """The URL of a new, migrated database of this server."""
    name = _new_name()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY FILE_COPY")  # type: ignore[arg-type]  # made above
    return url.replace("/postgres?", f"/{name}?")


def _new_name() -> str:
    return f"t{uuid.uuid4().hex}"
