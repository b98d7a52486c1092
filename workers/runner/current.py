"""`current_task()`: what a running function knows of its own task, and how it reports progress and logs.

    task = current_task()
    task.progress(3, 10, "third page")
    task.log.info("page %d has %d rows", 3, 100)

Outside a worker (an actor called directly, a unit test) the task is inert: progress and log lines go to the ordinary
logger only. A database that is down loses progress and log lines, never the task: they are not worth failing for.
"""

import logging
import time
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from datetime import UTC, datetime

from models import direct, task_notes
from models.database import DatabaseError
from models.task_notes import LogLine, Progress

PROGRESS_INTERVAL_S = 0.2
"""Progress is written at most this often, and always when it reaches the end."""

_logger = logging.getLogger("callboard.task")


@dataclass
class TaskLogger:
    """Log lines that are kept with the attempt, and passed on to Python's logging."""

    task_id: str | None
    attempt: int

    def debug(self, text: str, *args: object) -> None:
        """Keep a line of level debug; `args` are put into `text` with %."""
        self._write(logging.DEBUG, text, args)

    def info(self, text: str, *args: object) -> None:
        """Keep a line of level info."""
        self._write(logging.INFO, text, args)

    def warning(self, text: str, *args: object) -> None:
        """Keep a line of level warning."""
        self._write(logging.WARNING, text, args)

    def error(self, text: str, *args: object) -> None:
        """Keep a line of level error."""
        self._write(logging.ERROR, text, args)

    def _write(self, level: int, text: str, args: tuple[object, ...]) -> None:
        line = text % args if args else text
        _logger.log(level, "%s", line)
        if self.task_id is None:
            return
        try:
            with direct.transaction() as to:
                level_name = logging.getLevelName(level).lower()
                task_notes.write(to, [LogLine(self.task_id, self.attempt, level_name, line, datetime.now(UTC))])
        except DatabaseError as error:
            _logger.warning("a log line of task %s is lost: %s", self.task_id, error)


@dataclass
class CurrentTask:
    """The task that runs in this thread; `id` is None outside a worker."""

    id: str | None = None
    attempt: int = 1
    retry_count: int = 0
    correlation_id: str | None = None
    log: TaskLogger = field(init=False)
    _written_at_s: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.log = TaskLogger(self.id, self.attempt)

    def progress(self, done: float, total: float, message: str | None = None) -> None:
        """Report that `done` of `total` (> 0, any unit) is done."""
        if total <= 0:
            raise ValueError(f"total: expected more than 0, got {total}")
        now_s = time.monotonic()
        if self.id is None or (done < total and now_s - self._written_at_s < PROGRESS_INTERVAL_S):
            return
        self._written_at_s = now_s
        try:
            with direct.transaction() as to:
                task_notes.write(to, [Progress(self.id, self.attempt, done / total, message)])
        except DatabaseError as error:
            _logger.warning("progress of task %s is lost: %s", self.id, error)


_current: ContextVar[CurrentTask | None] = ContextVar("callboard_current_task", default=None)


def current_task() -> CurrentTask:
    """The task that this function runs for; an inert one outside a worker."""
    return _current.get() or CurrentTask()


def enter(task: CurrentTask) -> Token[CurrentTask | None]:
    """Make it the current task; called by the status middleware."""
    return _current.set(task)


def leave(token: Token[CurrentTask | None]) -> None:
    """Undo `enter`."""
    _current.reset(token)
