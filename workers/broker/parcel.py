"""A message as a worker holds it: Dramatiq's message proxy plus what is needed to end its delivery.

    held unstarted ──started──→ running ──sealed──→ settling ──→ forgotten
         └─revoked (50 ms without a thread, shutdown, cancelled) → forgotten, RELEASE goes to the bus

The fields of the message are the proxy's own: Dramatiq's looks each up by `__getattr__`, some thirty times a message.
The message itself is made when somebody asks for it, of the same arguments and options.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec
from dramatiq import Message, MessageProxy, get_encoder
from dramatiq.errors import DecodeError

from .codec import MessageCodec, MessageFields
from .envelope import DEFAULT_PRIORITY, unpack
from .policy import Policy
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

    # What most parcels keep is the class's, so that making one sets as little as may be.
    failed = False
    _exception: BaseException | None = None
    started_s = 0.0
    # What an enqueue of this very message decided while it ran: Dramatiq's way to retry.
    again: Settlement | None = None
    # Its settlement is being executed: no renewal, else a message just settled would come back to life.
    settling = False
    # Dramatiq has acknowledged it: an enqueue of the same id from now on is a sending like any other.
    sealed = False
    lost = False
    # Whoever listens to fetches may note here that he knows it to be unstarted anywhere.
    vouched = False
    # It failed with retries left: its policy does not retry this exception.
    is_not_retryable = False

    def __init__(
        self,
        message: Message[Any] | MessageFields,
        delivery: Delivery,
        *,
        priority: int,
        attempt: int,
        got_s: float,
        held_until_s: float,
        arrived_us: int = 0,
    ) -> None:
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

    @property
    def _message(self) -> Message[Any]:  # type: ignore[override]  # Dramatiq's is an attribute; few parcels need it
        return Message(
            self.queue_name,
            self.actor_name,
            self.args,
            self.kwargs,
            self.options,
            self.message_id,
            self.message_timestamp,
        )

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


def open_delivery(delivery: Delivery, policy: Policy, *, got_s: float, sent_s: float) -> Parcel:
    """Makes a parcel of what the bus handed out.

    got_s, sent_s: when the fetch was answered, and asked: the lease counts from then. Monotonic clock.

    Raises NewerVersion, DecodeError, ValueError, TypeError.
    """
    envelope = unpack(delivery.record)
    message = _decoded(envelope.payload)
    if message.message_id != delivery.message_id:
        raise DecodeError(
            f"expected message {delivery.message_id}, got {message.message_id}", envelope.payload[:100], None
        )
    # Dramatiq looks the consumer up by the message's queue: it must be the one it came from.
    message.queue_name = delivery.queue_name
    options = message.options
    # Dramatiq's worker keeps a message with an `eta` in its own memory; on this bus it is due when it comes.
    options.pop("eta", None)
    priority = envelope.priority
    if priority != DEFAULT_PRIORITY or "priority" in options:
        options["priority"] = priority  # may have been changed since it was sent; a retry keeps it
    return Parcel(
        message,
        delivery,
        priority=priority,
        attempt=envelope.attempt,
        arrived_us=policy.arrived_us(delivery.score, priority),
        got_s=got_s,
        held_until_s=sent_s + policy.lease_s,
    )


def _decoded(payload: bytes) -> MessageFields:
    encoder = get_encoder()
    if isinstance(encoder, MessageCodec):
        return encoder.decode_message(payload)
    # Somebody's own. Dramatiq's worker would choke, outside of any `try`, on fields of other types than these.
    message: Message[Any] = Message.decode(payload)
    fields = cast(
        "tuple[object, ...]",
        (message.queue_name, message.actor_name, message.kwargs, message.options, message.message_timestamp),
    )
    kinds = (str, str, dict, dict, int)
    if not all(isinstance(field, kind) for field, kind in zip(fields, kinds, strict=True)):
        got = ", ".join(type(field).__name__ for field in fields)
        raise TypeError(
            f"expected queue_name str, actor_name str, kwargs dict, options dict, message_timestamp int; got {got}"
        )
    return MessageFields(**message.asdict())
