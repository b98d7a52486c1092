"""The thread of a worker process that ends and prolongs deliveries.

Worker threads only say what became of a message (`submit`: an append). This thread waits up to `linger_s` for more,
executes all decisions in one call, and repeats the call until there is an answer. In between it renews the leases of
whatever the process holds. Both are done by one thread so that no renewal overtakes a settlement: a renewal that finds
its message gone on a server that lost its data puts it back, which must never happen to a message just settled.

A call that is refused as a whole (a decision in it cannot be sent, or the script chokes on it) is taken apart: each of
its decisions is sent alone, and one that is refused alone is given up with an error in the log. Its lease then ends,
and the message runs again, or is quarantined.

While the server is away decisions pile up here (a few hundred bytes each; no more than the messages held, because
nothing new is fetched either), and leases go unrenewed: the grace after a restart is for that.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, MutableMapping, Sequence
from threading import Event, Thread
from typing import Final

from .bus import Bus
from .generation import Generation
from .line import Line, Stopped
from .parcel import Parcel
from .settlement import Outcome, Settlement

log = logging.getLogger(__name__)

_BATCH: Final = 500
_TIDY_EVERY_S: Final = 60.0
_LAST_TRY_S: Final = 5.0
_LONGEST_REST_S: Final = 2.0
"""An idle settler turns at least this often, so that one that is stuck can be told from one that has nothing to do."""


class Settler(Thread):
    """Settles and renews for one worker process on one tag.

    held: message id → parcel, of everything this process holds; the settler forgets what it has settled.
    on_stale: called with a settlement that was refused because another has taken the message.
    on_lost: called with a parcel that is running here although its lease is another's by now.
    """

    def __init__(
        self,
        bus: Bus,
        owner: str,
        held: MutableMapping[str, Parcel],
        *,
        linger_s: float,
        on_stale: Callable[[Settlement], None],
        on_lost: Callable[[Parcel], None],
    ) -> None:
        super().__init__(name=f"callboard-settler-{owner}", daemon=True)
        self._bus = bus
        self._owner = owner
        self._held = held
        self._linger_s = linger_s
        self._on_stale = on_stale
        self._on_lost = on_lost
        self._pending: deque[Settlement] = deque()
        self._wanted = Event()
        self._idle = True
        self._ending = Event()  # finish what is pending, then end
        self._abandon = Event()  # end even if the server does not answer
        self._line = bus.open_line(self._abandon)
        self._renew_at_s = time.monotonic() + bus.policy.lease_s / 3
        self._tidy_at_s = time.monotonic() + _TIDY_EVERY_S
        self._reregister = False
        self._alone = 0  # so many of the next decisions were refused together, and are sent one by one
        self._turned_s = time.monotonic()
        bus.watch.subscribe(self._generation_changed)

    def submit(self, settlement: Settlement) -> None:
        """Takes a decision; returns at once. Any thread."""
        self._pending.append(settlement)
        if self._idle:
            self._idle = False
            self._wanted.set()

    @property
    def pending(self) -> int:
        """Decisions not executed yet."""
        return len(self._pending)

    @property
    def alive_s(self) -> float:
        """When the thread last showed that it is not stuck (monotonic clock), as the hub's."""
        return max(self._turned_s, self._line.tried_s)

    def end(self, timeout_s: float = _LAST_TRY_S) -> None:
        """Executes what is pending, for at most that long, and ends the thread."""
        self._ending.set()
        self._wanted.set()
        self.join(timeout_s)
        self._abandon.set()
        self.join(1.0)
        if self._pending:
            log.warning(
                "%d settlements were not executed: their leases will end, they will run again.", len(self._pending)
            )

    def run(self) -> None:
        """Goes on whatever happens, until told to end."""
        while not self._abandon.is_set():
            try:
                self._turn()
            except Stopped:
                break
            except Exception:  # the thread must outlive it: without it nothing is ever acknowledged
                log.exception("The bus refused a worker's call; it will be repeated.")
                self._abandon.wait(1.0)
                self._alone = min(len(self._pending), _BATCH)
            if self._ending.is_set() and not self._pending:
                break
        self._line.close()

    def _turn(self) -> None:
        self._turned_s = now_s = time.monotonic()
        if not self._pending and not self._ending.is_set():
            self._idle = True
            # Whoever appended before it saw `_idle` true did not set the event: look again.
            if not self._pending:
                due_s = min(self._renew_at_s, self._tidy_at_s) - now_s
                self._wanted.wait(max(min(due_s, _LONGEST_REST_S), 0.001))
            self._idle = False
            self._wanted.clear()
        if self._pending:
            if len(self._pending) < _BATCH and not self._ending.is_set():
                self._ending.wait(self._linger_s)
            self._settle()
        now_s = time.monotonic()
        if now_s >= self._renew_at_s:
            self._renew_at_s = now_s + self._bus.policy.lease_s / 3
            self._renew()
        if now_s >= self._tidy_at_s:
            self._tidy_at_s = now_s + _TIDY_EVERY_S
            self._bus.tidy(self._line)

    def execute(self, batch: Sequence[Settlement], line: Line) -> None:
        """Executes decisions now, over that line, and forgets what they were about. Raises as `Bus.settle`: repeat."""
        parcels = self._parcels_of(batch)
        for parcel in parcels:
            parcel.settling = True
        outcomes = self._bus.settle(batch, line=line)
        self._forget(parcels)
        for settlement, outcome in zip(batch, outcomes, strict=True):
            if outcome is Outcome.STALE:
                self._on_stale(settlement)

    def _parcels_of(self, batch: Sequence[Settlement]) -> list[Parcel]:
        held = ((self._held.get(settlement.message_id), settlement) for settlement in batch)
        return [parcel for parcel, settlement in held if parcel is not None and parcel.delivery.is_of(settlement)]

    def _forget(self, parcels: Sequence[Parcel]) -> None:
        for parcel in parcels:
            if self._held.get(parcel.message_id) is parcel:
                del self._held[parcel.message_id]

    def _settle(self) -> None:
        most = 1 if self._alone else _BATCH
        batch = [self._pending[i] for i in range(min(len(self._pending), most))]
        try:
            self.execute(batch, self._line)
        except Stopped:
            raise
        except Exception:
            if not self._alone:
                raise
            log.exception("A decision about message %r is given up: its lease will end.", batch[0].message_id)
            self._forget(self._parcels_of(batch))
        self._alone = max(self._alone - 1, 0)
        # Only now: had the call raised, the next turn would repeat it.
        for _ in batch:
            self._pending.popleft()

    def _renew(self) -> None:
        held = [parcel for parcel in list(self._held.values()) if not parcel.settling]
        if not held:
            return
        sent_s = time.monotonic()
        outcomes = self._bus.renew(self._line, self._owner, [parcel.delivery for parcel in held])
        absent: list[Parcel] = []
        for parcel, outcome in zip(held, outcomes, strict=True):
            if outcome is Outcome.DONE:
                parcel.held_until_s = sent_s + self._bus.policy.lease_s
            elif outcome is Outcome.ABSENT:
                absent.append(parcel)
            else:
                self._lose(parcel)
        if self._reregister and absent:
            self._register_again(absent)
        elif absent:
            for parcel in absent:
                self._lose(parcel)
        self._reregister = False

    def _register_again(self, parcels: list[Parcel]) -> None:
        sent_s = time.monotonic()
        outcomes = self._bus.reregister(self._line, self._owner, [parcel.delivery for parcel in parcels])
        for parcel, outcome in zip(parcels, outcomes, strict=True):
            if outcome is Outcome.DONE:
                parcel.held_until_s = sent_s + self._bus.policy.lease_s
            else:
                self._lose(parcel)
        log.warning("The server had lost its data: registered %d held messages again.", len(parcels))

    def _lose(self, parcel: Parcel) -> None:
        # An external settlement (the ledger's) may have ended it between our look and the server's.
        if parcel.settling or parcel.lost or self._held.get(parcel.message_id) is not parcel:
            return
        parcel.lost = True
        self._on_lost(parcel)

    def _generation_changed(self, before: Generation, _now: Generation) -> None:
        if before.number == 0:
            return
        self._reregister = True
        self._renew_at_s = 0.0
        self._wanted.set()
