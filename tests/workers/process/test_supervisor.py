"""The supervisor restarts what dies, stops in order, and leaves nothing behind."""

import os
import re
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
        self.supervisor.request_stop()
        if self._thread.ident is not None:  # why first: else it may start a child again that was ended already
            self._thread.join(timeout=60)
        self.supervisor.stop()


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


def test_a_second_interrupt_kills_what_still_stops_and_leaves_the_servers_their_grace(watched: Watched) -> None:
    told = "import signal, sys\nsignal.signal(15, lambda *_: sys.exit(0))\nprint('up', flush=True)\nsignal.pause()"
    server = Child("server", python(told), grace_s=600, ready=lambda: watched.lines("server") == ["up"])
    deaf = Child("deaf", python(STUBBORN), grace_s=600)
    watched.supervisor.start(server)
    watched.supervisor.start(deaf)
    wait_until(lambda: watched.lines("deaf") == ["deaf"], within_s=5, what="the child to be deaf")
    stopping = threading.Thread(target=watched.supervisor.stop)

    watched.supervisor.interrupt()
    stopping.start()
    watched.supervisor.interrupt()
    stopping.join(timeout=60)

    assert not stopping.is_alive()
    assert deaf.process is not None
    assert server.process is not None
    assert (deaf.process.returncode, server.process.returncode) == (-signal.SIGKILL, 0)
    assert watched.lines("deaf")[-1] == "is killed, for it was asked twice"


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


# why the sleep: the pace of a child that is well.
PULSE = "import os, time\nwhile True:\n    os.write(int(os.environ['CALLBOARD_PULSE_FD']), b'.')\n    time.sleep(0.05)"
LOSES_ITS_WORKER = "import os, signal\nif os.fork() == 0:\n    os._exit(0)\nsignal.pause()"
FALLS_SILENT = "import os, signal\nos.write(int(os.environ['CALLBOARD_PULSE_FD']), b'.')\nsignal.pause()"


def test_a_child_without_a_pulse_is_killed_and_started_again(watched: Watched) -> None:
    silent, sibling = (
        Child("silent", python(FALLS_SILENT), stall_timeout_s=3),
        Child("sibling", python(PULSE), stall_timeout_s=3),
    )
    watched.supervisor.start(silent)
    watched.supervisor.start(sibling)
    watched.watch()
    before, untouched = pid_of(silent), pid_of(sibling)

    wait_until(lambda: pid_of(silent) != before, within_s=20, what="a new process")

    killed, ended = watched.lines("silent")[:2]
    assert re.fullmatch(r"has given no sign of life for \d+ s and is killed", killed)
    assert ended == "ended with status -9; starting it again in 0.5 s"
    assert (pid_of(sibling), watched.lines("sibling")) == (untouched, [])


def test_a_child_that_does_not_notice_the_death_of_its_worker_is_soon_started_again(watched: Watched) -> None:
    headless = Child("headless", python(LOSES_ITS_WORKER), stall_timeout_s=600)
    watched.supervisor.start(headless)
    watched.watch()
    before = pid_of(headless)

    wait_until(lambda: pid_of(headless) != before, within_s=20, what="a new process")

    assert watched.lines("headless")[:2] == [
        "has lost its worker process without noticing and is killed",
        "ended with status -9; starting it again in 0.5 s",
    ]


def test_a_renewal_takes_one_child_after_the_other(watched: Watched) -> None:
    renewed = [Child(f"worker.{number}", python(PULSE), stall_timeout_s=60) for number in (1, 2)]
    other = Child("other", python(FOREVER))
    for child in (*renewed, other):
        watched.supervisor.start(child)
    watched.watch()
    before, untouched = {pid_of(child) for child in renewed}, pid_of(other)

    watched.supervisor.request_renewal()

    wait_until(lambda: "is up again" in watched.lines("worker.2"), within_s=20, what="the end of the renewal")
    steps = ["is told to stop, to be started anew", "stopped; starting it anew", "is up again"]
    assert watched.said == [(child.name, step) for child in renewed for step in steps]
    assert not before & {pid_of(child) for child in renewed}
    assert pid_of(other) == untouched


def test_a_renewal_ends_with_a_child_that_does_not_come_up_again(watched: Watched, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    once = f"import pathlib\nif pathlib.Path({str(broken)!r}).exists(): raise SystemExit(3)\n{PULSE}"
    first, second = (Child(f"worker.{number}", python(once), stall_timeout_s=60) for number in (1, 2))
    watched.supervisor.start(first)
    watched.supervisor.start(second)
    watched.watch()
    wait_until(lambda: first.is_up and second.is_up, within_s=20, what="both to be up")
    untouched = pid_of(second)

    broken.touch()
    watched.supervisor.request_renewal()

    wait_until(
        lambda: "did not come up; not renewed: worker.2" in watched.lines("worker.1"), within_s=20, what="the line"
    )
    assert (pid_of(second), watched.lines("worker.2")) == (untouched, [])


def test_a_child_that_is_not_to_be_started_again_ends_the_watch(watched: Watched) -> None:
    watched.supervisor.start(Child("mortal", python("raise SystemExit(3)"), restart=False))

    with pytest.raises(ChildFailed, match=r"mortal ended with status 3, and is not to be started again"):
        watched.supervisor.watch()


def test_a_child_without_a_stall_time_out_is_given_no_pipe(watched: Watched) -> None:
    watched.supervisor.start(Child("echo", python("import os; print(os.environ.get('CALLBOARD_PULSE_FD'))")))

    wait_until(lambda: watched.lines("echo") == ["None"], within_s=5, what="the line")
