"""The OpenAPI document is true: schemathesis tries what it allows and what it forbids, and finds nothing.

A real server, with a real worker and a real scheduler behind it, that wants a token. In short the cases that the
schemas suggest, the same each time; CALLBOARD_TEST_FULL=1 tries thousands more, and chains of calls.
"""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from dramatiq import Worker

from models.task import TaskStatus
from periodic.agenda import Agenda
from periodic.timetable import TIMETABLE
from tests.conftest import PROJECT_DIR
from tests.scale import FULL
from tests.servers import wait_until
from tests.workers.web.conftest import serving
from tests.workers.web.tokens import SECRETS, with_tokens
from workers import bulk, callboard, tasks
from workers.web import create_app

__all__ = ["with_tokens"]

CASES = 150 if FULL else 3
"""Of each call and phase; the cases that each schema's bounds suggest come on top."""


@pytest.fixture
def scheduler(sqlite_database: str) -> Iterator[None]:
    """Wakes as periodiq would have it."""
    agenda, over = Agenda(callboard, TIMETABLE), threading.Event()

    def wake() -> None:
        while not over.wait(0.5):
            agenda.wake()

    thread = threading.Thread(target=wake)
    agenda.wake()
    thread.start()
    yield
    over.set()
    thread.join()


@pytest.fixture
def ending(worker: Worker) -> Iterator[None]:
    """What was sent is ended with the test: a self-test may take an hour."""
    yield
    for status in (TaskStatus.PENDING, TaskStatus.RUNNING):
        while bulk.act(bulk.Action.CANCEL, tasks.make_filter(status), by="the test").more:
            pass
    wait_until(lambda: tasks.get_task_count(TaskStatus.RUNNING) == 0, within_s=60, what="the end of all tasks")


@pytest.mark.timeout(3_600 if FULL else 900)
@pytest.mark.usefixtures("with_tokens", "sqlite_database", "scheduler", "ending")
def test_schemathesis_finds_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(callboard.settings, "api_rate_per_s", 100_000.0)
    with serving(create_app()) as url:
        found = subprocess.run(
            [
                sys.executable, "-m", "schemathesis.cli", "--config-file",
                PROJECT_DIR / "tests/workers/web/schemathesis.toml", "run", f"{url}/openapi.json",
                "--header", f"Authorization: Bearer {SECRETS['admin']}", "--checks", "all",
                *(() if FULL else ("--phases", "examples,coverage")),
                "--max-examples", str(CASES), "--generation-deterministic", "--request-timeout", "120",
                # why not: it never ends; test_events.py reads it.
                "--exclude-path", "/api/events",
                "--warnings", "off", "--no-color",
            ],
            capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip

    print(found.stdout)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "No issues found" in found.stdout
