"""A bell for one thread at a time: what `threading.Event` does for it, without the thirty lines of Python that each of
its waits runs through. Holds no condition; whoever wakes looks for himself."""

from __future__ import annotations

from threading import Lock


class Bell:
    """Rung before or while a thread waits, it ends that wait, once. Rings are not counted."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._lock.acquire()

    def ring(self) -> None:
        """Ends the present wait, or the next. Any thread."""
        try:
            self._lock.release()
        except RuntimeError:  # rung already, and not heard yet
            return

    def wait(self, timeout_s: float | None) -> bool:
        """Waits for a ring. timeout_s: None: for ever. Returns whether there was one."""
        return self._lock.acquire(timeout=-1 if timeout_s is None else timeout_s)
