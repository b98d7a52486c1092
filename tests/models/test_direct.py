"""Driver-level connections: the gate, the watchdog, forks, and what a person reads when the database cannot be used.

The gate's full run (spec/faults.md 19): 8 processes, 16,000 writes, with CALLBOARD_TEST_FULL=1.
"""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from models import database, direct, postgres, schema, task_moves
from models.database import DatabaseUnavailable, SchemaMissing
from models.direct import Direct
from tests.models.conftest import fresh_postgres
from tests.models.rows import NOW, accepted, at_once, new_row, row
from tests.scale import FULL
from tests.servers import OwnPostgres

PROCESSES, EACH = (8, 500) if FULL else (2, 500)
"""EACH: writes of each of four threads."""
WORST_WAIT_S = 10.0
"""Far above what was measured (17 ms), far below what an unfair queue gives: a writer that waits for all others."""
UNUSABLE_MEND = "check that it is running, reachable and writable, or set CALLBOARD_DATABASE_URL"

WRITER = """
import sys, threading, time
from models import database, direct

database.bind(sys.argv[1])
worst_s, errors = [], []

def write():
    slowest_s = 0.0
    for _ in range(int(sys.argv[2])):
        began_s = time.monotonic()
        try:
            with direct.transaction() as to:
                (found,) = to.run("SELECT attempt FROM background_tasks WHERE task_id = 'counter'")
                to.run("UPDATE background_tasks SET attempt = ? WHERE task_id = 'counter'", (found[0] + 1,))
        except Exception as error:
            errors.append(repr(error))
        slowest_s = max(slowest_s, time.monotonic() - began_s)
    worst_s.append(slowest_s)

print("ready", flush=True)
sys.stdin.readline()
threads = [threading.Thread(target=write) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(errors, max(worst_s))
"""


@pytest.fixture
def bound(any_database: str) -> Iterator[str]:
    """A migrated database; connections of other tests are not reused."""
    direct.forget()
    yield any_database
    direct.forget()


def test_writers_of_many_processes_queue_and_none_is_told_locked_or_waits_for_all(sqlite_database: str) -> None:
    accepted(task_id="counter")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, sqlite_database, str(EACH)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(PROCESSES)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"

    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=200) for process in processes]

    assert [errors for _, errors in said] == [""] * PROCESSES
    assert [out.rsplit(" ", 1)[0] for out, _ in said] == ["[]"] * PROCESSES
    assert max(float(out.rsplit(" ", 1)[1]) for out, _ in said) < WORST_WAIT_S
    assert row("counter").attempt == PROCESSES * 4 * EACH


def test_sessions_and_direct_connections_queue_at_the_same_gate(sqlite_database: str) -> None:
    task_id = accepted()

    def by_session() -> None:
        for _ in range(100):
            with database.writing() as session:
                connection = session.connection()
                found = connection.exec_driver_sql("SELECT attempt FROM background_tasks").scalar_one()
                connection.exec_driver_sql("UPDATE background_tasks SET attempt = ?", (found + 1,))

    def directly() -> None:
        for _ in range(100):
            with direct.transaction() as to:
                (found,) = to.run("SELECT attempt FROM background_tasks")
                to.run("UPDATE background_tasks SET attempt = ?", (found[0] + 1,))

    assert at_once(by_session, directly, by_session, directly) == [None] * 4
    assert row(task_id).attempt == 400


def test_a_process_that_dies_at_the_head_of_the_queue_holds_up_nobody(sqlite_database: str) -> None:
    script = (
        "import os, signal, sys\nfrom models import database, direct\ndatabase.bind(sys.argv[1])\n"
        "with direct.transaction() as to:\n"
        '    to.run("UPDATE background_tasks SET priority = 9")\n    os.kill(os.getpid(), signal.SIGKILL)'
    )
    task_id = accepted(priority=3)

    ended = subprocess.run([sys.executable, "-c", script, sqlite_database], check=False)

    assert ended.returncode == -signal.SIGKILL
    assert accepted()
    assert row(task_id).priority == 3


def test_a_reader_does_not_wait_for_a_writer(bound: str) -> None:
    task_id = accepted()

    with direct.transaction() as writer, writer.atomic():
        task_moves.cancel(writer, task_id, reason="by test", now=NOW)
        with direct.reading() as reader:
            assert task_moves.standing(reader, [task_id])[task_id].status == "pending"


def test_an_exception_in_the_block_rolls_back_and_the_connection_is_not_used_again(bound: str) -> None:
    task = new_row()

    def write_and_break() -> None:
        with direct.transaction() as to, to.atomic():
            task_moves.accept(to, [task])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_break()

    assert not direct._idle
    with direct.reading() as to:
        assert task_moves.standing(to, [task.task_id]) == {}


def test_what_is_within_a_session_comes_and_goes_with_it(bound: str) -> None:
    kept, dropped = new_row(), new_row()

    def write_and_break() -> None:
        with database.writing() as session:
            task_moves.accept(direct.Within(session), [dropped])
            raise ZeroDivisionError

    with database.writing() as session:
        to = direct.Within(session)
        assert task_moves.accept(to, [kept, new_row()]) == 2
    with pytest.raises(ZeroDivisionError):
        write_and_break()

    with direct.reading() as to:
        assert task_moves.standing(to, [kept.task_id, dropped.task_id]).keys() == {kept.task_id}


def test_a_connection_is_kept_for_the_next(bound: str) -> None:
    accepted()
    (kept,) = direct._idle

    accepted()

    assert direct._idle == [kept]


# --- forks -----------------------------------------------------------------------------------------------------------

FORKED = """
import os, sys
from models import database, direct
from tests.models.rows import accepted

database.bind(sys.argv[1])
accepted()
parents = list(direct._idle)
children = []
for _ in range(2):
    child = os.fork()
    if child == 0:
        for _ in range(20):
            accepted()
        os._exit(0 if direct._idle and not set(direct._idle) & set(parents) else 3)
    children.append(child)
for _ in range(20):
    accepted()
failed = [os.waitpid(child, 0)[1] for child in children]
accepted()
print(failed, direct._idle == parents)
"""


def test_a_forked_process_opens_connections_of_its_own_and_leaves_the_parents_alone(empty_tables: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORKED, empty_tables],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )  # fmt: skip

    assert (ended.stderr, ended.stdout) == ("", "[0, 0] True\n")
    with direct.reading() as to:
        assert to.run("SELECT count(*) FROM background_tasks") == [(62,)]


# --- the watchdog ----------------------------------------------------------------------------------------------------


def test_a_server_that_is_frozen_is_an_error_in_bounded_time_and_comes_back(
    own_postgres: OwnPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "ANSWER_WITHIN_S", 1.0)
    task_id = accepted()

    own_postgres.signal(signal.SIGSTOP)
    try:
        with pytest.raises(DatabaseUnavailable, match=re.escape(UNUSABLE_MEND)) as raised:
            accepted()
    finally:
        own_postgres.signal(signal.SIGCONT)

    assert raised.value.was_executing
    assert row(task_id).task_id == task_id
    assert accepted()


def test_connections_that_a_restart_of_the_server_broke_are_not_used(own_postgres: OwnPostgres) -> None:
    at_once(*[accepted] * 4)

    own_postgres.kill()
    with pytest.raises(DatabaseUnavailable) as raised:
        accepted()
    own_postgres.start()

    assert not raised.value.was_executing
    assert accepted()


def test_a_server_that_answers_slowly_but_in_time_is_waited_for(
    own_postgres: OwnPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "ANSWER_WITHIN_S", 5.0)

    with direct.transaction() as to:
        assert to.run("SELECT 1 FROM pg_sleep(1.5)") == [(1,)]


# --- errors ----------------------------------------------------------------------------------------------------------


def ask(to: Direct) -> None:
    task_moves.standing(to, ["x"])


def read() -> None:
    with direct.reading() as to:
        ask(to)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.usefixtures("rebind")
def test_a_database_without_tables_asks_for_the_migration(tmp_path: Path, kind: str, postgres_url: str) -> None:
    database.bind(f"sqlite:///{tmp_path / 'empty.db'}" if kind == "sqlite" else fresh_postgres(postgres_url))

    with pytest.raises(SchemaMissing, match="run `callboard migrate`"):
        read()


@pytest.mark.usefixtures("rebind")
def test_a_server_that_cannot_be_reached_is_named_without_its_password() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    database.bind(f"postgresql://u:secret@127.0.0.1:{port}/d")

    with pytest.raises(DatabaseUnavailable, match=re.escape(UNUSABLE_MEND)) as raised:
        read()

    assert f"127.0.0.1:{port}" in str(raised.value)
    assert "secret" not in str(raised.value)
    assert not raised.value.was_executing


@pytest.mark.parametrize("kind", ["a folder", "no database", "no folder"])
@pytest.mark.usefixtures("rebind")
def test_a_path_that_cannot_be_opened_is_named_with_the_mend(tmp_path: Path, kind: str) -> None:
    path = {"a folder": tmp_path, "no database": tmp_path / "junk.db", "no folder": tmp_path / "no" / "x.db"}[kind]
    if kind == "no database":
        path.write_bytes(b"these are not the pages that you are looking for" * 100)
    database.bind(f"sqlite:///{path}")

    with pytest.raises(DatabaseUnavailable, match=re.escape(UNUSABLE_MEND)) as raised:
        read()

    assert str(path) in str(raised.value)


@pytest.mark.usefixtures("rebind")
def test_a_role_that_may_not_write_is_told_so(postgres_url: str, shared_postgres: str) -> None:
    database.bind(shared_postgres)
    with database.writing() as session:
        connection = session.connection()
        role = f"reader{os.getpid()}"
        connection.exec_driver_sql(f"CREATE ROLE {role} NOSUPERUSER")
        connection.exec_driver_sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
    database.bind(f"{shared_postgres}&options=-crole%3D{role}")

    read()
    with pytest.raises(DatabaseUnavailable, match=r"permission denied for table background_tasks\): check that"):
        accepted()


@pytest.mark.usefixtures("rebind")
def test_a_server_that_is_read_only_is_told_so(shared_postgres: str) -> None:
    database.bind(f"{shared_postgres}&options=-cdefault_transaction_read_only%3Don")

    with pytest.raises(DatabaseUnavailable, match=r"read-only transaction\): check that"):
        accepted()


@pytest.mark.usefixtures("rebind")
def test_a_file_system_that_is_read_only_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.db"
    database.bind(f"sqlite:///{path}")
    schema.upgrade()
    monkeypatch.setattr(database, "SQLITE_PRAGMAS", (*database.SQLITE_PRAGMAS, "query_only=ON"))
    direct.forget()

    read()
    with pytest.raises(DatabaseUnavailable, match=r"readonly database\): check that"):
        accepted()


LEAVES = """
import atexit, gc, sys

def look():  # registered first, so called last
    import psycopg
    print(sum(isinstance(one, psycopg.Connection) and not one.closed for one in gc.get_objects()), "open")

atexit.register(look)
from sqlalchemy import text
from models import database, direct

database.bind(sys.argv[1])
with direct.reading() as to:
    to.run("SELECT 1")
with database.reading() as session:
    session.execute(text("SELECT 1"))
"""


def test_a_program_that_ends_leaves_no_connection_open(shared_postgres: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", LEAVES, shared_postgres], capture_output=True, text=True, timeout=60
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "0 open\n", "")
