"""Which database it is, and what a person reads when it cannot be used."""

import fcntl
import re
import socket
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError

from models import database, direct, schema, task_query
from models.database import DatabaseError, DatabaseUnavailable, SchemaMissing, normalise_url
from models.task import Task
from models.task_query import TaskFilter
from tests.models.conftest import fresh_postgres
from tests.models.rows import accepted, at_once, new_task, row
from tests.scale import SLACK
from tests.servers import wait_until

GOOD_URLS = {
    "sqlite:///var/callboard.db": "sqlite:///var/callboard.db",
    "sqlite:////srv/callboard.db": "sqlite:////srv/callboard.db",
    "postgres://u:p@h/d": "postgresql+psycopg://u:p@h/d",
    "postgresql://u:p@h:5433/d?sslmode=require": "postgresql+psycopg://u:p@h:5433/d?sslmode=require",
    "postgresql+psycopg://h/d": "postgresql+psycopg://h/d",
    "postgresql://u:p%40ss@h/d": "postgresql+psycopg://u:p%40ss@h/d",
    "postgresql:///d?host=/run/pg": "postgresql+psycopg:///d?host=%2Frun%2Fpg",
}
BAD_URLS = {
    "": "expected sqlite:///path/to/file.db or postgresql://",
    "callboard.db": "expected sqlite:///path/to/file.db or postgresql://",
    "u:secret@h/d": "expected sqlite:///path/to/file.db or postgresql://",
    "postgresql://u:secret@h:port/d": "expected sqlite:///path/to/file.db or postgresql://",
    "mysql://u:secret@h/d": "expected sqlite:/// or postgresql://, got the scheme 'mysql'",
    "postgresql+asyncpg://u:secret@h/d": "got the scheme 'postgresql+asyncpg'",
    "sqlite+aiosqlite:///x.db": "got the scheme 'sqlite+aiosqlite'",
    "sqlite://": "expected a file, as in sqlite:///var/callboard.db",
    "sqlite:///:memory:": "processes cannot share a memory database",
}
UNUSABLE_MEND = "check that it is running, reachable and writable, or set CALLBOARD_DATABASE_URL"


def count_rows() -> int:
    with database.reading() as session:
        return task_query.count(session, TaskFilter())


@pytest.mark.parametrize(("url", "expected"), GOOD_URLS.items())
def test_the_urls_that_people_have_are_understood(url: str, expected: str) -> None:
    assert normalise_url(url) == expected


@pytest.mark.parametrize(("url", "mend"), BAD_URLS.items())
def test_any_other_url_is_refused_with_what_is_expected(url: str, mend: str) -> None:
    with pytest.raises(ValueError, match=re.escape(mend)) as raised:
        normalise_url(url)

    assert "secret" not in str(raised.value)


@pytest.mark.usefixtures("rebind")
def test_a_password_is_not_shown() -> None:
    database.bind("postgresql://u:secret@h/d")

    assert database.describe() == "postgresql+psycopg://u:***@h/d"


@pytest.mark.parametrize("kind", ["a folder", "no database", "no folder"])
@pytest.mark.usefixtures("rebind")
def test_a_path_that_cannot_be_opened_is_named_with_the_mend(tmp_path: Path, kind: str) -> None:
    path = {"a folder": tmp_path, "no database": tmp_path / "junk.db", "no folder": tmp_path / "no" / "x.db"}[kind]
    if kind == "no database":
        path.write_bytes(b"these are not the pages that you are looking for" * 100)
    database.bind(f"sqlite:///{path}")

    with pytest.raises(DatabaseUnavailable, match=re.escape(UNUSABLE_MEND)) as raised:
        count_rows()

    assert str(path) in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.usefixtures("rebind")
def test_a_server_that_does_not_answer_is_named_with_the_mend_and_without_its_password() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    database.bind(f"postgresql://u:secret@127.0.0.1:{port}/d")

    with pytest.raises(DatabaseUnavailable, match=re.escape(UNUSABLE_MEND)) as raised:
        count_rows()

    assert f"127.0.0.1:{port}" in str(raised.value)
    assert "secret" not in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.usefixtures("rebind")
def test_a_database_without_tables_asks_for_the_migration(tmp_path: Path, kind: str, postgres_url: str) -> None:
    database.bind(f"sqlite:///{tmp_path / 'empty.db'}" if kind == "sqlite" else fresh_postgres(postgres_url))

    with pytest.raises(SchemaMissing, match="run `callboard migrate`"):
        count_rows()


@pytest.mark.usefixtures("any_database")
def test_a_broken_rule_of_a_table_is_not_called_an_unusable_database() -> None:
    task_id = accepted()

    with pytest.raises(IntegrityError), database.writing() as session:
        session.execute(insert(Task).values(new_task(task_id=task_id).model_dump()))


@pytest.mark.usefixtures("any_database")
def test_an_exception_in_the_block_rolls_everything_back() -> None:
    task = new_task()

    def write_and_break() -> None:
        with database.writing() as session:
            session.add(task)
            session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_break()

    with database.reading() as session:
        assert task_query.get(session, task.task_id) is None


@pytest.mark.usefixtures("rebind")
def test_a_reader_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    database.bind(f"sqlite:///{tmp_path / 'x.db'}")
    schema.upgrade()

    with database.writing() as session:
        session.connection().exec_driver_sql("UPDATE background_tasks SET priority = 9")

        assert count_rows() == 0


@pytest.mark.usefixtures("any_database")
def test_all_statements_of_a_reader_see_one_moment() -> None:
    accepted()

    with database.reading() as session:
        before = session.connection().exec_driver_sql("SELECT task_name FROM background_tasks").scalars().all()
        accepted(task_name="while.reading")
        after = session.connection().exec_driver_sql("SELECT task_name FROM background_tasks").scalars().all()

    assert after == before
    assert count_rows() == len(before) + 1


def test_unbound_it_says_what_to_do() -> None:
    script = "from models import database\ndatabase.engine()"

    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert f"{DatabaseError.__name__}: no database is bound: import `workers` first" in ended.stderr


WRITERS = """
import os, sys
from models import database
from models.report import InformationReport

database.bind(sys.argv[1])
with database.reading() as session:
    session.get(InformationReport, "counter")  # the parent's connection, which no child may use
children = []
for _ in range(int(sys.argv[2])):
    child = os.fork()
    if child == 0:
        for _ in range(int(sys.argv[3])):
            with database.writing() as session:
                counter = session.get_one(InformationReport, "counter", with_for_update=True)
                counter.version += 1
        os._exit(0)
    children.append(child)
failed = sum(os.waitpid(child, 0)[1] != 0 for child in children)
with database.reading() as session:
    print(failed, session.get_one(InformationReport, "counter").version)
"""


@pytest.mark.parametrize(("processes", "each"), [(8, 200)])
def test_many_processes_that_read_and_then_write_lose_nothing_on_sqlite(
    sqlite_database: str, processes: int, each: int
) -> None:
    assert_nothing_is_lost(sqlite_database, processes, each)


def test_a_forked_process_opens_connections_of_its_own(empty_tables: str) -> None:
    assert_nothing_is_lost(empty_tables, 2, 5)


def assert_nothing_is_lost(url: str, processes: int, each: int) -> None:
    with database.writing() as session:
        session.connection().exec_driver_sql(
            "INSERT INTO information_reports (report_id, version, complainant_name, complainant_contact, station, "
            "district, incident_place, filed_at, summary, narrative, officer_name) "
            "VALUES ('counter', 0, '', '', '', '', '', '2026-01-01 00:00:00', '', '', '')"
        )

    ended = subprocess.run(
        [sys.executable, "-c", WRITERS, url, str(processes), str(each)], capture_output=True, text=True, check=False
    )

    assert (ended.stderr, ended.stdout.split()) == ("", ["0", str(processes * each)])


def test_more_threads_than_connections_is_a_clear_error_and_no_hang(sqlite_database: str) -> None:
    task_id = accepted()
    held = [database.engine().connect() for _ in range(database.POOL_SIZE + database.POOL_OVERFLOW)]
    database.engine().pool._timeout = 0.1  # type: ignore[attr-defined]  # SQLAlchemy's 30 s, for which a test has no time

    with pytest.raises(DatabaseUnavailable, match=r"connections of this process .* are in use: run fewer threads"):
        count_rows()

    for connection in held:
        connection.close()
    assert row(task_id).task_id == task_id


def test_who_waits_behind_a_strangers_lock_hears_of_it_in_time_however_many_wait(
    sqlite_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "SQLITE_WAIT_S", 1.0)
    monkeypatch.setattr(database, "SQLITE_TURN_S", 0.1)
    stranger = sqlite3.connect(sqlite_database.removeprefix("sqlite:///"), isolation_level=None)
    stranger.execute("BEGIN IMMEDIATE")
    ends_s = time.monotonic() + 6

    def keep_trying() -> list[float]:
        took_s: list[float] = []
        while time.monotonic() < ends_s:
            asked_s = time.monotonic()
            with pytest.raises(database.DatabaseUnavailable), direct.transaction():
                pytest.fail("the lock is the stranger's")
            took_s.append(time.monotonic() - asked_s)
        return took_s

    found = at_once(*[keep_trying] * 4)

    stranger.execute("ROLLBACK")
    stranger.close()
    assert all(isinstance(took_s, list) and took_s for took_s in found), found
    assert max(max(took_s) for took_s in found) < 2.0 * SLACK, found


def test_a_single_statement_behind_a_strangers_lock_lets_others_try_and_is_done_in_the_end(
    sqlite_database: str,
) -> None:
    path, task_id = sqlite_database.removeprefix("sqlite:///"), accepted()
    stranger = sqlite3.connect(path, isolation_level=None)
    stranger.execute("BEGIN IMMEDIATE")

    def write() -> None:
        with direct.single() as to:
            to.run_counted("UPDATE background_tasks SET priority = 9")

    with Path(f"{path}.write.lock").open() as gate:

        def is_open() -> bool:
            try:
                fcntl.flock(gate, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            fcntl.flock(gate, fcntl.LOCK_UN)
            return True

        with ThreadPoolExecutor() as threads:
            written = threads.submit(write)
            wait_until(lambda: not is_open(), within_s=10, what="the statement at the gate")
            wait_until(is_open, within_s=20, what="the gate to be opened to others")
            stranger.execute("ROLLBACK")

            written.result()
    stranger.close()
    assert row(task_id).priority == 9
