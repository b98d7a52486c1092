"""A message as a worker holds it: Dramatiq's message proxy plus what is needed to end its delivery.

    held unstarted ──started──→ running ──sealed──→ settling ──→ forgotten
         └─revoked (50 ms without a thread, shutdown, cancelled) → forgotten, RELEASE goes to the bus

The fields of the message are copied onto the proxy: Dramatiq's own proxy looks each up by `__getattr__`, some thirty
times a message.
"""

from __future__ import annotations

from typing import Any

import msgspec
from dramatiq import Message, MessageProxy

from .settlement import Settlement, Verdict


class Delivery(msgspec.Struct, frozen=True):
    """One handing-out of a message by the bus.

    record: as stored. fence: delivery number. losses: how many workers vanished with it before.
    claim: number of the owner's fetch that brought it.
    score: its place, given back unchanged if it is revoked. lane: the queue, or its lane where the message waited.
    previous_owner: who held it before, if it was delivered before and not settled since.
    """

    message_id: str
    record: bytes
    fence: int
    losses: int
    score: str
    queue_name: str
    owner: str
    lane: str = ""
    previous_owner: str | None = None
    claim: int = 0

    def settlement(self, verdict: Verdict, **details: Any) -> Settlement:
        """Returns a decision about this delivery."""
        return Settlement(
            self.message_id, self.queue_name, self.owner, self.fence, verdict, claim=self.claim, **details
        )

    def is_of(self, settlement: Settlement) -> bool:
        """Whether that decides about this delivery."""
        at = settlement
        return (self.message_id, self.owner, self.fence, self.claim) == (at.message_id, at.owner, at.fence, at.claim)


class Parcel(MessageProxy):
    """A delivered message.

    delivery: how it came. held_until_s: on the monotonic clock; past it the lease has ended and it must not start.
    priority: 1-10, as the bus has it. attempt: as the bus has it.
    arrived_us: when it became available (sent, or due if it was delayed), by the server's clock, Unix microseconds: one
        that arrived before `CallboardBroker.generation.since_us` was on the bus in an earlier life of it, or is from a
        rebuild. Kept when it is given back, lost or reprioritised; a retry arrives anew.
    """

    def __init__(
        self,
        message: Message[Any],
        delivery: Delivery,
        *,
        priority: int,
        attempt: int,
        got_s: float,
        held_until_s: float,
        arrived_us: int = 0,
    ) -> None:
        super().__init__(message)
        self.queue_name = message.queue_name
        self.actor_name = message.actor_name
        self.args = message.args
        self.kwargs = message.kwargs
        self.options = message.options
        self.message_id = message.message_id
        self.message_timestamp = message.message_timestamp
        self.delivery = delivery
        self.priority = priority
        self.attempt = attempt
        self.arrived_us = arrived_us
        self.got_s = got_s
        self.held_until_s = held_until_s
        self.started_s = 0.0
        # What an enqueue of this very message decided while it ran: Dramatiq's way to retry.
        self.again: Settlement | None = None
        # Its settlement is being executed: no renewal, else a message just settled would come back to life.
        self.settling = False
        # Dramatiq has acknowledged it: an enqueue of the same id from now on is a sending like any other.
        self.sealed = False
        self.lost = False
        # Whoever listens to fetches may note here that he knows it to be unstarted anywhere.
        self.vouched = False

    def __str__(self) -> str:
        # why: Dramatiq logs failed messages with it, and would show their arguments, secrets and all.
        return f"{self.actor_name} {self.message_id}"

    __repr__ = __str__

    @property
    def message(self) -> Parcel:
        """Itself: Dramatiq's worker threads take `.message` of whatever is in the work queue."""
        return self

    @property
    def previous_owner(self) -> str | None:
        """Who held the message before this worker and did not settle it (its lease ended); None: nobody."""
        return self.delivery.previous_owner

    @property
    def exception(self) -> BaseException | None:
        """What the actor raised, until Dramatiq clears it after the acknowledgement."""
        return self._exception

    def settlement(self, verdict: Verdict, **details: Any) -> Settlement:
        """Returns a decision about this delivery."""
        return self.delivery.settlement(verdict, **details)
