"""Dramatiq's RedisBroker with the outcome in the ledger first, and one atomic settlement on the bus.

A subclass of RedisBroker: its queues, scripts and consumers are kept; changed is only what would make the row lie
(spec/traps.md 2, 3, 7, 8).

States of a message, and who moves it:

    (none) ─enqueue→ waiting ─fetch→ leased ─settle→ gone           acknowledged
                        ↑                 ├─settle→ dead letter      failed for good
                        │                 ├─settle→ delayed          to be retried: one MULTI with the acknowledgement
                        └──heartbeat────  └─settle→ waiting          released unstarted
                           time-out

What a crash leaves:
  before `_publish`            a row without message; `enqueue` did not return
  after it                     a waiting message whose row exists
  in a worker, before settle   a leased message whose worker's heartbeat stops; after `lease_s` any other worker's fetch
                               puts it back, and the ledger's claim sees that the first worker is dead
  between ledger and settle    the same; the claim finds a terminal or newer row and refuses

A worker settles a message only after `Ledger.outcome` returned, that is after its commit. While the bus is down the
settlement is tried again, with a back-off, until it succeeds or the worker stops.
"""

import random
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, cast
from uuid import NAMESPACE_OID, uuid4, uuid5

import redis
from dramatiq import Message
from dramatiq.broker import Consumer, MessageProxy
from dramatiq.brokers.redis import MAINTENANCE_SCALE, RedisBroker, _RedisConsumer
from dramatiq.common import current_millis, dq_name, q_name
from dramatiq.errors import ActorNotFound, ConnectionClosed

from workers.errors import BusUnavailable, UnknownActor
from workers.registry import Registry

ENVELOPE = "callboard"
"""Message option: the version of our envelope. It marks a message whose row has been written."""
ENVELOPE_VERSION = 1
_MAINTENANCE_CHANCE = MAINTENANCE_SCALE
"""Every command looks for dead workers (RedisBroker's own: one in 1,000, so that recovery is left to luck)."""
_FIRST_BACKOFF_S = 0.1
_MAX_BACKOFF_S = 2.0


@dataclass(frozen=True)
class Acknowledge:
    """The message is done with."""


@dataclass(frozen=True)
class DeadLetter:
    """The message failed for good and is kept aside."""


@dataclass(frozen=True)
class Release:
    """The message was not started and goes back to its queue, not before `delay_ms` from now."""

    delay_ms: int = 0


@dataclass(frozen=True)
class RetryLater:
    """The message is sent again with these options, `delay_ms` from now."""

    delay_ms: int
    options: dict[str, Any]


Settlement = Acknowledge | DeadLetter | Release | RetryLater


class Ledger(Protocol):
    """What the bus needs from the ledger."""

    stopping: threading.Event
    """Set when the process must stop waiting for a database or bus that is down."""

    def outcome(self, message: MessageProxy, retry_delay_ms: int | None) -> Settlement:
        """Commit what became of the message, then say what the bus is to do. Blocks until it is committed."""
        ...

    def withdraw(self, task_id: str) -> bool:
        """Take back the row of a message that the bus may not have taken; False if a worker has it already."""
        ...


class CallboardBroker(RedisBroker):
    """The bus.

    Args:
        client: as `connection.make_client` makes it.
        registry: resolves aliases in messages.
        lease_s: a worker not heard of for this long is dead.
        namespace: prefix of every key.
    """

    def __init__(
        self, *, client: redis.Redis, registry: Registry, lease_s: int, namespace: str = "callboard", **options: Any
    ) -> None:
        super().__init__(
            client=client,
            namespace=namespace,
            heartbeat_timeout=lease_s * 1000,
            maintenance_chance=_MAINTENANCE_CHANCE,
            **options,
        )
        self.registry = registry
        self.ledger: Ledger | None = None
        self._retry_delays_ms: dict[str, int] = {}

    @property
    def consumer_class(self) -> type[Consumer]:
        """The consumer that settles through the ledger."""
        return LedgerConsumer

    def get_actor(self, actor_name: str) -> Any:
        """The actor of a canonical name or alias."""
        try:
            return self.registry.resolve(actor_name)
        except UnknownActor:
            raise ActorNotFound(actor_name) from None

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Put a message on the bus; its row is written first, by the status middleware.

        A MessageProxy is the message that this worker is processing: Dramatiq's Retries middleware sends it again. That
        is a decision, not a send, and is carried out with the acknowledgement, atomically.

        Args:
            delay: milliseconds.

        Raises:
            BusUnavailable: Redis cannot be reached; the row was taken back.
            SendError: raised by the status middleware.
        """
        if isinstance(message, MessageProxy):
            self._retry_delays_ms[message.message_id] = delay or 0
            return cast("Message[Any]", message)
        try:
            return super().enqueue(message, delay=delay)
        except redis.RedisError as error:
            if ENVELOPE in message.options:  # why: a delayed message whose time has come; its row stands.
                raise ConnectionClosed(error) from None
            if self.ledger is not None and not self.ledger.withdraw(message.message_id):
                return message  # why: only the answer was lost; a worker has started it.
            raise BusUnavailable(
                f"Redis did not take the message ({error}); nothing was sent: start Redis (`callboard up` brings its "
                "own) or set REDIS_URL, and send again"
            ) from error

    def publish(self, message: Message[Any]) -> None:
        """Put a message on the bus whose row is in the ledger already; no hook runs.

        Raises:
            BusUnavailable: try again later.
        """
        try:
            envelope = message.copy(options={"redis_message_id": str(uuid4())})
            self.do_enqueue(message.queue_name, envelope.options["redis_message_id"], envelope.encode())
        except redis.RedisError as error:
            raise BusUnavailable(f"Redis did not take the message: {error}") from error

    def take_retry_delay_ms(self, message_id: str) -> int | None:
        """The delay with which Retries wants this message again; None if it does not."""
        return self._retry_delays_ms.pop(message_id, None)

    def settle(self, queue_name: str, message: MessageProxy, settlement: Settlement) -> None:
        """Carry out a settlement in one MULTI. Safe to repeat when the answer was lost.

        Args:
            queue_name: the queue that it was fetched from, which for a delayed message is the delay queue.

        Raises:
            redis.RedisError: try again.
        """
        lease = message.options["redis_message_id"]
        match settlement:
            case Acknowledge():
                self.do_ack(queue_name, lease)
            case DeadLetter():
                self.do_nack(queue_name, lease)
            case Release(delay_ms=0):
                self.do_requeue(queue_name, lease)
            case Release(delay_ms=delay_ms):
                self._send_again(queue_name, message, delay_ms, {})
            case RetryLater(delay_ms=delay_ms, options=options):
                self._send_again(queue_name, message, delay_ms, options)

    def _send_again(self, queue_name: str, message: MessageProxy, delay_ms: int, options: dict[str, Any]) -> None:
        delay_queue = dq_name(message.queue_name)
        lease = message.options["redis_message_id"]
        again_id = str(uuid5(NAMESPACE_OID, lease))  # why: repeated after a lost answer, it is the same message.
        again = message.copy(
            queue_name=delay_queue,
            options={**options, "redis_message_id": again_id, "eta": current_millis() + delay_ms},
        )
        with self.client.pipeline(transaction=True) as pipe:
            script = self.scripts["dispatch"]
            for command, queue, *args in (
                ("enqueue", delay_queue, again_id, again.encode()),
                ("ack", queue_name, lease),
            ):
                prefix = [command, current_millis(), queue, self.broker_id, self.heartbeat_timeout]
                script(
                    keys=[self.namespace],
                    args=[*prefix, self.dead_message_ttl, 0, self._max_unpack_size(), *args],
                    client=pipe,
                )
            pipe.execute()


class LedgerConsumer(_RedisConsumer):
    """A consumer whose acknowledgement is: outcome into the ledger, then settlement on the bus."""

    broker: CallboardBroker

    def __init__(self, broker: CallboardBroker, queue_name: str, prefetch: int, timeout: int) -> None:
        super().__init__(broker, queue_name, prefetch, timeout)
        if queue_name != q_name(queue_name):
            self._recover_delayed()

    def _recover_delayed(self) -> None:
        """Put back the delayed messages that this process held: Dramatiq forgets them after a connection error."""
        try:
            held = self.broker.client.smembers(
                f"{self.broker.namespace}:__acks__.{self.broker.broker_id}.{self.queue_name}"
            )
            if held:
                self.broker.do_requeue(self.queue_name, *cast("set[bytes]", held))
        except redis.RedisError as error:
            raise ConnectionClosed(error) from None

    def ack(self, message: MessageProxy) -> None:
        """Settle; called by Dramatiq when it is done with the message, whatever became of it."""
        broker = self.broker
        retry_delay_ms = broker.take_retry_delay_ms(message.message_id)
        settlement: Settlement = DeadLetter() if message.failed else Acknowledge()
        if broker.ledger is not None and self.queue_name == message.queue_name and "eta" not in message.options:
            settlement = broker.ledger.outcome(message, retry_delay_ms)
        backoff_s = _FIRST_BACKOFF_S
        try:
            while True:
                try:
                    return broker.settle(self.queue_name, message, settlement)
                except redis.RedisError as error:
                    broker.logger.warning("the bus did not settle %s (%s); again in %.1f s", message.message_id,
                                          error, backoff_s)  # fmt: skip
                    if broker.ledger is not None and broker.ledger.stopping.wait(backoff_s * random.uniform(0.5, 1)):
                        return None  # why: the message comes back elsewhere, and the ledger refuses it.
                    backoff_s = min(backoff_s * 2, _MAX_BACKOFF_S)
        finally:
            self.queued_message_ids.discard(message.message_id)

    nack = ack

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Give unstarted messages back at shutdown."""
        try:
            super().requeue(messages)
        except redis.RedisError as error:
            raise ConnectionClosed(error) from None

    def __next__(self) -> MessageProxy | None:
        """The next message; every error of Redis is one after which Dramatiq restarts the consumer."""
        try:
            return cast("MessageProxy | None", super().__next__())
        except redis.RedisError as error:
            raise ConnectionClosed(error) from None
