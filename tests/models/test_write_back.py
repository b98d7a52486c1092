"""The write-ahead log is copied into the database in the background, and nobody waits for it."""

import sqlite3
from datetime import UTC, datetime

import pytest

from models import database, direct, task_moves
from models.task import new_task_id
from models.task_moves import NewTask
from models.write_back import LATEST_S, SOONEST_S, WriteBack

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def write(count: int) -> None:
    """Rows that wait."""
    with direct.transaction() as to:
        task_moves.accept(to, [NewTask(new_task_id(), "probes.add", "jobs", NOW, NOW) for _ in range(count)])


def rows_in_the_file_alone(path: object) -> int:
    """What the database would have without its log."""
    connection = sqlite3.connect(f"file:{path}?immutable=1", uri=True)
    try:
        return int(connection.execute("SELECT count(*) FROM background_tasks").fetchone()[0])
    finally:
        connection.close()


def test_what_is_committed_gets_into_the_file_while_another_writes(sqlite_database: str) -> None:
    path = database.sqlite_path()
    WriteBack().turn(0.0)
    before = rows_in_the_file_alone(path)
    write(500)
    assert rows_in_the_file_alone(path) == before

    with direct.transaction() as to:
        to.run("UPDATE background_tasks SET priority = 9")
        assert WriteBack().turn(0.0) > 0
        to.run("UPDATE background_tasks SET priority = 8")

    assert rows_in_the_file_alone(path) == before + 500
    with direct.reading() as to:
        assert to.run("SELECT DISTINCT priority FROM background_tasks") == [(8,)]


def test_turns_get_rarer_while_little_is_written_and_come_at_once_while_much_is(sqlite_database: str) -> None:
    keeper = WriteBack()
    keeper.turn(0.0)

    write(10)
    assert keeper.turn(SOONEST_S) == 0, "it is not time for it yet"
    assert 0 < keeper.turn(2 * SOONEST_S) < 1_000
    now_s = 100.0
    for _ in range(10):
        keeper.turn(now_s)
        now_s += LATEST_S
    write(10)
    assert keeper.turn(now_s - 1.0) == 0
    write(15_000)
    assert keeper.turn(now_s + 1.0) >= 1_000
    write(10)
    assert keeper.turn(now_s + 1.0 + SOONEST_S) > 0


def test_who_cannot_copy_leaves_it_to_others(sqlite_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = database.sqlite_path()
    assert path is not None
    write(10)
    path.with_name("gone.db").write_bytes(b"no database")
    monkeypatch.setattr(database, "sqlite_path", lambda: path.with_name("gone.db"))

    assert WriteBack().turn(0.0) == 0


def test_postgres_has_no_such_log(postgres_database: str) -> None:
    assert WriteBack().turn(0.0) == 0
