"""Running a task's function as the worker does, and waiting for a row to end."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlmodel import SQLModel, select

from models import database
from tests.workers.rows import ended, row
from workers.runner import current

__all__ = ["all_rows", "as_task", "ended", "row"]
Row = TypeVar("Row", bound=SQLModel)


@contextmanager
def as_task(task_id: str, attempt: int = 1) -> Iterator[None]:
    """Inside, `current_task()` is this task: what the status middleware does for a claimed attempt."""
    token = current.enter(current.CurrentTask(id=task_id, attempt=attempt))
    try:
        yield
    finally:
        current.leave(token)


def all_rows(table: type[Row]) -> list[Row]:
    """Every row of a table, in the order of its key: PostgreSQL gives changed ones in another."""
    with database.reading() as session:
        return list(session.exec(select(table).order_by(*table.__table__.primary_key)).all())  # type: ignore[attr-defined]  # SQLModel's
