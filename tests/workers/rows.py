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


def ended(task_id: str, *, within_s: float = 20) -> Task:
    """The task once it has ended."""
    seen: list[Task] = []

    def has_ended() -> bool:
        seen[:] = [row(task_id)]
        return seen[0].status in TERMINAL

    wait_until(has_ended, within_s=within_s, what=f"the end of {task_id}")
    return seen[0]


def all_ended(*task_ids: str, within_s: float = 60) -> list[Task]:
    """The tasks once they have ended, in the order of the ids."""
    return [ended(task_id, within_s=within_s) for task_id in task_ids]


def outcomes(task_id: str) -> list[str | None]:
    """How its attempts ended, in order; their numbers have no gap."""
    with database.reading() as session:
        found = task_query.attempts(session, task_id)
    assert [attempt.number for attempt in found] == list(range(1, len(found) + 1))
    return [attempt.outcome for attempt in found]
