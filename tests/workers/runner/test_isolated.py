"""Isolated tasks: what a child returns, raises, reports, and each way that it can end."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import servers
from tests.probes import lines
from tests.servers import wait_until
from tests.workers.runner import isolated_actors as actors
from tests.workers.runner.conftest import Notes, as_task
from workers.errors import (
    Cancelled,
    ChildDied,
    InvalidTask,
    PermanentError,
    ResultNotStorable,
    Retry,
    TimeLimitExceeded,
)
from workers.runner.current import CurrentTask
from workers.runner.isolated import Isolation
from workers.runner.window import windows
from workers.runner.wire import ChildTraceback

pytestmark = pytest.mark.usefixtures("isolation")


def run(actor: Callable[..., Any], *args: Any, **task: Any) -> Any:
    """The actor as a worker's thread runs it."""
    with as_task(CurrentTask(**{"id": "t-1", "attempt": 2, **task})):
        return actor(*args)


def gone(pid: int) -> bool:
    """Whether no such process runs."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_an_isolated_task_runs_in_a_session_of_its_own_and_knows_itself() -> None:
    told = run(actors.who, 7)

    assert (told["value"], told["id"], told["attempt"]) == (7, "t-1", 2)
    assert told["pid"] == told["session"] != os.getpid()
    assert gone(told["pid"])


def test_an_async_actor_is_isolated_too() -> None:
    told = run(actors.who_async, 7)

    assert (told["value"], told["id"]) == (7, "t-1")
    assert told["pid"] != os.getpid()


def test_called_directly_it_runs_in_place() -> None:
    assert actors.who(7)["pid"] == os.getpid()
    assert actors.who_async(7)["pid"] == os.getpid()


def test_a_suspect_runs_in_a_child_though_its_actor_is_not_isolated() -> None:
    assert run(actors.not_isolated) == os.getpid()
    assert run(actors.not_isolated, alone=True) != os.getpid()


def test_what_it_reports_reaches_the_workers_sink(notes: Notes) -> None:
    run(actors.talk)

    assert notes.lines == [("t-1", 2, "warning", "line 1"), ("t-1", 2, "error", "line 2")]
    assert notes.values == [("t-1", 2, 0.5, "half")]


@pytest.mark.parametrize(
    ("how", "signal_number", "exit_code", "said"),
    [
        ("segfault", signal.SIGSEGV, None, "killed by SIGSEGV"),
        ("exit", None, 3, "exited with code 3 in mid-task"),
    ],
)
def test_a_child_that_dies_by_itself_says_how(
    how: str, signal_number: int | None, exit_code: int | None, said: str
) -> None:
    with pytest.raises(ChildDied, match=said) as raised:
        run(actors.die, how)

    assert (raised.value.signal_number, raised.value.exit_code) == (signal_number, exit_code)


def test_sys_exit_is_an_exception_as_in_a_thread() -> None:
    with pytest.raises(SystemExit) as raised:
        run(actors.die, "sys.exit")

    assert raised.value.args == (4,)


@pytest.mark.parametrize(
    ("kind", "expected", "said", "state"),
    [
        ("value", ValueError, "value", {}),
        ("permanent", PermanentError, "never", {}),
        ("retry", Retry, "later", {"delay": 700}),
        ("os", FileNotFoundError, "[Errno 2] No such file: '/nowhere'", {"errno": 2, "filename": "/nowhere"}),
        ("invalid", InvalidTask, "bad", {"field": "params.x"}),
        ("unicode", UnicodeError, "UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff in position 0", {}),
        ("local", LookupError, "Odd: ('odd', <class 'object'>)", {}),
    ],
)
def test_an_exception_comes_through_with_its_class_text_and_traceback(
    kind: str, expected: type[Exception], said: str, state: dict[str, Any]
) -> None:
    with pytest.raises(expected) as raised:
        run(actors.fail, kind)

    assert str(raised.value).startswith(said)
    assert {name: getattr(raised.value, name) for name in state} == state
    assert isinstance(raised.value.__cause__, ChildTraceback)
    assert "isolated_actors.py" in str(raised.value.__cause__)


def test_a_task_that_takes_too_much_memory_fails_clearly_and_another_does_not() -> None:
    assert run(actors.hog, 16) == 16 * 1024 * 1024

    with pytest.raises(MemoryError, match="more than the 64 MiB that memory_limit_mb allows it: raise it, or do less"):
        run(actors.hog, 200)


@pytest.mark.parametrize(
    ("size", "said"), [(300_000, "more than the 262,144 allowed"), (0, "cannot be written as JSON")]
)
def test_a_result_that_cannot_be_kept_is_said_and_not_retried(size: int, said: str) -> None:
    with pytest.raises(ResultNotStorable, match=said):
        run(actors.answer, size)

    assert run(actors.answer, 200_000) == "x" * 200_000


def test_the_hard_limit_kills_what_hears_nothing(tmp_path: Path) -> None:
    paper = tmp_path / "evidence"

    with pytest.raises(TimeLimitExceeded, match=r"killed at the hard limit of 0\.4 s"):
        run(actors.spin, str(paper), time_limit_s=0.1)

    assert gone(int(lines(paper)[0]))


def test_the_soft_limit_is_an_exception_in_the_child(tmp_path: Path) -> None:
    with pytest.raises(TimeLimitExceeded, match="the task ran longer than its time limit") as raised:
        run(actors.sleep_with_a_helper, str(tmp_path / "evidence"), time_limit_s=0.2)

    assert isinstance(raised.value.__cause__, ChildTraceback)


def test_a_cancelled_task_is_killed_and_all_that_it_started(tmp_path: Path) -> None:
    paper = tmp_path / "evidence"

    def cancel() -> None:
        wait_until(lambda: lines(paper), within_s=20, what="the child to run")
        assert windows.interrupt("t-1", Cancelled)

    canceller = threading.Thread(target=cancel)
    canceller.start()
    with pytest.raises(Cancelled, match="its child process was killed"):
        run(actors.sleep_with_a_helper, str(paper))
    canceller.join()

    child, helper = map(int, lines(paper)[0].split())
    assert gone(child)
    wait_until(lambda: gone(helper), within_s=5, what="the helper to be gone")
    assert not windows.interrupt("t-1", Cancelled)


def test_a_fork_server_that_was_killed_costs_one_task_and_is_started_again(isolation: Isolation) -> None:
    server = isolation._server
    assert server is not None
    run(actors.who, 1)
    server.kill()
    server.wait()

    assert run(actors.who, 2)["value"] == 2


def test_children_of_a_killed_worker_end_with_it(tmp_path: Path, sqlite_database: str) -> None:
    paper = tmp_path / "evidence"
    script = (
        "import sys, threading\n"
        "from tests.workers.runner import isolated_actors as actors\n"
        "from tests.workers.runner.test_isolated import run\n"
        "for _ in range(2):\n"
        "    threading.Thread(target=run, args=(actors.sleep_with_a_helper, sys.argv[1])).start()\n"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", script, str(paper)], env={**os.environ, "CALLBOARD_DATABASE_URL": sqlite_database}
    )
    try:
        wait_until(lambda: len(lines(paper)) == 2, within_s=30, what="both children to run")
        pids = [int(pid) for line in lines(paper) for pid in line.split()]
        (server,) = psutil.Process(worker.pid).children()
    finally:
        servers.end(worker)

    wait_until(
        lambda: all(map(gone, [*pids, server.pid])), within_s=10, what="the children, theirs, and the server to go"
    )
