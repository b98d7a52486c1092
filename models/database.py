"""The one database: which it is, how it is opened, and what its errors mean to a person.

`bind(url)` names it; `writing()` and `reading()` are the ways in. Both give a SQLModel session whose transaction
commits when the block ends and rolls back when it raises; the first of them loads SQLAlchemy (models.sessions). What
every task pays for goes by models.direct, which does without.

SQLite takes part with four rules (spec/traps.md 20, 23): WAL, so that readers never wait for the writer; a writing
transaction starts with BEGIN IMMEDIATE, because one that starts deferred and upgrades later fails at once with
"database is locked" whatever the time-out; writers of all processes queue at a lock file (`Gate`) before that, because
SQLite's own wait is a sleep that grows, so that under load the unlucky wait for many turns; and a busy time-out for
whoever does not come through the gate.

Must not: read the environment, hold tables, or import SQLAlchemy: a worker process whose tasks do not use it saves
18 MB.
"""

import atexit
import fcntl
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from models.url import DatabaseUrl

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlmodel import Session

SQLITE_WAIT_S = 10.0
"""How long a SQLite writer waits for another's transaction before it is an error."""
SQLITE_TURN_S = 0.5
"""How long of that it keeps the others from trying."""
SQLITE_PAUSE_S = 0.02
"""After a turn in vain: else who leaves the gate would be the first there again."""
SQLITE_PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "wal_autocheckpoint=12000")
"""Of every connection to SQLite. A checkpoint syncs twice and its commit waits for it; a row touches six pages, so at
SQLite's own 1,000 pages every 170th send pays, and a send costs half as much again. 12,000 are 47 MB; a process of the
system that lives has copied nearly all of it before (models.write_back)."""

POSTGRES_CONNECT_TIMEOUT_S = 5
POOL_SIZE = 5
POOL_OVERFLOW = 15
"""A process opens at most POOL_SIZE + POOL_OVERFLOW connections; PostgreSQL's max_connections must hold them all."""


class DatabaseError(Exception):
    """The database did not do what was asked; the message says which database, what it said, and the mend."""

    was_executing = False
    """Whether it went away while it was executing, so that what was asked may have been done all the same."""
    may_go_on = False
    """Whether it went away without a word, so that it may do what was asked later still: it waits for a lock, say, and
    has not noticed that nobody listens any more."""


class DatabaseUnavailable(DatabaseError):
    """The database cannot be reached or opened now. Trying again later may help."""


class SchemaMissing(DatabaseError):
    """The database answers but its tables are not there or are older than this code: run `callboard migrate`."""


_url: DatabaseUrl | None = None
_engine: "Engine | None" = None
_making = threading.Lock()


class Gate:
    """Where SQLite's writers queue, one file beside the database; held from before BEGIN IMMEDIATE to the commit.

    Not for two threads at once. If its process dies the kernel lets go of it.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(f"{path}.write.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._wait_s: float | None = None
        """How long its connection waits for SQLite's lock; None: as it was opened."""

    def begin(self, execute: Callable[[str], object], *, alone: bool = False) -> bool:
        """Wait for the turn, then execute BEGIN IMMEDIATE.

        Args:
            execute: raises sqlite3's own errors.
            alone: what comes is a single statement, a transaction by itself: nothing to begin if there was no wait. It
                gets a turn as well; if that is in vain, its caller leaves, and comes again with a transaction.

        Returns:
            Whether a transaction was begun.

        While a stranger holds SQLite's lock, who is at the gate tries for a turn, then lets the others try: nobody
        knows in which order they come through, so a try of SQLITE_WAIT_S would have the unlucky wait for many of them.
        After SQLITE_WAIT_S in all, a try more and the error is the caller's.
        """
        arrived_s = time.monotonic()
        while True:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            left_s = SQLITE_WAIT_S - (time.monotonic() - arrived_s)
            try:
                self._have_it_wait(execute, SQLITE_TURN_S)
                if alone and left_s > SQLITE_WAIT_S - 0.1:
                    return False
                execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                self.leave()
                time.sleep(SQLITE_PAUSE_S)
                if left_s <= 0 or "locked" not in str(error):
                    raise
            except BaseException:  # why: an interrupt too must not leave with the gate shut behind it.
                self.leave()
                raise
            else:
                return True

    def _have_it_wait(self, execute: Callable[[str], object], wait_s: float) -> None:
        if self._wait_s != wait_s:
            execute(f"PRAGMA busy_timeout={round(wait_s * 1000)}")
            self._wait_s = wait_s

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
        parsed = DatabaseUrl.parse(re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url))
    except ValueError:
        raise ValueError("expected sqlite:///path/to/file.db or postgresql://user:password@host/database") from None
    if parsed.scheme not in ("sqlite", "postgresql+psycopg"):
        raise ValueError(f"expected sqlite:/// or postgresql://, got the scheme {parsed.scheme!r}")
    if parsed.scheme == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise ValueError("expected a file, as in sqlite:///var/callboard.db: processes cannot share a memory database")
    return parsed.render()


def bind(url: str) -> None:
    """Name the database that `reading()` and `writing()` use from here on. Opens no connection.

    Args:
        url: as `normalise_url` takes it.
    """
    global _engine, _url
    with _making:
        if _engine is not None:
            _engine.dispose()
        _engine = None
        _url = DatabaseUrl.parse(normalise_url(url))


def bound() -> DatabaseUrl:
    """The bound database's address; raises DatabaseError if `bind` has not been called."""
    if _url is None:
        raise DatabaseError("no database is bound: import `workers` first, or call models.database.bind(url)")
    return _url


def bound_url() -> str:
    """The bound database's URL, password and all; empty if `bind` has not been called."""
    return "" if _url is None else _url.render()


def describe() -> str:
    """The bound database as text for people, its password hidden."""
    return bound().render(hide_password=True)


def sqlite_path() -> Path | None:
    """The file of a bound SQLite database; None on PostgreSQL."""
    url = bound()
    return Path(url.database) if url.scheme == "sqlite" and url.database else None


def engine() -> "Engine":
    """SQLAlchemy's engine for the bound database; raises DatabaseError if `bind` has not been called."""
    global _engine
    if _engine is None:
        from models import sessions  # why: as the module says; here and below.

        with _making:
            if _engine is None:
                _engine = sessions.make_engine(bound())
            return _engine
    return _engine


def writing() -> "AbstractContextManager[Session]":
    """A session for a transaction that writes. Keep it short: on SQLite every other writer waits for it.

    Raises:
        DatabaseUnavailable: it could not be reached, opened or locked in time; nothing was committed.
        SchemaMissing: the tables are not there.
    """
    from models import sessions

    return sessions.writing()


def reading() -> "AbstractContextManager[Session]":
    """A session that only reads, all of it from one moment; it never waits for a writer. Raises as `writing()` does."""
    from models import sessions

    return sessions.reading()


def _forget_connections() -> None:
    global _making
    _making = threading.Lock()  # why: a thread that is not in this process may hold the old one.
    if _engine is not None:
        _engine.dispose(close=False)


def _close_connections() -> None:
    if _engine is not None:
        _engine.dispose()


atexit.register(_close_connections)
# why: a connection opened before fork() is shared by both sides afterwards and breaks (spec/traps.md 24).
os.register_at_fork(after_in_child=_forget_connections)
