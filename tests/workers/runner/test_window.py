"""Interrupt windows: an interrupt lands in the function, in all ways that it can come, and never outside it."""

import sys
import threading
import time
from collections import Counter

import pytest

from workers.errors import Cancelled, Interrupt, TimeLimitExceeded
from workers.runner.window import Window, Windows

OPENINGS = 3_000


@pytest.fixture
def windows() -> Windows:
    """Windows of the test's own."""
    return Windows()


def busy(window: Window) -> None:
    """Run until something lands."""
    deadline_s = time.monotonic() + 20
    while time.monotonic() < deadline_s:
        pass
    pytest.fail("nothing landed")


def fire_when_open(windows: Windows, task_id: str, exception: type[Interrupt]) -> threading.Thread:
    """A thread that interrupts the task as soon as its window is open."""

    def fire() -> None:
        while not windows.interrupt(task_id, exception):
            time.sleep(0)  # why: it is a race that is wanted

    thread = threading.Thread(target=fire)
    thread.start()
    return thread


@pytest.mark.parametrize("exception", [Cancelled, TimeLimitExceeded])
def test_an_interrupt_lands_in_the_function_of_its_task(windows: Windows, exception: type[Interrupt]) -> None:
    firing = fire_when_open(windows, "t-1", exception)

    with pytest.raises(exception):
        windows.run("t-1", busy)

    firing.join()


def test_an_interrupt_is_no_exception_that_a_task_catches_by_the_way(windows: Windows) -> None:
    def careless(window: Window) -> None:
        try:
            busy(window)
        except Exception:
            pytest.fail("it was caught")

    firing = fire_when_open(windows, "t-1", Cancelled)
    with pytest.raises(Cancelled, match="the task was cancelled while it ran"):
        windows.run("t-1", careless)

    firing.join()


def test_no_other_task_is_interrupted_and_none_that_has_ended(windows: Windows) -> None:
    assert windows.run("t-1", lambda _: windows.interrupt("t-2", Cancelled)) is False
    assert windows.interrupt("t-1", Cancelled) is False


def test_a_deadline_interrupts_once_it_has_passed(windows: Windows) -> None:
    seen = []

    def watch(window: Window) -> str:
        assert window.deadline_s is not None
        seen.append(windows.expire(window.deadline_s - 0.001))
        with windows.masked():
            seen.append(windows.expire(window.deadline_s))
        return "not reached"

    with pytest.raises(TimeLimitExceeded):
        windows.run("t-1", watch, deadline_s=time.monotonic() + 1_000)
    assert seen == [[], ["t-1"]]


def test_a_mask_holds_an_interrupt_back_until_its_outermost_end(windows: Windows) -> None:
    steps = []

    def masked(window: Window) -> None:
        with windows.masked():
            with windows.masked():
                assert windows.interrupt("t-1", Cancelled)
                steps.append("inner")
            steps.append("outer")
        steps.append("after")

    with pytest.raises(Cancelled):
        windows.run("t-1", masked)
    assert steps == ["inner", "outer"]


def test_a_waiting_thread_is_told_and_may_see_to_it_itself(windows: Windows) -> None:
    told: list[str] = []

    def waits(window: Window) -> object:
        with windows.waiting(lambda: told.append("woken")):
            assert windows.interrupt("t-1", Cancelled)
            return window.take_held()

    assert windows.run("t-1", waits) is Cancelled
    assert told == ["woken"]


def test_a_checkpoint_raises_again_what_was_swallowed(windows: Windows) -> None:
    def swallows(window: Window) -> None:
        try:
            with windows.masked():
                windows.interrupt("t-1", Cancelled)
        except Cancelled:
            pass
        window.check()

    with pytest.raises(Cancelled):
        windows.run("t-1", swallows)


def test_a_checkpoint_past_the_deadline_does_not_wait_for_the_watcher(windows: Windows) -> None:
    with pytest.raises(TimeLimitExceeded):
        windows.run("t-1", Window.check, deadline_s=time.monotonic() - 1)


def test_each_kind_lands_once_so_that_clean_up_is_not_interrupted_again(windows: Windows) -> None:
    cleaned = []

    def cleans(window: Window) -> None:
        try:
            with windows.masked():
                windows.interrupt("t-1", Cancelled)
        finally:
            assert windows.interrupt("t-1", Cancelled)
            cleaned.append(True)

    with pytest.raises(Cancelled):
        windows.run("t-1", cleans)
    assert cleaned == [True]


def test_nothing_lands_outside_however_windows_open_and_close_under_fire(windows: Windows) -> None:
    outside: list[str] = []
    came: Counter[str] = Counter()
    done = threading.Event()
    interval_s = sys.getswitchinterval()

    def fire(exception: type[Interrupt]) -> None:
        while not done.is_set():
            for number in range(3):
                windows.interrupt(f"t-{number}", exception)

    def short(window: Window) -> int:
        time.sleep(0)  # why: lets the firing threads have the interpreter, in the middle of whatever they do
        return window.ident

    def work(number: int) -> None:
        place = "outside"
        try:
            for _ in range(OPENINGS):
                try:
                    place = "inside"
                    windows.run(f"t-{number}", short)
                    place = "outside"
                    came["returned"] += 1
                except Interrupt as error:
                    if place == "outside":
                        raise
                    place = "outside"
                    came[type(error).__name__] += 1
                time.sleep(0)  # why: the same, outside
                _somewhere_else()
        except BaseException as error:
            outside.append(f"{place}: {error!r}")

    sys.setswitchinterval(1e-5)
    try:
        firing = [threading.Thread(target=fire, args=(kind,)) for kind in (Cancelled, TimeLimitExceeded)]
        working = [threading.Thread(target=work, args=(number,)) for number in range(3)]
        for thread in [*working, *firing]:
            thread.start()
        for thread in working:
            thread.join()
        done.set()
        for thread in firing:
            thread.join()
    finally:
        sys.setswitchinterval(interval_s)

    assert outside == []
    assert sum(came.values()) == 3 * OPENINGS
    assert min(came["returned"], came["Cancelled"], came["TimeLimitExceeded"]) > 0, came


def _somewhere_else() -> None:
    """A call, at which an interrupt that came too late would land."""


@pytest.mark.parametrize("interrupted", [False, True])
def test_functions_can_be_traced_after_a_window_has_closed(windows: Windows, interrupted: bool) -> None:
    """CPython before 3.13 hangs at the first traced function of any thread, if it was told to raise nothing."""
    if interrupted:
        firing = fire_when_open(windows, "t-1", Cancelled)
        with pytest.raises(Cancelled):
            windows.run("t-1", busy)
        firing.join()
    else:
        windows.run("t-1", lambda window: None)
    traced = threading.Event()

    def work() -> None:
        sys.setprofile(lambda *_: None)
        _somewhere_else()
        sys.setprofile(None)
        traced.set()

    threading.Thread(target=work, daemon=True).start()

    assert traced.wait(10)
