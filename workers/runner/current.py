"""`current_task()`: what a running function knows of its own task, and how it reports progress and logs.

    task = current_task()
    task.progress(3, 10, "third page")
    task.log.info("page %d has %d rows", 3, 100)
    task.checkpoint()

Outside a worker (an actor called directly, a unit test) the task is inert: progress and log lines go to the ordinary
logger only. A database that is down loses progress and log lines, never the task: they are not worth failing for.

Where they go is the sink's affair: directly to the database, to the ledger's group commit, or from an isolated child to
its worker. No interrupt lands while a sink writes.
"""

import logging
import time
from collections.abc import Callable
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from models import direct, task_notes
from models.database import DatabaseError
from models.redaction import redact_text
from models.task_notes import LogLine, Progress
from workers.runner.window import Window, windows

PROGRESS_INTERVAL_S = 0.2
"""Progress is written at most this often, and always when it reaches the end."""
LINES_PER_ATTEMPT = task_notes.LOG_LINES_PER_ATTEMPT
LINE_MAX_CHARS = task_notes.LOG_LINE_MAX_CHARS

_logger = logging.getLogger("callboard.task")


class Sink(Protocol):
    """Takes what tasks report. Its methods are called by many threads, and raise nothing.

    waits: whether they wait for the database. If so, lines that a task writes by Python's logging are given to it only
    when the function has ended: a library may log while the task has a transaction open, and on SQLite the line would
    wait for it, and it for the line.
    """

    waits: bool

    def log(self, task_id: str, attempt: int, level: str, line: str, at: datetime) -> None:
        """Keep a log line; level is debug, info, warning, error or critical."""

    def progress(self, task_id: str, attempt: int, value: float, message: str | None) -> None:
        """Keep how far it is, 0–1."""


class DirectSink:
    """One transaction a line."""

    waits = True

    def log(self, task_id: str, attempt: int, level: str, line: str, at: datetime) -> None:
        """Write it."""
        try:
            with direct.transaction() as to:
                task_notes.write(to, [LogLine(task_id, attempt, level, line, at)])
        except DatabaseError as error:
            _logger.warning("a log line of task %s is lost: %s", task_id, error)

    def progress(self, task_id: str, attempt: int, value: float, message: str | None) -> None:
        """Write it."""
        try:
            with direct.transaction() as to:
                task_notes.write(to, [Progress(task_id, attempt, value, message)])
        except DatabaseError as error:
            _logger.warning("progress of task %s is lost: %s", task_id, error)


_sink: Sink = DirectSink()
_secrets_of: Callable[[Any], frozenset[str]] = lambda _message: frozenset()  # noqa: E731 - replaced as a whole


def find_secrets_by(secrets_of: Callable[[Any], frozenset[str]]) -> None:
    """How the secret values among a message's arguments are found; called once, where the process is composed."""
    global _secrets_of
    _secrets_of = secrets_of


def report_to(sink: Sink) -> Sink:
    """From here on all tasks of this process report to this sink; returns the one before."""
    global _sink
    before, _sink = _sink, sink
    return before


def pass_on_log(task: "CurrentTask", level: str, line: str, at: datetime) -> None:
    """Give the sink a line that an isolated child wrote."""
    if task.id is not None:
        _sink.log(task.id, task.attempt, level, task.log.redacted(line), at)


def pass_on_progress(task: "CurrentTask", value: float, message: str | None) -> None:
    """Give the sink the progress that an isolated child reported."""
    if task.id is not None:
        _sink.progress(task.id, task.attempt, value, message and task.log.redacted(message))


@dataclass(slots=True)
class TaskLogger:
    """Log lines that are kept with the attempt, and passed on to Python's logging."""

    task_id: str | None
    attempt: int
    _kept: int = field(default=0, init=False)
    _later: list[tuple[str, str, datetime]] = field(default_factory=list, init=False)
    _message: Any = field(default=None, init=False, repr=False)
    _hidden: frozenset[str] | None = field(default=None, init=False, repr=False)

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

    def keep(self, level: int, line: str, *, at_once: bool = False) -> None:
        """Keep a line without passing it on; dropped after LINES_PER_ATTEMPT of them, cut at LINE_MAX_CHARS.

        Args:
            at_once: also if the sink waits for the database; else then when the function has ended.
        """
        if self.task_id is None or self._kept >= LINES_PER_ATTEMPT:
            return
        self._kept += 1
        shown = self.redacted(line[: 2 * LINE_MAX_CHARS])[:LINE_MAX_CHARS]
        kept = (logging.getLevelName(level).lower(), shown, datetime.now(UTC))
        with windows.masked():
            if _sink.waits and not at_once:
                self._later.append(kept)
            else:
                _sink.log(self.task_id, self.attempt, *kept)

    def hide_secrets_of(self, message: Any) -> None:
        """Whose secret arguments are not to be in its lines."""
        self._message = message

    def hide(self, values: frozenset[str]) -> None:
        """What is not to be in its lines."""
        self._hidden = values

    def redacted(self, line: str) -> str:
        """The line without secrets."""
        if self._hidden is None:
            self._hidden = frozenset() if self._message is None else _secrets_of(self._message)
        return redact_text(line, self._hidden)

    def flush(self) -> None:
        """The function has ended: give the sink what was kept for then."""
        later, self._later = self._later, []
        for kept in later:
            _sink.log(self.task_id or "", self.attempt, *kept)

    def _write(self, level: int, text: str, args: tuple[object, ...]) -> None:
        line = self.redacted(text % args if args else text)
        with windows.masked():
            _logger.log(level, "%s", line)
            self.keep(level, line, at_once=True)


@dataclass(slots=True)
class CurrentTask:
    """The task that runs in this thread; `id` is None outside a worker.

    alone: set by the ledger for a task that is suspected of killing workers: it runs in a child process.
    time_limit_s: the soft limit of this attempt, set by the time limit's middleware; None: none.
    window: of the run; set once the function is entered.
    fencing_token: of the lock that it runs under, if its actor is `@exclusive`: a number that grows with each holder.
    """

    id: str | None = None
    actor: str | None = None
    attempt: int = 1
    retry_count: int = 0
    correlation_id: str | None = None
    alone: bool = False
    time_limit_s: float | None = None
    window: Window | None = field(default=None, repr=False)
    fencing_token: int | None = None
    message: Any = field(default=None, repr=False)
    _log: TaskLogger | None = field(default=None, init=False, repr=False)
    _written_at_s: float = field(default=0.0, init=False)

    @property
    def log(self) -> TaskLogger:
        """Its log lines."""
        if self._log is None:  # why not at once: most tasks log nothing.
            self._log = TaskLogger(self.id, self.attempt)
            self._log.hide_secrets_of(self.message)
        return self._log

    def flush_log(self) -> None:
        """The function has ended: see TaskLogger.flush."""
        if self._log is not None:
            self._log.flush()

    def progress(self, done: float, total: float, message: str | None = None) -> None:
        """Report that `done` of `total` (> 0, any unit) is done."""
        if total <= 0:
            raise ValueError(f"total: expected more than 0, got {total}")
        now_s = time.monotonic()
        if self.id is None or (done < total and now_s - self._written_at_s < PROGRESS_INTERVAL_S):
            return
        self._written_at_s = now_s
        with windows.masked():
            _sink.progress(self.id, self.attempt, done / total, message and self.log.redacted(message))

    def checkpoint(self) -> None:
        """A place where it is safe to stop.

        Raises:
            Cancelled: the task was cancelled, also if an earlier Cancelled was caught.
            TimeLimitExceeded: its time limit has passed.
        """
        if self.window is not None:
            self.window.check()


_current: ContextVar[CurrentTask | None] = ContextVar("callboard_current_task", default=None)


def current_task() -> CurrentTask:
    """The task that this function runs for, also inside its coroutines; an inert one outside a worker."""
    return _current.get() or CurrentTask()


def running_task() -> CurrentTask | None:
    """As `current_task`; None outside a worker."""
    return _current.get()


def enter(task: CurrentTask) -> Token[CurrentTask | None]:
    """Make it the current task; called by the status middleware."""
    return _current.set(task)


def leave(token: Token[CurrentTask | None]) -> None:
    """Undo `enter`."""
    _current.reset(token)
