"""What stands between the fetch hub and Dramatiq's worker threads, in the place of Dramatiq's own priority queue.

Dramatiq's orders by the actor's priority, which would undo ours, and what is in it cannot be taken back. This one
hands out in the order of the bus, knows which threads are free, and gives up what has not started (`revoke`).

A parcel is unstarted from `deliver` until a thread takes it from `_unstarted`, by its identity: a thread that starts
it and a hub that revokes it race for that one dictionary entry, and `dict.pop` decides. Whoever loses does nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from threading import Condition, get_ident
from typing import Final

from .look_ahead import LookAhead
from .parcel import Parcel

_CLOSING_WAIT_S: Final = 0.05


class WorkQueue:
    """The unstarted and running parcels of one worker process.

    threads: worker threads of the process.
    need: called (often, from worker threads) when there may be room for more: must be cheap.
    dropped: called with a parcel whose lease had ended before a thread came to it.
    """

    def __init__(
        self,
        threads: int,
        *,
        look_ahead: LookAhead,
        need: Callable[[], None],
        dropped: Callable[[Parcel], None],
    ) -> None:
        self.threads = threads
        self.look_ahead = look_ahead
        self._need = need
        self._dropped = dropped
        self._ready: SimpleQueue[Parcel | None] = SimpleQueue()
        self._unstarted: dict[int, Parcel] = {}
        self._running: dict[int, Parcel] = {}
        self._free: dict[int, None] = {}
        self._low_water = 0
        self._closing = False
        self._joiners = 0
        self._all_done = Condition()

    # --- for the hub ---------------------------------------------------------------------------------------------

    def deliver(self, parcels: Iterable[Parcel]) -> None:
        """Hands parcels to the threads, in this order."""
        for parcel in parcels:
            self._unstarted[id(parcel)] = parcel
            self._ready.put(parcel)

    def room(self) -> tuple[int, int]:
        """Returns (how many messages to fetch now, how many free threads have nothing to do). The first is 0 while
        enough is held: fetching goes in batches, when half of the look-ahead is used up or a thread is free."""
        unstarted = len(self._unstarted)
        hungry = max(len(self._free) - unstarted, 0)
        ahead = self.look_ahead.size(time.monotonic(), [p.started_s for p in list(self._running.values())])
        self._low_water = ahead // 2
        if hungry == 0 and unstarted > self._low_water:
            return 0, 0
        return max(len(self._free) + ahead - unstarted, 0), hungry

    def revoke(self, older_than_s: float) -> list[Parcel]:
        """Takes back what has waited since before that time (monotonic clock) without being started."""
        revoked: list[Parcel] = []
        for key, parcel in list(self._unstarted.items()):
            if parcel.got_s <= older_than_s and self._unstarted.pop(key, None) is not None:
                revoked.append(parcel)
        return revoked

    def revoke_message(self, message_id: str) -> Parcel | None:
        """Takes one message back if no thread has started it; returns it, or None."""
        for key, parcel in list(self._unstarted.items()):
            if parcel.message_id == message_id:
                return self._unstarted.pop(key, None)
        return None

    def current(self) -> Parcel | None:
        """Returns what runs in the calling thread."""
        return self._running.get(get_ident())

    def oldest_s(self) -> float | None:
        """Returns when the longest waiting unstarted parcel came; None if there is none."""
        for parcel in list(self._unstarted.values()):
            return parcel.got_s
        return None

    def close(self) -> None:
        """From now on threads that find nothing do not wait long: the worker is about to stop."""
        self._closing = True
        for _ in range(self.threads):
            self._ready.put(None)

    # --- for Dramatiq's worker: the part of queue.PriorityQueue that it uses --------------------------------------

    def get(self, block: bool = True, timeout: float | None = None) -> Parcel:
        """Returns the next parcel, and counts it as running in this thread. Raises queue.Empty."""
        ident = get_ident()
        while True:
            try:
                parcel = self._ready.get_nowait()
            except Empty:
                if not block:
                    raise
                self._free[ident] = None
                self._need()
                try:
                    parcel = self._ready.get(timeout=_CLOSING_WAIT_S if self._closing else timeout)
                finally:
                    del self._free[ident]
            if parcel is None:
                raise Empty
            if self._start(parcel, ident):
                return parcel

    def get_nowait(self) -> Parcel:
        """As `get(block=False)`."""
        return self.get(block=False)

    def put(self, parcel: Parcel) -> None:
        """Hands one parcel to the threads: for whoever does not go through the hub."""
        self.deliver([parcel])

    def task_done(self) -> None:
        """Ends the running parcel of this thread."""
        parcel = self._running.pop(get_ident(), None)
        if parcel is not None:
            self.look_ahead.record(time.monotonic() - parcel.started_s)
        if self._joiners:
            with self._all_done:
                self._all_done.notify_all()

    @property
    def unfinished_tasks(self) -> int:
        """Parcels that are held: unstarted or running."""
        return len(self._unstarted) + len(self._running)

    def join(self) -> None:
        """Waits until nothing is held."""
        with self._all_done:
            self._joiners += 1
            try:
                # Revoking and dropping end parcels without a word to joiners: hence the time-out.
                while self.unfinished_tasks:
                    self._all_done.wait(0.1)
            finally:
                self._joiners -= 1

    def empty(self) -> bool:
        """Whether nothing waits for a thread."""
        return not self._unstarted

    def qsize(self) -> int:
        """How many parcels wait for a thread."""
        return len(self._unstarted)

    def _start(self, parcel: Parcel, ident: int) -> bool:
        now_s = time.monotonic()
        parcel.started_s = now_s
        # Running before it is no longer unstarted: else `unfinished_tasks` would be 0 for an instant.
        self._running[ident] = parcel
        if self._unstarted.pop(id(parcel), None) is None:
            del self._running[ident]
            return False
        if now_s > parcel.held_until_s or parcel.lost:
            # This process was frozen, or cut off for a whole lease: by now the message is another's.
            del self._running[ident]
            self._dropped(parcel)
            return False
        if len(self._unstarted) <= self._low_water:
            self._need()
        return True
