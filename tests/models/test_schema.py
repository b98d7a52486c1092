"""The tables come and go by migrations, and are what the models say."""

import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text
from sqlmodel import SQLModel

from models import database, direct, schema, tables, task_moves, task_query
from models.database import DatabaseError, DatabaseUnavailable
from models.document import Document, DocumentKind, find_document
from models.task import AttemptOutcome
from tests.models.conftest import fresh_postgres
from tests.models.rows import LATER, NOW, WORKER, accepted, attempts, end, row, running

TABLES = {getattr(tables, name).__tablename__ for name in tables.__all__ if name != "TOTALS"} | set(tables.TOTALS)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database(request: pytest.FixtureRequest, tmp_path: Path, rebind: None) -> str:
    """An empty database, bound."""
    kind: str = request.param
    url = (
        f"sqlite:///{tmp_path / 'new' / 'x.db'}"
        if kind == "sqlite"
        else fresh_postgres(request.getfixturevalue("postgres_url"))
    )
    database.bind(url)
    return url


def table_names() -> set[str]:
    with database.engine().connect() as connection:
        return set(inspect(connection).get_table_names()) - {"alembic_version"}


def test_all_tables_come_go_and_come_again(empty_database: str) -> None:
    assert schema.upgrade() == schema.head()
    assert table_names() == TABLES
    assert schema.current() == schema.head()

    assert schema.downgrade("base") == "base"
    assert table_names() == set()
    assert schema.current() is None

    assert schema.upgrade() == schema.head()
    assert row(accepted()).status == "pending"


def test_the_migrated_tables_are_those_of_the_models(empty_database: str) -> None:
    schema.upgrade()

    with database.engine().connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, SQLModel.metadata) == []


def test_a_second_upgrade_changes_nothing_and_keeps_the_rows(empty_database: str) -> None:
    schema.upgrade()
    task_id = accepted()

    assert schema.upgrade() == schema.head()

    assert row(task_id).task_id == task_id


def test_every_step_has_a_way_back(empty_database: str) -> None:
    schema.upgrade()

    steps = 0
    while schema.downgrade() != "base":
        steps += 1
        assert steps < 1_000

    assert table_names() == set()


def test_the_step_to_group_commit_and_back_keeps_attempts(empty_database: str) -> None:
    schema.upgrade()
    task_id = running()
    with direct.transaction() as to:
        task_moves.note_lost_delivery(to, task_id, 2, "w-2", LATER)

    schema.downgrade("0001")
    with database.reading() as session:
        before = [(one.number, one.worker_id, one.started_at) for one in task_query.attempts(session, task_id)]
    schema.upgrade()

    assert before == [(1, WORKER, NOW), (2, "w-2", LATER)]
    assert [(one.number, one.outcome) for one in attempts(task_id)] == [(1, None), (2, AttemptOutcome.LOST)]
    assert end(task_id, attempt=1)


def test_the_step_to_documents_and_back_keeps_those_of_information_reports(empty_database: str) -> None:
    schema.upgrade("0007")
    facts = {"path": "a.pdf", "sha256": "0" * 64, "size_bytes": 7, "pages": 1, "created_at": NOW}
    with database.writing() as session:
        session.execute(
            text(
                "INSERT INTO report_documents (report_id, version, path, sha256, size_bytes, pages, created_at)"
                " VALUES ('R-1', 2, :path, :sha256, :size_bytes, :pages, :created_at)"
            ),
            {**facts, "created_at": NOW.replace(tzinfo=None)},
        )

    schema.upgrade()

    with database.writing() as session:
        kept = find_document(session, DocumentKind.INFORMATION_REPORT, "R-1", 2)
        assert kept is not None
        assert kept.model_dump(include=set(facts)) == facts
        session.add(Document(kind=DocumentKind.SLA_REPORT, subject="2026-10", version=1, **facts))
    schema.downgrade("0007")
    with database.reading() as session:
        rows = session.execute(text("SELECT report_id, version, path FROM report_documents")).all()
    assert [tuple(row) for row in rows] == [("R-1", 2, "a.pdf")]


def test_below_the_first_step_there_is_nothing_and_the_error_says_so(empty_database: str) -> None:
    schema.upgrade()
    schema.downgrade("base")

    with pytest.raises(DatabaseError, match="is empty: there is nothing to go back to"):
        schema.downgrade()


def test_a_database_of_newer_code_is_left_alone_with_the_mend(empty_database: str) -> None:
    schema.upgrade()
    with database.writing() as session:
        session.connection().exec_driver_sql("UPDATE alembic_version SET version_num = 'from_the_future'")

    with pytest.raises(DatabaseError, match=r"from_the_future.* use the code that the database was migrated with"):
        schema.upgrade()

    assert table_names() == TABLES


UPGRADE = """
import sys
from models import database, schema
database.bind(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print(schema.upgrade())
"""


def test_upgrades_at_once_wait_for_each_other(empty_database: str) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", UPGRADE, empty_database],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip

    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    ended = [process.communicate(timeout=60) for process in processes]

    assert ended == [(f"{schema.head()}\n", "")] * 2
    assert table_names() == TABLES


@pytest.mark.usefixtures("rebind")
def test_a_folder_that_cannot_be_made_is_named_with_the_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    database.bind(f"sqlite:///{tmp_path / 'file' / 'sub' / 'x.db'}")

    with pytest.raises(
        DatabaseUnavailable, match=r"cannot be made .*: set CALLBOARD_VAR_DIR or CALLBOARD_DATABASE_URL"
    ):
        schema.upgrade()


@pytest.mark.usefixtures("rebind")
def test_a_file_that_is_no_database_is_named_with_the_mend(tmp_path: Path) -> None:
    path = tmp_path / "junk.db"
    path.write_bytes(b"these are not the pages that you are looking for" * 100)
    database.bind(f"sqlite:///{path}")

    with pytest.raises(DatabaseUnavailable, match=r"junk.db cannot be used \(file is not a database\): check that"):
        schema.upgrade()


@pytest.mark.usefixtures("rebind")
def test_a_database_in_which_tables_may_not_be_made_is_named_with_the_mend(postgres_url: str) -> None:
    url = fresh_postgres(postgres_url)
    database.bind(url)
    with database.writing() as session:
        session.connection().exec_driver_sql("CREATE ROLE guest NOSUPERUSER")
        session.connection().exec_driver_sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    joined = "&" if "?" in url else "?"
    database.bind(f"{url}{joined}options=-crole%3Dguest")

    with pytest.raises(DatabaseUnavailable, match=r"permission denied for schema public\): check that"):
        schema.upgrade()
