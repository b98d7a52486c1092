"""How our processes write their log lines: for people or as JSON, with the task they belong to, never with a secret.

A line is one line, whatever was logged: line breaks and control characters in a message are written as escapes, so that
a task can neither forge a line nor move the cursor of whoever reads it. The lines of a traceback follow, indented.

Must not: decide which lines are written; that is the affair of levels and of whoever logs.
"""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any

from models.redaction import redact_text
from models.text import words_of
from workers.runner import correlation
from workers.runner.current import running_task
from workers.settings import LogFormat

LINE_MAX_CHARS = 16 * 1024
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class _Formatter(logging.Formatter):
    """What both have in common: the fields of a line."""

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """What a line says; `error` holds the traceback."""
        task = running_task()
        found: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _safe(task, _message_of(record)),
            "pid": record.process,
            "thread": record.threadName,
        }
        if task is not None:
            found |= {"task_id": task.id, "actor": task.actor, "attempt": task.attempt,
                      "correlation_id": task.correlation_id}  # fmt: skip
        elif correlation.current() is not None:
            found["correlation_id"] = correlation.current()
        if record.exc_info and record.exc_info[1] is not None:
            found["error"] = _safe(task, self.formatException(record.exc_info))
        return found


class JsonFormatter(_Formatter):
    """One JSON object a line, ASCII only."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        return json.dumps(self.fields(record), default=str)


class ConsoleFormatter(_Formatter):
    """`time level [pid] logger message [task actor attempt of correlation]`, then the traceback, indented; of a request
    that has a correlation id just that."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, and those of the traceback."""
        said = self.fields(record)
        task = ""
        if said.get("task_id"):
            task = f" [{said['task_id']} {said['actor']} attempt {said['attempt']}"
            task += "]" if said["correlation_id"] in (None, said["task_id"]) else f" of {said['correlation_id']}]"
        elif said.get("correlation_id"):
            task = f" [of {said['correlation_id']}]"
        head = f"{said['time']} {said['level'].upper():<7} [{said['pid']}] {said['logger']} {said['message']}{task}"
        lines = [escape(head), *("    " + escape(line) for line in said.get("error", "").split("\n") if line)]
        return "\n".join(lines)


def escape(text: str) -> str:
    """The text on one line, every control character and change of direction written as an escape."""
    return _UNPRINTABLE.sub(lambda found: repr(found.group())[1:-1], text)


def install(form: LogFormat) -> None:
    """Make this process write its lines so: whatever writes to a stream now, and standard error if nothing does."""
    root = logging.getLogger()
    formatter = JsonFormatter() if form is LogFormat.JSON else ConsoleFormatter()
    # why by exact type: handlers of somebody's own, and those of tests, keep what they have.
    streams = [handler for handler in root.handlers if type(handler) is logging.StreamHandler]
    if not root.handlers:
        root.addHandler(logging.StreamHandler(sys.stderr))
        root.setLevel(logging.INFO)
        streams = [handler for handler in root.handlers if type(handler) is logging.StreamHandler]
    for handler in streams:
        handler.setFormatter(formatter)


def _message_of(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()[: 2 * LINE_MAX_CHARS]
    except Exception as error:  # why: the arguments' own code runs here, and a line must not be lost for it.
        return f"{record.msg} (its arguments cannot be shown: {words_of(error)})"


def _safe(task: Any, text: str) -> str:
    shown = redact_text(text) if task is None else task.log.redacted(text)
    return shown if len(shown) <= LINE_MAX_CHARS else shown[:LINE_MAX_CHARS] + "… [cut]"
