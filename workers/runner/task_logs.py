"""Keeps what a task writes by Python's own `logging` with its attempt, beside the lines of `current_task().log`.

Loggers of the machinery are left out: theirs are lines about the system. Bounded as all lines of an attempt are.
"""

import logging

from workers.runner.current import current_task

_MACHINERY = frozenset(
    {"callboard", "dramatiq", "redis", "sqlalchemy", "asyncio", "models", "workers", "periodic", "periodiq"}
)
_DOMAINS = "workers.actors."


class TaskLogHandler(logging.Handler):
    """Gives records of the present task to its log; to be added to the root logger."""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it, if a task runs here."""
        if record.name.partition(".")[0] in _MACHINERY and not record.name.startswith(_DOMAINS):
            return
        task = current_task()
        if task.id is None:
            return
        try:
            task.log.keep(record.levelno, self.format(record))
        except Exception:  # why: a record that cannot be formatted must not fail the task
            self.handleError(record)
