"""Databases that many quick tests share: each test makes rows under ids of its own."""

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import delete
from sqlmodel import SQLModel

from models import database
from tests import databases
from workers import callboard


@pytest.fixture(scope="session")
def shared_sqlite(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A migrated SQLite database of this session."""
    path = tmp_path_factory.mktemp("shared") / "shared.db"
    shutil.copy(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture(scope="session")
def shared_postgres(postgres_url: str) -> str:
    """A migrated PostgreSQL database of this session."""
    return databases.copy_of_template(postgres_url)


@pytest.fixture(params=["sqlite", "postgresql"])
def any_database(request: pytest.FixtureRequest) -> Iterator[str]:
    """A migrated database, bound and perhaps full of other tests' rows; the test runs on both kinds."""
    url: str = request.getfixturevalue("shared_sqlite" if request.param == "sqlite" else "shared_postgres")
    database.bind(url)
    yield url
    database.bind(callboard.settings.database)


@pytest.fixture
def empty_tables(any_database: str) -> str:
    """As `any_database`, without the rows of other tests."""
    with database.engine().begin() as connection:
        for table in reversed(SQLModel.metadata.sorted_tables):  # why: what refers to others goes first.
            connection.execute(delete(table))
    return any_database


@pytest.fixture
def shared_sqlite_bound(shared_sqlite: str) -> Iterator[str]:
    """The session's SQLite database, bound."""
    database.bind(shared_sqlite)
    yield shared_sqlite
    database.bind(callboard.settings.database)


@pytest.fixture
def rebind() -> Iterator[None]:
    """For tests that bind databases themselves."""
    yield
    database.bind(callboard.settings.database)


def fresh_postgres(postgres_url: str) -> str:
    """The URL of a new, empty database on the session's server."""
    name = f"m{uuid.uuid4().hex}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]  # the name is made above
    return postgres_url.replace("/postgres?", f"/{name}?")
