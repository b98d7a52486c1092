"""Names that the shell completes: actors, queues, schedules, statuses. Raises nothing, prints nothing: a shell waits.

An actor or queue is known to this code; schedules are read from the database, if it answers.
"""

from models.task import TaskStatus, TaskType
from workers import callboard


def actors(incomplete: str) -> list[str]:
    """Names of actors; legacy ones once what is typed fits no other."""
    known = sorted(name for name in callboard.registry.actors if name.startswith(incomplete))
    return known or sorted(name for name in callboard.registry.aliases if name.startswith(incomplete))


def queues(incomplete: str) -> list[str]:
    """Names of queues."""
    return sorted(name for name in callboard.broker.get_declared_queues() if name.startswith(incomplete))


def statuses(incomplete: str) -> list[str]:
    """What a task can be."""
    return [one for one in TaskStatus if one.startswith(incomplete)]


def types(incomplete: str) -> list[str]:
    """Types of tasks."""
    return sorted(one for one in TaskType if one.startswith(incomplete))


def schedules(incomplete: str) -> list[str]:
    """Ids of schedules."""
    from models import direct  # why: the shell waits, and only this one asks the database.

    try:
        with direct.reading() as to:
            rows = to.run("SELECT schedule_id FROM schedules ORDER BY schedule_id")
    except Exception:  # why: whatever is wrong with the database, a shell is not the place to say so.
        return []
    return [row[0] for row in rows if row[0].startswith(incomplete)]


def doctor(incomplete: str) -> list[str]:
    """What `doctor` can be asked about, but for tasks."""
    return [*queues(incomplete), *schedules(incomplete)]
