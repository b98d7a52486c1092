"""What the ledger says of a task, for tests."""

from models import database, task_query
from models.task import TERMINAL, Task
from tests.servers import wait_until
from workers import tasks


def row(task_id: str) -> Task:
    """The task, which is there."""
    found = tasks.get_task(task_id)
    assert found is not None
    return found


def ended(task_id: str) -> Task:
    """The task once it has ended."""
    wait_until(lambda: row(task_id).status in TERMINAL, within_s=20, what=f"the end of {task_id}")
    return row(task_id)


def outcomes(task_id: str) -> list[str | None]:
    """How its attempts ended, in order; their numbers have no gap."""
    with database.reading() as session:
        found = task_query.attempts(session, task_id)
    assert [attempt.number for attempt in found] == list(range(1, len(found) + 1))
    return [attempt.outcome for attempt in found]
