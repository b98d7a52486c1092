"""Log lines: one is one, whatever was logged; with its task; without secrets; for people or as JSON."""

import json
import logging
import os
import subprocess
import sys

import pytest

from workers.runner import current
from workers.runner.log_format import LINE_MAX_CHARS, ConsoleFormatter, JsonFormatter, escape

HOSTILE = ["\r\nERROR fake", "\x1b[2J", "\x00", "\u2028ERROR", "\x9b31m", "\u202egnol", "\ud800", "\x7f", "a\tb"]


def record(message: str, *args: object, error: BaseException | None = None) -> logging.LogRecord:
    info = None if error is None else (type(error), error, error.__traceback__)
    return logging.LogRecord("some.logger", logging.WARNING, __file__, 1, message, args, info)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_message_cannot_forge_a_line_or_move_the_cursor(text: str) -> None:
    line = ConsoleFormatter().format(record("got %s", text))

    assert line.isprintable()
    assert JsonFormatter().format(record(text)).isascii()
    assert len(JsonFormatter().format(record(text)).splitlines()) == 1


@pytest.mark.parametrize("text", HOSTILE)
def test_an_exceptions_message_stays_behind_the_margin(text: str) -> None:
    first, *others = ConsoleFormatter().format(record("failed", error=ValueError(text))).split("\n")

    assert first.endswith("some.logger failed")
    assert others
    assert all(line.startswith("    ") and line.isprintable() for line in others)


def test_a_line_names_its_task() -> None:
    task = current.CurrentTask(id="t-1", actor="email.send", attempt=2, correlation_id="c-1")
    token = current.enter(task)
    try:
        shown, said = ConsoleFormatter().format(record("hello")), json.loads(JsonFormatter().format(record("hello")))
    finally:
        current.leave(token)

    assert shown.endswith(f"WARNING [{said['pid']}] some.logger hello [t-1 email.send attempt 2 of c-1]")
    wanted = {"level": "warning", "logger": "some.logger", "message": "hello", "task_id": "t-1", "actor": "email.send",
              "attempt": 2, "correlation_id": "c-1"}  # fmt: skip
    assert said.items() >= wanted.items()
    assert said["pid"] == os.getpid() or said["pid"]


@pytest.mark.parametrize("formatter", [ConsoleFormatter(), JsonFormatter()])
def test_no_line_has_a_secret(formatter: logging.Formatter) -> None:
    task = current.CurrentTask(id="t-1")
    task.log.hide(frozenset({"hunter2-Zq9"}))
    token = current.enter(task)
    try:
        shown = formatter.format(record("with %s", "hunter2-Zq9", error=ValueError("password=other-Zq9 hunter2-Zq9")))
    finally:
        current.leave(token)

    assert "Zq9" not in shown


def test_a_line_whose_arguments_fail_is_written_all_the_same() -> None:
    assert "%d apples (its arguments cannot be shown" in ConsoleFormatter().format(record("%d apples", "many"))


def test_a_line_of_megabytes_is_cut() -> None:
    assert len(JsonFormatter().format(record("x" * 10_000_000))) < LINE_MAX_CHARS + 1_000


def test_ordinary_text_is_not_escaped() -> None:
    assert escape("Größe 5 € – 日本") == "Größe 5 € – 日本"


WRITE = """
import sys
sys.argv[0] = "dramatiq"
import logging
logging.basicConfig(level=logging.INFO)
import workers
logging.getLogger("x").warning("password=%s\\nERROR fake", "hunter2-Zq9")
"""


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_worker_process_writes_so(form: str) -> None:
    ended = subprocess.run([sys.executable, "-c", WRITE], env=os.environ | {"CALLBOARD_LOG_FORMAT": form},
                           capture_output=True, text=True, check=True)  # fmt: skip

    (line,) = ended.stderr.splitlines()
    assert "hunter2-Zq9" not in line
    assert (json.loads(line)["message"] if form == "json" else line).endswith("***\\nERROR fake"[-4:])
