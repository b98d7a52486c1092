"""The thread of a worker process that fetches, for all its queues together; and what worker threads do in its place.

Each turn of the hub is one of:

    a free thread, nothing there     fetch; if nothing came, block in one pop on the wake lists of all queues, until the
                                     next thing is due
    few messages left                fetch; hand them to the threads
    neither; or not allowed          rest

A process whose threads are all busy never blocks for a token: it would take a wake-up from one that has a free thread.
What has waited here for `revoke_after_s` goes back to the bus. Nothing is fetched to be decided later: one free
thread and one waiting message never wait for each other (work_queue.py says how threads are woken).

While tasks are quick, the hub rests and the worker threads fetch for it (`need`): one that starts the last messages
asks for the next ones without waiting, one that has nothing to do reads the answer. What would be three changes of
threads a fetch is none. A thread waits for `_THREAD_WAITS_S` at most; then it leaves the answer to the hub, as does one
that gets nothing, or an error. So only the hub's thread ever waits for the server.

Who is at the line (`_at_line` says: one thread), and what the others do:

    hub, in a fetch or a pop     a thread with nothing to do sleeps; the hub looks at `room` again when it is through
    a thread, asking or reading  a thread with nothing to do leaves word (`_missed`) and sleeps; who is at the line
                                 rings for the hub if afterwards somebody is hungry still
    nobody, an answer is due     the next thread with nothing to do reads it; or the hub, whose rests are as short as
                                 `_TICK_S` then: whoever asks and goes on working rings for it if it would rest longer

Crash points: between fetch and hand-over the messages are leased and nobody runs them: the lease ends. A fetch whose
answer was lost is repeated under the same number and brings the same messages (fetcher.py), whoever had sent it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from threading import Event, Lock, Thread
from typing import Final

from .backoff import Backoff, is_transient
from .bell import Bell
from .bus import Bus
from .fetcher import Fetcher, Haul
from .line import Line, Stopped
from .parcel import Delivery, Parcel
from .work_queue import WorkQueue

log = logging.getLogger(__name__)

_LONGEST_REST_S: Final = 0.5
_TICK_S: Final = 0.005
"""A rest while something waits here. No thread gets the interpreter sooner than that from a task that computes."""
_LATE_S: Final = 0.001
"""What has been unstarted for so long beside a thread that sleeps is late: too few were woken for it."""
_BUSY_S: Final = 0.02
"""For so long after threads have fetched, rests are short: it saves ringing for each fetch."""
_THREAD_WAITS_S: Final = 0.005
_LAST_ANSWER_S: Final = 1.0


class Hub(Thread):
    """Fetches for one worker process from one tag.

    accept: makes parcels of deliveries; None for one that is not for the threads (undecodable, unknown actor).
    inspect: called with what a fetch brought, before the threads get it. Must not raise.
    give_back: called with parcels that came while nothing may start.
    give_back_now: called with parcels that were revoked, and a line to do it over.
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
        give_back_now: Callable[[list[Parcel], Line], None],
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
        self._give_back_now = give_back_now
        self._idle_block_s = idle_block_s
        self._revoke_after_s = revoke_after_s
        self._ending = Event()
        self._fetcher = Fetcher(bus, owner, limits=limits, stop=self._ending)
        self._at_line = Lock()
        self._missed = False
        self._bell = Bell()
        self._rests_until_s = 0.0
        self._busy_until_s = 0.0
        self._served: tuple[str, ...] = ()
        self._served_changed = False
        self._wake_keys: dict[str, str] = {}
        self._holds: set[str] = set()
        self._dry = False
        self._turned_s = time.monotonic()

    # --- for worker threads --------------------------------------------------------------------------------------

    def need(self, idle: bool) -> None:
        """There may be room. Called often. idle: the calling thread has nothing to do, and may wait a little."""
        if not idle and self._fetcher.asked is not None:
            return
        if not self._at_line.acquire(blocking=False):
            if not idle:
                return
            self._missed = True
            if not self._at_line.acquire(blocking=False):
                return  # who is at the line has yet to look at `_missed`
        try:
            ring = self._stand_in(idle)
        except BaseException as error:
            self._bell.ring()
            if not isinstance(error, Exception):
                raise
            ring = False
            log.debug("A thread got no answer from the bus; the hub asks again: %s", error)
        finally:
            self._at_line.release()
        if ring or (self._missed and self._work_queue.hungry):
            self._bell.ring()

    def _stand_in(self, idle: bool) -> bool:
        """Asks if nobody has, and reads if the thread is idle. Returns whether the hub must go on."""
        self._missed = False
        if self._fetcher.asked is None:
            room = self._room()
            if room == 0:
                return False
            if not self._fetcher.ask(room, self._served):
                return True
        if not idle:
            return self._rests_longer(time.monotonic())
        haul = self._fetcher.read(_THREAD_WAITS_S)
        if haul is None:
            return True
        self._take(haul)
        now_s = time.monotonic()
        self._busy_until_s = now_s + _BUSY_S
        return not haul.catch.deliveries or self._rests_longer(now_s)

    def _rests_longer(self, now_s: float) -> bool:
        return self._rests_until_s > now_s + _TICK_S

    # --- for other threads ---------------------------------------------------------------------------------------

    def serve(self, queue_names: set[str]) -> None:
        """Fetches from these queues from now on."""
        self._served = tuple(sorted(queue_names))
        self._served_changed = True
        self._bell.ring()

    def hold(self, reason: str) -> None:
        """Fetches nothing until every reason given has been taken back (`allow`). What is unstarted goes back."""
        self._holds.add(reason)
        self._bell.ring()

    def allow(self, reason: str) -> None:
        """Takes back one reason not to fetch."""
        self._holds.discard(reason)
        self._bell.ring()

    @property
    def alive_s(self) -> float:
        """When the thread last showed that it is not stuck (monotonic clock). Waiting for a server is not being stuck:
        a turn without one takes no longer than connecting and three answers may."""
        return max(self._turned_s, self._fetcher.line.tried_s)

    def stop_fetching(self) -> None:
        """For good: the worker is about to stop."""
        self._ending.set()
        self._bell.ring()

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
        with self._at_line:
            try:
                # Else what was asked for would be leased to nobody.
                self._take(self._fetcher.read(_LAST_ANSWER_S))
                self._bus.nudge(self._fetcher.line)
            except Exception as error:
                log.debug("No answer, or no wake-up passed on, at the end: %s", error)
            self._fetcher.line.close()

    def _turn(self) -> None:
        self._turned_s = now_s = time.monotonic()
        self._revoke(now_s)
        if not self._is_due(now_s):
            self._work_queue.wake_for_all(older_than_s=now_s - _LATE_S)
            self._rest(now_s)
            return
        self._work_queue.wake_for_all()
        with self._at_line:
            if self._fetcher.asked is not None:
                self._take(self._fetcher.read(None))
                return
            room = self._room()
            if room == 0:
                return
            haul = self._fetcher.fetch(room, self._served)
            self._take(haul)
            wait_s = haul.catch.wait_s
            if not haul.catch.deliveries and self._work_queue.hungry and (wait_s is None or wait_s > 0):
                self._block(None if wait_s is None or wait_s >= self._idle_block_s else wait_s)

    def _is_due(self, now_s: float) -> bool:
        """Whether it is the hub's turn at the line."""
        asked = self._fetcher.asked
        if asked is not None:
            return bool(self._holds) or self._missed or now_s >= asked.at_s + _THREAD_WAITS_S
        return self._room() > 0

    def _room(self) -> int:
        if self._holds or not self._served or self._ending.is_set():
            return 0
        room, hungry = self._work_queue.room()
        return 0 if self._dry and not hungry else room

    def _rest(self, now_s: float) -> None:
        # First what others look at, then what they may have done before they could see it.
        self._rests_until_s = now_s + _LONGEST_REST_S
        rest_s = _LONGEST_REST_S
        oldest_s = self._work_queue.oldest_s()
        if self._fetcher.asked is not None or self._work_queue.is_late_possible or now_s < self._busy_until_s:
            rest_s = _TICK_S
        elif oldest_s is not None:
            rest_s = min(rest_s, max(oldest_s + self._revoke_after_s - now_s, 0.001))
        self._rests_until_s = now_s + rest_s
        self._bell.wait(rest_s)

    def _take(self, haul: Haul | None) -> None:
        if haul is None:
            return
        self._dry = not haul.is_full
        parcels: list[Parcel] = []
        for delivery in haul.catch.deliveries:
            parcel = self._accept(delivery, haul.asked_s)
            if parcel is not None:
                parcels.append(parcel)
        if parcels:
            self._inspect(parcels)
        if self._holds:
            self._give_back(parcels)  # told to hold while the answer was on its way
        else:
            self._work_queue.deliver(parcels)

    def _block(self, due_s: float | None) -> None:
        if self._served_changed:
            self._served_changed = False
            keys = self._bus.keys
            self._wake_keys = {keys.poke(self._owner): ""} | {keys.wake(name): name for name in self._served}
        token = self._fetcher.line.pop_token(
            tuple(self._wake_keys),
            self._idle_block_s,
            self._abandoned,
            due_s=due_s,
            poke=lambda: self._bus.poke(self._owner),
        )
        if token is not None:
            key, trips = token
            self._fetcher.woken_by = (self._wake_keys[key.decode()], int(trips))

    def _abandoned(self) -> bool:
        return self._ending.is_set() or self._served_changed or bool(self._holds)

    def _revoke(self, now_s: float) -> None:
        """Gives back what is unstarted once the first of it has waited for too long: all of it, for what came later is
        behind it in the order too, and would overtake it. It is back before anything else is fetched."""
        oldest_s = self._work_queue.oldest_s()
        if oldest_s is None or oldest_s > (now_s if self._holds else now_s - self._revoke_after_s):
            return
        with self._at_line:
            self._take(self._fetcher.read(None))
            self._give_back_now(self._work_queue.revoke(), self._fetcher.line)
