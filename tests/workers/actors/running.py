"""Running a task's function as the worker does, and waiting for a row to end."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlmodel import SQLModel, select

from models import database
from models.task import TERMINAL, Task
from tests.servers import wait_until
from workers import tasks
from workers.runner import current

Row = TypeVar("Row", bound=SQLModel)


@contextmanager
def as_task(task_id: str, attempt: int = 1) -> Iterator[None]:
    """Inside, `current_task()` is this task: what the status middleware does for a claimed attempt."""
    token = current.enter(current.CurrentTask(id=task_id, attempt=attempt))
    try:
        yield
    finally:
        current.leave(token)


def ended(task_id: str, *, within_s: float = 20) -> Task:
    """The row once it is terminal."""
    wait_until(lambda: row(task_id).status in TERMINAL, within_s=within_s, what=f"the end of {task_id}")
    return row(task_id)


def row(task_id: str) -> Task:
    """The row."""
    found = tasks.get_task(task_id)
    assert found is not None
    return found


def all_rows(table: type[Row]) -> list[Row]:
    """Every row of a table."""
    with database.reading() as session:
        return list(session.exec(select(table)).all())
