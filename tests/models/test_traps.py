"""What SQL and periodiq do to those who do not know better (spec/traps.md 17, 20, 21, 23, 24), and that we do."""

import os
import sqlite3
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pendulum
import psycopg
import pytest
from periodiq import CronSpec
from sqlalchemy import Column, DateTime, MetaData, Table, insert, select, text
from sqlalchemy.exc import DBAPIError

from models import database, direct, task_moves, task_query
from models.columns import UtcDateTime
from models.task import AttemptOutcome, TaskStatus, new_task_id
from models.task_moves import End, NewTask
from models.triggers import Crontab, TriggerError, preview

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def accepted() -> str:
    """The id of a task that waits."""
    task = NewTask(new_task_id(), "probes.add", "jobs", created_at=NOW, enqueued_at=NOW)
    with direct.transaction() as to:
        task_moves.accept(to, [task])
    return task.task_id


def test_who_reads_and_then_writes_is_never_locked_out_on_sqlite(sqlite_database: str) -> None:
    """Trap 20: a deferred transaction that has read fails at once if another has written since, whatever its wait."""
    path, task_id = database.sqlite_path(), accepted()
    assert path is not None
    stock = sqlite3.connect(path, timeout=60.0, isolation_level=None)
    stock.execute("BEGIN")
    stock.execute("SELECT count(*) FROM background_tasks").fetchall()
    accepted()
    with pytest.raises(sqlite3.OperationalError, match="database is locked"):
        stock.execute("UPDATE background_tasks SET priority = 1")
    stock.close()

    entered, results = threading.Event(), []

    def other() -> None:
        entered.set()
        results.append(accepted())

    with database.writing() as session:
        session.execute(text("SELECT count(*) FROM background_tasks")).scalar_one()
        rival = threading.Thread(target=other)
        rival.start()
        entered.wait(timeout=10)
        session.execute(text("UPDATE background_tasks SET priority = 9 WHERE task_id = :id"), {"id": task_id})
    rival.join(timeout=20)

    assert len(results) == 1


@pytest.mark.parametrize("words", ["a\x00b", "\ud800"])
def test_text_that_postgresql_refuses_is_stored_all_the_same(postgres_database: str, words: str) -> None:
    """Trap 21: text refuses NUL, the driver lone surrogates, jsonb both; an outcome would be lost with its reason."""
    task_id = accepted()
    with pytest.raises((DBAPIError, UnicodeEncodeError, psycopg.Error)), database.engine().begin() as connection:
        connection.execute(text("UPDATE background_tasks SET reason = :words"), {"words": words})
    with pytest.raises(DBAPIError), database.engine().begin() as connection:
        connection.execute(text("SELECT CAST(:words AS jsonb)"), {"words": ascii_json(words)})

    end = End(
        task_id, 1, "w", started_at=NOW, finished_at=NOW, status=TaskStatus.FAILED, outcome=AttemptOutcome.FAILED,
        reason=words, result=ascii_json(words), error_type=words, error_message=words, traceback=words,
    )  # fmt: skip
    with direct.transaction() as to:
        assert task_moves.end(to, [end]) == {(task_id, 1)}

    with database.reading() as session:
        found = task_query.get(session, task_id)
    assert found is not None
    assert found.result == words
    assert found.error_message == found.reason == words.encode("unicode_escape").decode().replace("\\x", "\\u00")


def ascii_json(words: str) -> str:
    """JSON text in which everything unusual is escaped."""
    return '"' + "".join(c if c.isascii() and c.isprintable() else f"\\u{ord(c):04x}" for c in words) + '"'


def test_a_time_comes_back_from_sqlite_with_its_zone(sqlite_database: str) -> None:
    """Trap 23: SQLAlchemy's own type gives an aware time back naive, and comparing it raises."""
    table = Table("moments", MetaData(), Column("stock", DateTime(timezone=True)), Column("ours", UtcDateTime()))
    with database.engine().begin() as connection:
        table.create(connection)
        connection.execute(insert(table).values(stock=NOW, ours=NOW))
        stock, ours = connection.execute(select(table)).one()

    with pytest.raises(TypeError, match="naive"):
        assert stock < NOW
    assert ours == NOW
    assert ours.tzinfo is UTC


def connection() -> object:
    """The one that this process uses next."""
    with direct.transaction() as to:
        return to


def test_a_forked_process_leaves_its_parents_connections_alone(ledger_database: str) -> None:
    """Trap 24: a connection from before the fork is used by both; answers of one reach the other."""
    accepted()
    mine = connection()
    assert connection() is mine  # else a child would get another one by chance
    pid = os.fork()
    if pid == 0:
        try:
            assert connection() is not mine
            for _ in range(20):
                accepted()
            os._exit(0)
        except BaseException:  # why: whatever it is, the child must not go on as a second test run
            os._exit(1)
    for _ in range(20):
        accepted()
    _, status = os.waitpid(pid, 0)

    with direct.transaction() as to:
        rows: list[tuple[Any, ...]] = to.run("SELECT count(*) FROM background_tasks")
    assert os.waitstatus_to_exitcode(status) == 0
    assert rows == [(41,)]


BERLIN = "Europe/Berlin"


@pytest.mark.parametrize("expression", ["0 0 * * 0", "0 0 * * sun", "@weekly", "0 0 * * 0-6"])
def test_a_sunday_fires(expression: str) -> None:
    """Trap 17: periodiq compares Sunday, 7 for it, with 0: such a schedule never runs on a Sunday."""
    sunday = datetime(2026, 11, 29, tzinfo=UTC)
    assert not CronSpec.parse(expression).validate(pendulum.instance(sunday))

    assert Crontab(expression).next_after(sunday - SECOND) == sunday


def test_the_next_time_is_the_next_one() -> None:
    """Trap 17: periodiq keeps the minute at which it looked when it goes on to the next hour."""
    looked = datetime(2026, 11, 22, 8, 20, tzinfo=UTC)
    stock = CronSpec.parse("10,50 9 * * *").next_valid_date(pendulum.instance(looked))
    assert stock == datetime(2026, 11, 22, 9, 50, tzinfo=UTC)

    assert Crontab("10,50 9 * * *").next_after(looked) == datetime(2026, 11, 22, 9, 10, tzinfo=UTC)


def test_the_day_of_spring_has_its_nine_oclock() -> None:
    """Trap 17: periodiq adds hours to the clock's time, and lands an hour late where one of them does not exist."""
    eve = pendulum.datetime(2027, 3, 27, 9, 0, tz=BERLIN)
    due = datetime(2027, 3, 28, 7, 0, tzinfo=UTC)
    spec = CronSpec.parse("0 9 * * *")
    assert spec.next_valid_date(eve) != due

    assert Crontab("0 9 * * *", time_zone=BERLIN).next_after(eve) == due


def test_what_autumn_repeats_runs_once() -> None:
    """Trap 17: periodiq runs 02:30 in both of the hours."""
    passes = [pendulum.instance(datetime(2027, 10, 31, hour, 30, tzinfo=UTC)).in_timezone(BERLIN) for hour in (0, 1)]
    spec = CronSpec.parse("30 2 * * *")
    assert [spec.validate(moment) for moment in passes] == [True, True]

    due = preview(Crontab("30 2 * * *", time_zone=BERLIN), passes[0] - SECOND, 2)
    assert due == [datetime(2027, 10, 31, 0, 30, tzinfo=UTC), datetime(2027, 11, 1, 1, 30, tzinfo=UTC)]


def test_a_minute_that_no_hour_has_is_refused() -> None:
    """Trap 17: periodiq accepts it, and it never runs."""
    assert CronSpec.parse("99 99 * * *").minute == [99]

    with pytest.raises(TriggerError, match="minute 0–59"):
        Crontab("99 99 * * *")
