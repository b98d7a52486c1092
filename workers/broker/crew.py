"""A worker process's side of the bus: its work queue, one hub and one settler a tag, and what it holds.

boot      Dramatiq's worker is about to start its threads: its work queue is replaced by ours
serve     a consumer thread has begun to consume a queue: the hubs fetch from it (and no longer when it is closed,
          as a paused worker does)
closing   the worker is told to stop: nothing is fetched, the unstarted go back to the front; running tasks finish
closed    all threads are done: the last decisions are executed, the rest given back
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Event, Lock
from typing import Final, Protocol

from dramatiq import Worker

from .bus import Bus
from .envelope import NewerVersion
from .hub import Hub
from .limit import LANE_MARK, none_here
from .line import Line
from .look_ahead import LookAhead
from .parcel import Delivery, Parcel, open_delivery
from .settlement import Settlement, Verdict
from .settler import Settler
from .work_queue import WorkQueue

log = logging.getLogger(__name__)

MOST_UNKNOWN: Final = 1_000
"""So many actors that are not declared here are remembered; messages of others are put off."""


class Owner(Protocol):
    """What a crew needs of the broker."""

    def knows_actor(self, actor_name: str) -> bool: ...
    def bus_of(self, queue_name: str) -> Bus: ...
    def lane_of(self, queue_name: str, actor_name: str) -> str: ...
    def limits(self) -> Sequence[str]: ...
    def fetched(self, parcels: list[Parcel]) -> None: ...
    def cannot_be_decoded(self, settlement: Settlement) -> Settlement: ...
    def lease_lost(self, parcel: Parcel) -> None: ...
    def settlement_refused(self, settlement: Settlement) -> None: ...


@dataclass(frozen=True, slots=True)
class CrewHealth:
    """How a worker process's threads on the bus are.

    dead_threads: names of those that ended although nobody told them to.
    hub_silent_s, settler_silent_s: since their last turn; of several tags, the longest. Without a server they go on
        turning.
    """

    dead_threads: tuple[str, ...]
    hub_silent_s: float
    settler_silent_s: float


class Crew:
    """One worker process on the bus. Made when a Dramatiq worker boots."""

    def __init__(
        self,
        broker: Owner,
        buses: Sequence[Bus],
        worker: Worker,
        *,
        owner: str,
        idle_block_s: float,
        revoke_after_s: float,
        linger_s: float,
        look_ahead_factor: int,
    ) -> None:
        self._broker = broker
        self.owner = owner
        self.held: dict[str, Parcel] = {}
        self._unknown: dict[str, str] = {}
        """Actors that messages came of and that are not declared here, with what a fetch says of them."""
        self.closing = Event()
        self._lock = Lock()
        self._served: set[str] = set()
        self._policy = buses[0].policy
        self._defer_ms = int(self._policy.put_off_s * 1000)
        self.work_queue = WorkQueue(
            worker.worker_threads,
            look_ahead=LookAhead(worker.worker_threads, factor=look_ahead_factor),
            need=self._need,
            dropped=self._drop,
        )
        self._settlers: dict[Bus, Settler] = {}
        self._hubs: dict[Bus, Hub] = {}
        for bus in buses:
            self._settlers[bus] = Settler(
                bus,
                self.owner,
                self.held,
                linger_s=linger_s,
                on_stale=broker.settlement_refused,
                on_lost=broker.lease_lost,
            )
            self._hubs[bus] = Hub(
                bus,
                self.owner,
                self.work_queue,
                accept=self._accept,
                inspect=broker.fetched,
                give_back=self.give_back,
                give_back_now=partial(self._give_back_now, bus),
                limits=self._limits,
                idle_block_s=idle_block_s,
                revoke_after_s=revoke_after_s,
            )
        self._needs: list[Callable[[bool], None]] = [hub.need for hub in self._hubs.values()]
        for thread in (*self._settlers.values(), *self._hubs.values()):
            thread.start()

    # --- queues --------------------------------------------------------------------------------------------------

    def serve(self, queue_name: str) -> None:
        """Fetches from that queue too."""
        with self._lock:
            if queue_name not in self._served:
                self._served.add(queue_name)
                self._tell_hubs()

    def leave(self, queue_name: str) -> None:
        """Fetches from that queue no longer."""
        with self._lock:
            if queue_name in self._served:
                self._served.remove(queue_name)
                self._tell_hubs()

    def hold(self, reason: str) -> None:
        """Fetches nothing until `allow(reason)`; what is unstarted goes back."""
        for hub in self._hubs.values():
            hub.hold(reason)

    def allow(self, reason: str) -> None:
        """Takes back one reason not to fetch."""
        for hub in self._hubs.values():
            hub.allow(reason)

    def _tell_hubs(self) -> None:
        for bus, hub in self._hubs.items():
            hub.serve({name for name in self._served if self._broker.bus_of(name) is bus})

    # --- deliveries ----------------------------------------------------------------------------------------------

    def submit(self, settlement: Settlement) -> None:
        """Hands a decision to the settler of its queue; returns at once."""
        self._settlers[self._broker.bus_of(settlement.queue_name)].submit(settlement)

    def give_back(self, parcels: Iterable[Parcel]) -> None:
        """Returns unstarted messages to their place."""
        for parcel in parcels:
            if not parcel.settling:
                self.submit(parcel.settlement(Verdict.RELEASE))

    def _give_back_now(self, bus: Bus, parcels: Sequence[Parcel], line: Line) -> None:
        """As `give_back`, without waiting for other decisions to go along. Those of another tag take the usual way."""
        mine = [parcel for parcel in parcels if not parcel.settling and self._broker.bus_of(parcel.queue_name) is bus]
        self.give_back(parcel for parcel in parcels if self._broker.bus_of(parcel.queue_name) is not bus)
        settlements = [parcel.settlement(Verdict.RELEASE) for parcel in mine]
        if settlements:
            try:
                self._settlers[bus].execute(settlements, line)
            except BaseException:  # why: an interrupt too must not leave them held; the settler gives them back.
                for settlement in settlements:
                    self.submit(settlement)
                raise

    def _need(self, idle: bool) -> None:
        for need in self._needs:
            need(idle)

    def _drop(self, parcel: Parcel) -> None:
        if self.held.get(parcel.message_id) is parcel:
            del self.held[parcel.message_id]
        log.warning("Did not start %s: its lease had ended before a thread was free.", parcel.message_id)

    def _accept(self, delivery: Delivery, sent_s: float) -> Parcel | None:
        """Makes a parcel; decides about a message that cannot become one."""
        try:
            parcel = open_delivery(delivery, self._policy, got_s=time.monotonic(), sent_s=sent_s)
        except NewerVersion as error:
            log.warning("Message %s is for a later version; put off: %s", delivery.message_id, error)
            self.submit(delivery.settlement(Verdict.DEFER, delay_ms=self._defer_ms))
            return None
        except Exception as error:
            # Whatever it is, it is this message's fault alone: its neighbours go on.
            log.error("Message %s cannot be decoded; it goes to the dead letters: %s", delivery.message_id, error)
            reason = f"undecodable: {type(error).__name__}: {error}"
            self.submit(self._broker.cannot_be_decoded(delivery.settlement(Verdict.DEAD, reason=reason)))
            return None
        if not self._broker.knows_actor(parcel.actor_name):
            self._leave_to_others(parcel)
            return None
        lane = self._broker.lane_of(parcel.queue_name, parcel.actor_name)
        if lane not in (delivery.lane, parcel.queue_name):
            # Sent by somebody who knew no limit, or a dead letter sent again: it waits for a permit where it should.
            self.submit(parcel.settlement(Verdict.RELEASE, lane=lane))
            return None
        self.held[parcel.message_id] = parcel
        return parcel

    def _leave_to_others(self, parcel: Parcel) -> None:
        """Of an actor that is not declared here, as in a rolling deploy: it waits in its place, in a lane of its own,
        for workers that know the actor; this one does not look there."""
        name = parcel.actor_name
        if name not in self._unknown:
            log.warning("No actor %r here; its messages are left to workers that have it, such as %s.",
                        name, parcel.message_id)  # fmt: skip
            if len(self._unknown) == MOST_UNKNOWN:
                self.submit(parcel.settlement(Verdict.DEFER, delay_ms=self._defer_ms))
                return
            self._unknown[name] = none_here(name)
        self.submit(parcel.settlement(Verdict.RELEASE, lane=parcel.queue_name + LANE_MARK + name))

    def _limits(self) -> Sequence[str]:
        known = self._broker.limits()
        if not self._unknown:
            return known
        return (*known, *(said for name, said in list(self._unknown.items()) if not self._broker.knows_actor(name)))

    def health(self) -> CrewHealth:
        """How its threads are. Once the worker is closing they end by and by, and none counts as dead."""
        now_s = time.monotonic()
        hubs, settlers = list(self._hubs.values()), list(self._settlers.values())
        dead = [] if self.closing.is_set() else [one.name for one in (*hubs, *settlers) if not one.is_alive()]
        return CrewHealth(
            tuple(dead),
            hub_silent_s=now_s - min(hub.alive_s for hub in hubs),
            settler_silent_s=now_s - min(settler.alive_s for settler in settlers),
        )

    # --- the end -------------------------------------------------------------------------------------------------

    def begin_closing(self) -> None:
        """The worker is about to stop its threads."""
        self.closing.set()
        for hub in self._hubs.values():
            hub.stop_fetching()
        for hub in self._hubs.values():
            hub.join(2.0)
        self.work_queue.close()
        self.give_back(self.work_queue.revoke())

    def close(self) -> None:
        """All threads have ended: executes what is pending and ends."""
        self.give_back(self.work_queue.revoke())
        for settler in self._settlers.values():
            settler.end()
