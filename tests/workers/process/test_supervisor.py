"""The supervisor restarts what dies, stops in order, and leaves nothing behind."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.servers import wait_until
from workers.process.supervisor import Child, ChildFailed, Supervisor

FOREVER = "import signal; signal.pause()"
STUBBORN = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf', flush=True)\nsignal.pause()"
PARENT = (
    "import signal, subprocess, sys\n"
    "print(subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()']).pid, flush=True)\n"
    "signal.pause()"
)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


class Watched:
    """A supervisor in a thread, and what it said."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []
        self.supervisor = Supervisor(
            environment={"GIVEN": "yes"}, say=lambda name, line: self.said.append((name, line)), ready_timeout_s=3
        )
        self._thread = threading.Thread(target=self.supervisor.watch)

    def lines(self, name: str) -> list[str]:
        return [line for who, line in self.said if who == name]

    def watch(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self.supervisor.stop()
        if self._thread.is_alive():
            self._thread.join(timeout=10)


@pytest.fixture
def watched() -> Iterator[Watched]:
    made = Watched()
    yield made
    made.end()


def pid_of(child: Child) -> int:
    assert child.process is not None
    return child.process.pid


def test_its_children_get_the_environment_and_their_lines_are_passed_on(watched: Watched) -> None:
    watched.supervisor.start(Child("echo", python("import os; print(os.environ['GIVEN'])")))

    wait_until(lambda: watched.lines("echo") == ["yes"], within_s=5, what="the line")


def test_a_child_that_dies_is_started_again_and_its_siblings_are_not(watched: Watched) -> None:
    mortal, sibling = Child("mortal", python(FOREVER)), Child("sibling", python(FOREVER))
    watched.supervisor.start(mortal)
    watched.supervisor.start(sibling)
    watched.watch()
    before, untouched = pid_of(mortal), pid_of(sibling)

    os.kill(before, signal.SIGKILL)

    wait_until(lambda: pid_of(mortal) != before and psutil.pid_exists(pid_of(mortal)), within_s=5, what="a new process")
    assert watched.lines("mortal") == ["ended with status -9; starting it again in 0.5 s"]
    assert pid_of(sibling) == untouched


def test_the_back_off_grows_while_a_child_keeps_dying(watched: Watched) -> None:
    watched.supervisor.start(Child("sickly", python("raise SystemExit(3)")))
    watched.watch()

    wait_until(lambda: len(watched.lines("sickly")) == 3, within_s=10, what="three deaths")

    assert [line.rsplit(" in ")[1] for line in watched.lines("sickly")] == ["0.5 s", "1.0 s", "2.0 s"]


def test_what_a_dead_child_leaves_in_its_session_is_killed(watched: Watched) -> None:
    parent = Child("parent", python(PARENT))
    watched.supervisor.start(parent)
    watched.watch()
    wait_until(lambda: watched.lines("parent"), within_s=5, what="the grandchild")
    grandchild = psutil.Process(int(watched.lines("parent")[0]))

    os.kill(pid_of(parent), signal.SIGKILL)

    wait_until(lambda: not grandchild.is_running() or grandchild.status() == "zombie", within_s=5, what="its end")


def test_a_child_that_ignores_the_request_is_killed_after_its_grace(watched: Watched) -> None:
    child = Child("deaf", python(STUBBORN), grace_s=0.5)
    watched.supervisor.start(child)
    wait_until(lambda: watched.lines("deaf") == ["deaf"], within_s=5, what="the child to be deaf")

    watched.supervisor.stop()

    assert child.process is not None
    assert child.process.returncode == -signal.SIGKILL
    assert watched.lines("deaf")[-1] == "did not stop within 0.5 s and is killed"


def test_a_child_that_does_not_become_ready_is_named(watched: Watched) -> None:
    with pytest.raises(ChildFailed, match="gone ended with status 7 before it was ready"):
        watched.supervisor.start(Child("gone", python("raise SystemExit(7)"), ready=lambda: False))
    with pytest.raises(ChildFailed, match="slow was not ready after 3 s"):
        watched.supervisor.start(Child("slow", python(FOREVER), ready=lambda: False))


def test_servers_stop_after_what_leans_on_them(watched: Watched, tmp_path: Path) -> None:
    order = tmp_path / "order"
    code = (
        "import signal, sys\n"
        f"def end(*_):\n    open({str(order)!r}, 'a').write(sys.argv[1] + ' ')\n    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\nprint('up', flush=True)\nwhile True: signal.pause()"
    )
    watched.supervisor.start(
        Child("server", [*python(code), "server"], ready=lambda: watched.lines("server") == ["up"])
    )
    watched.supervisor.start(Child("worker", [*python(code), "worker"]))
    wait_until(lambda: watched.lines("worker") == ["up"], within_s=5, what="the worker")

    watched.supervisor.stop()

    assert order.read_text() == "worker server "
