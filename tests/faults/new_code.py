"""What a release adds: an actor that the workers of the old code do not know."""

from models.task import TaskType
from tests.soak.actors import perform
from workers.registry import actor


@actor(task_type=TaskType.REPORT)
def announced(token: str) -> str:
    """Do nothing."""
    return perform(token, lambda _task: None)
