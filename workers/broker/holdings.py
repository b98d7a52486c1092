"""What the workers of this process hold, one crew each, and how it ends: the room of a ledger.

It decides when a decision is executed, may stop new work while its database is away, and is told what the bus found
out. Must not know Dramatiq's signals; the broker adds a crew when a worker boots, and takes it away when that has
ended.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence

from .administration import Administration
from .bus import Bus
from .calls import TakenOff
from .crew import Crew, CrewHealth
from .parcel import Parcel
from .settlement import Outcome, Settlement, Verdict

log = logging.getLogger(__name__)


class Holdings(Administration):
    """settlement_sink: takes each decision instead of the settler, in the worker's thread.

    on_fetched, on_lease_lost, on_settlement_refused: told of messages that came, of one that runs here and is another's
        by now, of a decision that came too late. They must be quick.
    """

    def __init__(self) -> None:
        self.settlement_sink: Callable[[Settlement], None] | None = None
        self.on_lease_lost: Callable[[Parcel], None] | None = None
        self.on_fetched: Callable[[list[Parcel]], None] | None = None
        self.on_settlement_refused: Callable[[Settlement], None] | None = None
        self._holds: set[str] = set()
        self._holds_lock = threading.Lock()
        self._crews: list[Crew] = []

    def _add_crew(self, crew: Crew) -> None:
        with self._holds_lock:
            self._crews.append(crew)
            for reason in self._holds:
                crew.hold(reason)

    def record_settlement(self, settlement: Settlement) -> None:
        """Takes note of a decision: to the sink if there is one, else to the settler. Called in worker threads."""
        if self.settlement_sink is not None:
            self.settlement_sink(settlement)
        elif not self._submit(settlement):
            self.settle_batch([settlement])

    def submit_settlements(self, settlements: Iterable[Settlement]) -> None:
        """Has decisions executed in the background: batched, repeated until answered. Returns at once."""
        strangers = [settlement for settlement in settlements if not self._submit(settlement)]
        if strangers:
            self.settle_batch(strangers)

    def _submit(self, settlement: Settlement) -> bool:
        for crew in self._crews:
            if crew.owner == settlement.owner:
                crew.submit(settlement)
                return True
        return False

    def settle_batch(self, settlements: Sequence[Settlement]) -> list[Outcome]:
        """Executes decisions now; returns what became of each, in order. Raises BusUnavailable (repeating is safe)."""
        groups: dict[tuple[Bus, str], list[int]] = {}
        parcels: list[tuple[Crew, Parcel]] = []
        for i, s in enumerate(settlements):
            groups.setdefault((self.bus_of(s.queue_name), s.owner), []).append(i)
            for crew in self._crews:
                parcel = crew.held.get(s.message_id)
                if parcel is not None and parcel.delivery.is_of(s):
                    parcel.settling = True
                    parcels.append((crew, parcel))
        outcomes: dict[int, Outcome] = {}
        try:
            for (bus, _), numbers in groups.items():
                outcomes.update(zip(numbers, bus.settle([settlements[i] for i in numbers]), strict=True))
        except BaseException:  # an interrupt too leaves them unsettled
            for _, parcel in parcels:
                parcel.settling = False  # held still: its lease must be renewed until this is repeated
            raise
        for crew, parcel in parcels:
            if crew.held.get(parcel.message_id) is parcel:
                del crew.held[parcel.message_id]
        for i, outcome in outcomes.items():
            if outcome is Outcome.STALE:
                self.settlement_refused(settlements[i])
        return [outcomes[i] for i in range(len(settlements))]

    def take_off(
        self, queue_name: str, message_id: str, *, timeout_s: float | None = None, tombstone_s: float | None = None
    ) -> TakenOff:
        """As `Administration.take_off`; a message that this process holds and has not started is taken back first."""
        for crew in self._crews:
            parcel = crew.work_queue.revoke_message(message_id)
            if parcel is not None:
                self.settle_batch([parcel.settlement(Verdict.RELEASE)])
        return super().take_off(queue_name, message_id, timeout_s=timeout_s, tombstone_s=tombstone_s)

    def settlement_refused(self, settlement: Settlement) -> None:
        """A decision was refused: another has taken the message, and this attempt must not count."""
        log.warning("Stale %s of message %s was refused.", settlement.verdict.name, settlement.message_id)
        if self.on_settlement_refused is not None:
            self.on_settlement_refused(settlement)

    def fetched(self, parcels: list[Parcel]) -> None:
        """Messages came, and are about to be handed to the threads."""
        if self.on_fetched is not None:
            try:
                self.on_fetched(parcels)
            except Exception:  # a listener is a stranger's code; the bus goes on
                log.exception("A listener failed when messages were fetched.")

    def cannot_be_decoded(self, settlement: Settlement) -> Settlement:
        """A message came that nobody can read, and is to be dead. Returns what is to become of it: for a ledger, which
        may have a row under its id. Must not raise."""
        return settlement

    def lease_lost(self, parcel: Parcel) -> None:
        """A message that runs here is another's by now, or was cancelled."""
        log.warning("Lost the lease of %s, which is still running here.", parcel.message_id)
        if self.on_lease_lost is not None:
            self.on_lease_lost(parcel)

    def held(self) -> list[Parcel]:
        """Returns what the workers of this process hold, running or not."""
        return [parcel for crew in self._crews for parcel in list(crew.held.values())]

    def health(self) -> list[CrewHealth]:
        """How the threads of this process's workers on the bus are; empty where no worker runs."""
        return [crew.health() for crew in list(self._crews)]

    def hold_fetching(self, reason: str) -> None:
        """Fetches nothing more and gives the unstarted back, until every reason given is taken back. Holds for workers
        that boot later too."""
        with self._holds_lock:
            self._holds.add(reason)
            for crew in self._crews:
                crew.hold(reason)

    def allow_fetching(self, reason: str) -> None:
        """Takes back one reason not to fetch."""
        with self._holds_lock:
            self._holds.discard(reason)
            for crew in self._crews:
                crew.allow(reason)
