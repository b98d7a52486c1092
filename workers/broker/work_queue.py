"""What stands between the fetch hub and Dramatiq's worker threads, in the place of Dramatiq's own priority queue.

Dramatiq's orders by the actor's priority, which would undo ours, and what is in it cannot be taken back. This one
hands out in the order of the bus, knows which threads are free, and gives up what has not started (`revoke`).

A parcel is unstarted from `deliver` until a thread takes it from `_unstarted`, by its identity: a thread that starts
it and a hub that revokes it race for that one dictionary entry, and `dict.pop` decides. Whoever loses does nothing.

    busy ──get──→ free ──nothing came──→ parked, with a bell ──rung, or time is up──→ looks once more
      ↑             └──something came──┐                                                    │
      └────────────────────────────────┴──────────────── a parcel ─────────────────────────┘

`deliver` first puts parcels in, then takes bells out of `_parked` and rings them; a thread first puts its bell in, then
looks whether something has come, and only then sleeps. Whatever way the two meet, one of them sees the other.

Waking a thread costs more than a hundred of the quickest tasks, and threads that wait for the interpreter slow down the
one that has it. So no more are woken than the parcels are worth by the mean run time (`LookAhead.threads_for`); should
that have been too few, because a task blocks, `wake_for_all` wakes the rest. The hub calls it for what is late, every
few milliseconds while something is unstarted, and before it waits for the server.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty
from threading import Condition, get_ident
from typing import Final

from .bell import Bell
from .look_ahead import LookAhead
from .parcel import Parcel

_CLOSING_WAIT_S: Final = 0.05


class WorkQueue:
    """The unstarted and running parcels of one worker process.

    threads: worker threads of the process.
    need: called (often, from worker threads) when there may be room for more: must be cheap. Its argument: whether the
        thread has nothing to do; it may then bring parcels itself.
    dropped: called with a parcel whose lease had ended before a thread came to it.
    """

    def __init__(
        self,
        threads: int,
        *,
        look_ahead: LookAhead,
        need: Callable[[bool], None],
        dropped: Callable[[Parcel], None],
    ) -> None:
        self.threads = threads
        self.look_ahead = look_ahead
        self._need = need
        self._dropped = dropped
        self._ready: deque[Parcel] = deque()
        self._bells: dict[int, Bell] = {}
        self._parked: dict[int, Bell] = {}
        self._unstarted: dict[int, Parcel] = {}
        self._running: dict[int, Parcel] = {}
        self._free: dict[int, None] = {}
        self._low_water = 0
        self._closing = False
        self._joiners = 0
        self._all_done = Condition()

    # --- for the hub ---------------------------------------------------------------------------------------------

    def deliver(self, parcels: Sequence[Parcel]) -> None:
        """Hands parcels to the threads, in this order."""
        unstarted = self._unstarted
        for parcel in parcels:
            unstarted[id(parcel)] = parcel
        self._ready.extend(parcels)
        wanted = self.look_ahead.threads_for(len(parcels))
        self._wake(wanted - 1 if get_ident() in self._free else wanted)

    def wake_for_all(self, *, older_than_s: float | None = None) -> None:
        """Wakes as many threads as there are unstarted parcels; only if the first came before that time, if given."""
        if self.is_late_possible:
            oldest_s = self.oldest_s()
            if older_than_s is None or (oldest_s is not None and oldest_s < older_than_s):
                self._wake(len(self._unstarted))

    @property
    def is_late_possible(self) -> bool:
        """Whether something is unstarted while a thread sleeps."""
        return bool(self._parked and self._unstarted)

    def _wake(self, count: int) -> None:
        for _ in range(count):
            try:
                # The last one that fell asleep: its caches are the warmest.
                _, bell = self._parked.popitem()
            except KeyError:
                return
            bell.ring()

    def room(self) -> tuple[int, int]:
        """Returns (how many messages to fetch now, how many free threads have nothing to do). The first is 0 while
        enough is held: fetching goes in batches, when a thread is free or few are left."""
        unstarted = len(self._unstarted)
        hungry = max(len(self._free) - unstarted, 0)
        ahead = self.look_ahead.size(time.monotonic(), [p.started_s for p in list(self._running.values())])
        self._low_water = self.look_ahead.low_water(ahead)
        if hungry == 0 and unstarted > self._low_water:
            return 0, 0
        return max(len(self._free) + ahead - unstarted, 0), hungry

    @property
    def hungry(self) -> int:
        """How many free threads have nothing to do."""
        return max(len(self._free) - len(self._unstarted), 0)

    def revoke(self) -> list[Parcel]:
        """Takes back what no thread has started."""
        return [parcel for key in list(self._unstarted) if (parcel := self._unstarted.pop(key, None)) is not None]

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
        self._wake(self.threads)

    # --- for Dramatiq's worker: the part of queue.PriorityQueue that it uses --------------------------------------

    def get(self, block: bool = True, timeout: float | None = None) -> Parcel:
        """Returns the next parcel, and counts it as running in this thread. Raises queue.Empty."""
        ident = get_ident()
        ready = self._ready
        while True:
            if not ready:
                if not block:
                    raise Empty
                self._wait(ident, timeout)
            try:
                parcel = ready.popleft()
            except IndexError:
                raise Empty from None
            if self._start(parcel, ident):
                return parcel

    def _wait(self, ident: int, timeout_s: float | None) -> None:
        self._free[ident] = None
        try:
            self._need(True)
            if self._ready:
                return
            bell = self._bells.get(ident)
            if bell is None:
                bell = self._bells[ident] = Bell()
            self._parked[ident] = bell
            if not self._ready:
                if self._closing:
                    timeout_s = _CLOSING_WAIT_S
                bell.wait(timeout_s)
        finally:
            self._parked.pop(ident, None)
            del self._free[ident]

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
            self._need(False)
        return True
