"""Which life of the server's data we talk to, and who wants to know when it changes.

A new generation begins when the server restarted, failed over or was emptied. It is found on every new connection and
in every fetch and renewal; listeners are told once a change, from the thread that found it, and must be quick.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Generation:
    """number grows with each new life; 0: none seen yet. since_us: the server's clock when it was first seen."""

    number: int = 0
    since_us: int = 0


class GenerationWatch:
    """Keeps the latest generation and tells of changes."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._listeners: list[Callable[[Generation, Generation], None]] = []
        self.latest = Generation()

    def subscribe(self, listener: Callable[[Generation, Generation], None]) -> None:
        """Calls `listener(before, now)` at each change from now on; `before.number` is 0 the first time."""
        self._listeners.append(listener)

    def seen(self, number: int, since_us: int) -> None:
        """Takes note of what a reply said."""
        if number <= self.latest.number:
            return
        with self._lock:
            before = self.latest
            if number <= before.number:
                return
            self.latest = now = Generation(number, since_us)
        for listener in self._listeners:
            try:
                listener(before, now)
            except Exception:  # a listener is a stranger's code; the bus goes on
                log.exception("A listener failed when the bus began generation %d.", number)
