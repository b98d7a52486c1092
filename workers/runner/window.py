"""Interrupt windows: where, and only where, an exception from another thread may land in a task.

A time limit or a cancellation raises an exception in the thread that runs the task, at its next bytecode. If it landed
a moment later, in a hook or in the worker's own loop, it would lose an outcome or end the thread (spec/traps.md 4). So
each thread has a window around the actor's function, and an exception is raised under these rules:

    open                       raised in the thread, by PyThreadState_SetAsyncExc
    masked                     held back, and raised when the outermost mask is left: Callboard's own calls inside a
                               task (send, progress, log lines) are never torn in the middle
    waiting                    as masked, and a callback is told: the thread waits for a coroutine or a child process,
                               which the callback ends
    closed                     not raised; `interrupt` answers False

Who moves it: the window's own thread opens, masks and closes it; any thread fires, one at a time (`_lock`).
`firing` is set while one looks at the state and raises; the owner changes the state first and then waits for `firing`
to end. Why not a lock that both take: an exception that lands between taking a lock and the `with` block that would
release it leaves it locked for ever.

Closing: `is_open = False` is a plain store in the frame that called the function; CPython looks for exceptions after a
call, at a function's start and at a jump back, none of which lies between. From there on at most two exceptions can be
under way: one pending, one being fired. The loop that follows catches what lands; what has not landed is replaced by
an exception of its own (`_Settled`), which lands there. Why not simply taken back, by raising None: CPython before 3.13
would look for it at every call of the whole process from then on, and hang at the first function that is traced.
Each kind of exception is raised once per window at most; a window that nobody interrupts raises nothing at all.
"""

import ctypes
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from workers.errors import Interrupt, TimeLimitExceeded

T = TypeVar("T")

_set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc
_YIELD_S = 0.0


class _Settled(Interrupt):
    """Takes the place of an interrupt that came too late."""


class Window:
    """One opening, around one run of one function.

    task_id: whose. deadline_s: on the monotonic clock, after which `expire` interrupts it; None: never.
    requested: the last interrupt that was asked for, whether it landed or was held or swallowed.
    """

    __slots__ = (
        *("_asked", "_firing", "_has_raised", "_held", "_masks", "_wake"),
        *("deadline_s", "ident", "is_open", "is_settled", "requested", "task_id"),
    )

    def __init__(self, task_id: str, deadline_s: float | None = None) -> None:
        self.task_id = task_id
        self.deadline_s = deadline_s
        self.requested: type[Interrupt] | None = None
        self.is_open = True
        self.is_settled = False
        self.ident = threading.get_ident()
        self._asked: tuple[type[Interrupt], ...] = ()
        self._masks = 0
        self._held: type[Interrupt] | None = None
        self._wake: Callable[[], None] | None = None
        self._has_raised = False
        self._firing = False

    def check(self) -> None:
        """Raise the interrupt that was asked for, or TimeLimitExceeded past the deadline; from any thread."""
        if self.requested is not None:
            raise self.requested
        if self.deadline_s is not None and time.monotonic() >= self.deadline_s:
            self.deadline_s = None  # why: raised here, it need not be raised by the watcher as well.
            self.requested = TimeLimitExceeded
            raise TimeLimitExceeded

    @property
    def is_held(self) -> bool:
        """Whether an interrupt is held back."""
        return self._held is not None

    def take_held(self) -> type[Interrupt] | None:
        """The interrupt that is held back, which the caller sees to; it is not raised when the mask is left."""
        held, self._held = self._held, None
        return held

    def fire(self, exception: type[Interrupt]) -> bool:
        """Raise it in the window's thread, or hold it back; False if the window is closed. One caller at a time."""
        self._firing = True
        try:
            if not self.is_open:
                return False
            if exception in self._asked:
                return True
            self._asked = (*self._asked, exception)
            if self._masks:
                self._held = exception
                if self._wake is not None:
                    self._wake()
            else:
                self._has_raised = True
                self._raise(exception)
            self.requested = exception  # why last: a thread that sees it has been interrupted already.
            return True
        finally:
            self._firing = False

    def hold(self, wake: Callable[[], None] | None) -> None:
        """Enter a mask; by the window's own thread."""
        self._masks += 1
        try:
            self._quiet()
            _land()
            if wake is not None:
                self._wake = wake
        except BaseException:
            self._masks -= 1
            raise

    def release(self) -> None:
        """Leave a mask, and raise what was held back if it was the outermost."""
        if self._masks == 1:
            self._wake = None
        self._masks -= 1
        self._quiet()
        held = None if self._masks else self.take_held()
        if held is not None:
            raise held

    def settle(self) -> None:
        """After `is_open = False`: see to what is pending; by the window's own thread. May raise an Interrupt."""
        self._quiet()
        self.is_settled = True
        if self._has_raised:
            self._raise(_Settled)
            _land()

    def _raise(self, exception: type[Interrupt]) -> None:
        _set_async_exc(ctypes.c_ulong(self.ident), ctypes.py_object(exception))

    def _quiet(self) -> None:
        while self._firing:
            time.sleep(_YIELD_S)  # why: lets the firing thread have the interpreter


class Mask:
    """Holds interrupts of the present thread back while it is entered; see `Windows.masked`."""

    def __init__(self, window: Window | None, wake: Callable[[], None] | None = None) -> None:
        self._window = window
        self._wake = wake

    def __enter__(self) -> None:
        if self._window is not None:
            self._window.hold(self._wake)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._window is not None:
            self._window.release()


def _land() -> None:
    """A call, at whose start a pending exception lands."""


class Windows:
    """All windows of this process."""

    def __init__(self) -> None:
        self._open: dict[int, Window] = {}
        self._lock = threading.Lock()
        self._mine = threading.local()

    def run(self, task_id: str, function: Callable[[Window], T], *, deadline_s: float | None = None) -> T:
        """Run `function` in this thread inside a window of its own; whatever it raises or returns comes through.

        Args:
            deadline_s: on the monotonic clock; past it TimeLimitExceeded is raised in it.

        Raises:
            Interrupt: of the kind that was asked for, out of the function.
        """
        window = Window(task_id, deadline_s)
        try:
            self._mine.window = window
            self._open[window.ident] = window
            return function(window)
        finally:
            window.is_open = False
            while not window.is_settled:
                try:  # why not `suppress`: it is itself a call, in which one could land
                    self._open.pop(window.ident, None)
                    self._mine.window = None
                    window.settle()
                except Interrupt:
                    pass  # why: it came too late; the function has ended

    def interrupt(self, task_id: str, exception: type[Interrupt]) -> bool:
        """Interrupt the task in its own thread.

        Returns:
            Whether it runs in this process. True does not say that it ended for it: it may finish first, or catch it.
        """
        with self.masked(), self._lock:
            found = [window for window in [*self._open.values()] if window.task_id == task_id]
            return any([window.fire(exception) for window in found])  # noqa: C419 - each is fired at

    def expire(self, now_s: float) -> list[str]:
        """Interrupt every task whose deadline has passed; returns their ids."""
        with self.masked(), self._lock:
            due = [one for one in [*self._open.values()] if one.deadline_s is not None and one.deadline_s <= now_s]
            for window in due:
                window.deadline_s = None
                window.fire(TimeLimitExceeded)
            return [window.task_id for window in due]

    def masked(self) -> Mask:
        """A context in which no interrupt lands in this thread; one that was held back is raised at its end."""
        return Mask(self._present())

    def waiting(self, wake: Callable[[], None]) -> Mask:
        """As `masked`; `wake` is called, by the interrupting thread, when an interrupt is held back.

        Args:
            wake: returns at once and raises nothing.
        """
        return Mask(self._present(), wake)

    def _present(self) -> Window | None:
        window: Window | None = getattr(self._mine, "window", None)
        return window if window is not None and window.is_open else None


windows = Windows()
"""The windows of this process."""
