"""The thread of a worker process that fetches, for all its queues together.

Each turn is one of:

    room for messages            fetch; hand them to the threads
    a free thread, nothing there block in one pop on the wake lists of all queues, until the next thing is due
    no room                      wait for a thread to become free, or for half of the look-ahead to be used up
    not allowed, no queues       wait

A process whose threads are all busy never blocks for a token: it would take a wake-up from one that has a free thread.
What has waited here for `revoke_after_s` goes back to the bus. Nothing is fetched to be decided later: one free
thread and one waiting message never wait for each other.

Crash points: between fetch and hand-over the messages are leased and nobody runs them: the lease ends. A fetch whose
answer was lost is repeated under the same claim number and brings the same messages.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from threading import Event, Thread
from typing import Final

from .backoff import Backoff, is_transient
from .bus import Bus
from .line import Stopped
from .parcel import Delivery, Parcel
from .work_queue import WorkQueue

log = logging.getLogger(__name__)

_MOST_A_FETCH: Final = 400
_PATIENCE_S: Final = 0.5


class Hub(Thread):
    """Fetches for one worker process from one tag.

    accept: makes parcels of deliveries; None for one that is not for the threads (undecodable, unknown actor).
    inspect: called with what a fetch brought, before the threads get it. Must not raise.
    give_back: called with parcels that were revoked.
    limits: asked before each fetch for the limits known here, as the bus takes them.
    idle_block_s: longest pop; also how long a message may wait whose wake-up was lost with a dying process.
    """

    def __init__(
        self,
        bus: Bus,
        owner: str,
        work_queue: WorkQueue,
        *,
        accept: Callable[[Delivery, float], Parcel | None],
        inspect: Callable[[list[Parcel]], None],
        give_back: Callable[[list[Parcel]], None],
        limits: Callable[[], Sequence[str]],
        idle_block_s: float,
        revoke_after_s: float,
    ) -> None:
        super().__init__(name=f"callboard-hub-{owner}", daemon=True)
        self._bus = bus
        self._owner = owner
        self._work_queue = work_queue
        self._accept = accept
        self._inspect = inspect
        self._give_back = give_back
        self._limits = limits
        self._idle_block_s = idle_block_s
        self._revoke_after_s = revoke_after_s
        self._ending = Event()
        self._line = bus.open_line(self._ending)
        self._needed = Event()
        self._waiting = False
        self._served: tuple[str, ...] = ()
        self._served_changed = False
        self._wake_keys: list[str] = []
        self._holds: set[str] = set()
        self._claim = 0
        self._remember_until_s = 0.0
        self._faults_seen = 0
        self._dry = False
        self._turned_s = time.monotonic()

    # --- for other threads ---------------------------------------------------------------------------------------

    def need(self) -> None:
        """There may be room. Any thread, often."""
        if self._waiting:
            self._waiting = False
            self._needed.set()
            # Lets the hub's thread have the interpreter now: the next messages come while these run, not after them.
            time.sleep(0)

    def serve(self, queue_names: set[str]) -> None:
        """Fetches from these queues from now on."""
        self._served = tuple(sorted(queue_names))
        self._served_changed = True
        self._needed.set()

    def hold(self, reason: str) -> None:
        """Fetches nothing until every reason given has been taken back (`allow`). What is unstarted goes back."""
        self._holds.add(reason)

    def allow(self, reason: str) -> None:
        """Takes back one reason not to fetch."""
        self._holds.discard(reason)
        self._needed.set()

    @property
    def alive_s(self) -> float:
        """When the thread last showed that it is not stuck (monotonic clock). Waiting for a server is not being stuck:
        a turn without one takes no longer than connecting and three answers may."""
        return max(self._turned_s, self._line.tried_s)

    def stop_fetching(self) -> None:
        """For good: the worker is about to stop."""
        self._ending.set()
        self._needed.set()

    # --- the thread ----------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Goes on whatever happens, until told to stop."""
        backoff = Backoff()
        while not self._ending.is_set():
            try:
                self._turn()
                backoff.reset()
            except Stopped:
                break
            except Exception as error:
                if is_transient(error):
                    log.warning("Lost the bus, connecting again: %s", error)
                else:
                    log.exception("The bus refused a worker's call; it will be repeated.")
                self._ending.wait(backoff.next_s())
        try:
            self._bus.nudge(self._line)
        except Exception as error:
            log.debug("No wake-up passed on at the end: %s", error)
        self._line.close()

    def _turn(self) -> None:
        self._turned_s = time.monotonic()
        self._revoke()
        if self._holds or not self._served:
            self._rest(lambda: bool(self._served) and not self._holds)
            return
        room, hungry = self._work_queue.room()
        if room == 0 or (self._dry and hungry == 0):
            self._rest(self._may_fetch)
            return
        caught, wait_s = self._fetch(min(room, _MOST_A_FETCH))
        self._dry = caught < room
        if caught == 0 and hungry > 0 and (wait_s is None or wait_s > 0):
            self._block(None if wait_s is None or wait_s >= self._idle_block_s else wait_s)

    def _may_fetch(self) -> bool:
        room, hungry = self._work_queue.room()
        return room > 0 and not (self._dry and hungry == 0)

    def _rest(self, ready: Callable[[], bool]) -> None:
        """Waits to be needed, or until something must be revoked."""
        self._needed.clear()
        self._waiting = True
        if not ready() and not self._ending.is_set():
            timeout_s = _PATIENCE_S
            oldest_s = self._work_queue.oldest_s()
            if oldest_s is not None:
                timeout_s = min(timeout_s, max(oldest_s + self._revoke_after_s - time.monotonic(), 0.001))
            self._needed.wait(timeout_s)
        self._waiting = False

    def _fetch(self, room: int) -> tuple[int, float | None]:
        sent_s = time.monotonic()
        catch = self._bus.fetch(
            self._line,
            owner=self._owner,
            claim=self._claim + 1,
            room=room,
            queue_names=self._served,
            remember=sent_s < self._remember_until_s,
            limits=self._limits(),
        )
        self._claim += 1
        if self._line.faults != self._faults_seen:
            # Copies of calls that had no answer may still be on their way: for a while, every claim is remembered.
            self._faults_seen = self._line.faults
            self._remember_until_s = sent_s + 4 * self._bus.policy.lease_s
        parcels: list[Parcel] = []
        for delivery in catch.deliveries:
            parcel = self._accept(delivery, sent_s)
            if parcel is not None:
                parcels.append(parcel)
        if parcels:
            self._inspect(parcels)
        if self._holds:
            self._give_back(parcels)  # told to hold while the answer was on its way
        else:
            self._work_queue.deliver(parcels)
        return len(catch.deliveries), catch.wait_s

    def _block(self, due_s: float | None) -> None:
        if self._served_changed:
            self._served_changed = False
            keys = self._bus.keys
            self._wake_keys = [keys.poke(self._owner), *(keys.wake(name) for name in self._served)]
        self._line.pop_token(
            self._wake_keys,
            self._idle_block_s,
            self._abandoned,
            due_s=due_s,
            poke=lambda: self._bus.poke(self._owner),
        )

    def _abandoned(self) -> bool:
        return self._ending.is_set() or self._served_changed or bool(self._holds)

    def _revoke(self) -> None:
        held_back = 0.0 if self._holds else self._revoke_after_s
        revoked = self._work_queue.revoke(time.monotonic() - held_back)
        if revoked:
            self._give_back(revoked)
