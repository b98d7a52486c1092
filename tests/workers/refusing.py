"""A database that stays empty, for tests of what is refused: migrated once a module, bound for each test."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from models import database
from workers import callboard, tasks

__all__ = ["migrated", "refusing"]


@pytest.fixture(scope="module")
def migrated(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a migrated SQLite database."""
    path = tmp_path_factory.mktemp("refusing") / "test.db"
    shutil.copy(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture
def refusing(migrated: str, bus: object) -> Iterator[None]:
    """That database, bound, over an empty bus; in the end it still has no row."""
    database.bind(migrated)
    yield
    assert tasks.get_task_count() == 0
    database.engine().dispose()
    database.bind(callboard.settings.database)
