"""The bus under the ledger: each send has its row first, each acknowledgement its committed outcome.

    enqueue    the status middleware writes the row, then the message is published. If the bus does not answer, the row
               stays and the relay sends it: `send()` has succeeded. After such a failure the bus is left alone for
               `BREAK_S`, and rows are written for the relay at once, so that senders do not wait for it each time
    take_off   behind the same breaker: who cancels does not wait for a bus that has just been seen to be away
    enqueue_many  the same, CHUNK rows to a transaction
    send_in    the row joins the caller's transaction (outbox)
    settle     the bus's decision about a delivery goes to the ledger, which may change it (a message that may not run
               now is put off) and commits the outcome; only then is it executed on the bus

A crash between row and message: the row says that it was sent, and reconcile finds that it was not. A crash between the
commit and the settlement: the lease ends, the message is delivered again, and the row refuses it.
"""

import time
from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from dramatiq import Message
from dramatiq.broker import MessageProxy
from dramatiq.errors import ActorNotFound

from workers.broker import (
    BusFull,
    BusRefused,
    BusUnavailable,
    CallboardBroker,
    Parcel,
    Receipt,
    Settlement,
    TakenOff,
    Verdict,
    dated,
)
from workers.errors import InvalidTask, SendError, UnknownActor
from workers.ledger.attempt import CHECK, ENVELOPE, ENVELOPE_VERSION
from workers.ledger.duplicate import duplicate_of
from workers.ledger.ledger import Accepted, Ledger
from workers.registry import Registry

if TYPE_CHECKING:
    from models.task_moves import NewTask

CHUNK: Final = 1_000
"""Messages of one transaction and one call of the bus in `enqueue_many`."""
BREAK_S: Final = 1.0
"""For how long a bus that did not answer is not asked again."""


class HasOwner(SendError):
    """Another task has the message's idempotency key; `enqueue` turns this into that task's message.

    Args:
        owner: that task's id.
    """

    def __init__(self, owner: str) -> None:
        super().__init__(f"task {owner} has this idempotency key")
        self.owner = owner


class LedgerBroker(CallboardBroker):
    """The broker of this process.

    Args:
        ledger: what writes rows.
        registry: resolves legacy names in messages.
        publish_timeout_s: how long a send waits for the bus before it leaves the message to the relay.
        options: as CallboardBroker takes them.
    """

    def __init__(self, *, ledger: Ledger, registry: Registry, publish_timeout_s: float, **options: Any) -> None:
        self.ledger = ledger
        self.registry = registry
        self._publish_timeout_s = publish_timeout_s
        self._down_until_s = 0.0
        self._is_full = False
        super().__init__(owner_name=ledger.presence.take_id, **options)
        self.settlement_sink = self._settle
        self.on_fetched = lambda parcels: ledger.vouch(parcels, self.generation)

    def get_actor(self, actor_name: str) -> Any:
        """The actor of a canonical name or alias; raises ActorNotFound."""
        found = self.registry.actors.get(actor_name)  # why: nearly always, and every hook of each message asks.
        if found is not None:
            return found
        try:
            return self.registry.resolve(actor_name)
        except UnknownActor:
            raise ActorNotFound(actor_name) from None

    def knows_actor(self, actor_name: str) -> bool:
        """Whether a message under this name can run here; if not, it is put off."""
        return self.registry.find(actor_name) is not None

    def cannot_be_decoded(self, settlement: Settlement) -> Settlement:
        """Fail the row of a message that nobody can read, if it has one; see Ledger.fail_undecodable."""
        return self.ledger.fail_undecodable(settlement)

    @property
    def is_bus_up(self) -> bool:
        """Whether the bus answered when it was asked last, or has not been asked for a while."""
        return time.monotonic() >= self._down_until_s

    @property
    def is_bus_full(self) -> bool:
        """Whether what it answered then was that it has no room."""
        return self._is_full and not self.is_bus_up

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Send a message, its row first.

        Args:
            delay: milliseconds.

        Returns:
            The message as sent; or, where another task has its idempotency key, the message under that task's id, with
            the option `duplicate`.

        Raises:
            SendError: raised by the status middleware; nothing was sent.
            InvalidTask: the bus can never take it; nothing was sent.
        """
        try:
            return super().enqueue(message, delay=delay)
        except HasOwner as duplicate:
            return duplicate_of(message, duplicate.owner)
        except (BusUnavailable, BusFull):
            if isinstance(message, MessageProxy):
                raise
            self._leave_to_the_relay([message])
            return message
        except BusRefused as error:
            if isinstance(message, MessageProxy) or not self.ledger.withdraw(message.message_id):
                raise
            message.options.pop(ENVELOPE, None)  # why: sent again, this very object needs its row again.
            raise InvalidTask(f"Redis cannot take this message: {error}", field="task_id") from error

    def enqueue_many(
        self,
        messages: Sequence[Message[Any]],
        *,
        delay: int | None = None,
        delays: Sequence[int | None] | None = None,
        rows: "Sequence[NewTask | None] | None" = None,
    ) -> list[Message[Any]]:
        """Send messages in order, their rows first: a transaction and a call of the bus for each CHUNK.

        Args:
            delay: milliseconds.
            delays: of each of the messages, instead of one for all.
            rows: of each, where somebody has made them already (`ledger.row_of`) to see whether they can be.

        Returns:
            The messages, as `enqueue` returns each.

        Raises:
            InvalidTask: one of them is wrong: nothing was sent. Or the bus can never take it: all others were sent.
            LedgerUnavailable, OutcomeUnknown: whole chunks were sent before; sending all again is safe.
        """
        if rows is None:
            now, sent = datetime.now(UTC), self.is_bus_up
            rows = [
                None
                if ENVELOPE in message.options
                else self.ledger.row_of(self, message, delay_ms=own_delay, now=now, sent=sent)
                for message, own_delay in zip(messages, delays or [delay] * len(messages), strict=True)
            ]
        if delays is not None:
            messages = [
                message if own_delay is None else dated(message, own_delay)
                for message, own_delay in zip(messages, delays, strict=True)
            ]
        answered: list[Message[Any]] = []
        for first in range(0, len(messages), CHUNK):
            answered += self._enqueue_chunk(messages[first : first + CHUNK], rows[first : first + CHUNK], delay)
        return answered

    def _enqueue_chunk(
        self, messages: Sequence[Message[Any]], rows: Sequence["NewTask | None"], delay: int | None
    ) -> list[Message[Any]]:
        new = [row for row in rows if row is not None]
        accepted = self.ledger.accept(new) if new else Accepted(True, {})
        owners = accepted.owners
        for message, row in zip(messages, rows, strict=True):
            if row is not None and row.task_id not in owners:
                message.options[ENVELOPE] = ENVELOPE_VERSION
                if not accepted.are_new:
                    message.options[CHECK] = True  # why: one of them was there, so that a copy of it may have run.
        own = [message for message in messages if message.message_id not in owners] if owners else messages
        try:
            sent = iter(super().enqueue_many(own, delay=delay))
        except (BusUnavailable, BusFull):
            self._leave_to_the_relay(own)
            sent = iter(own)
        except BusRefused:
            sent = iter(self._enqueue_each(own, delay))
        if not owners:
            return list(sent)
        return [
            duplicate_of(one, owners[one.message_id]) if one.message_id in owners else next(sent) for one in messages
        ]

    def _enqueue_each(self, messages: Sequence[Message[Any]], delay: int | None) -> list[Message[Any]]:
        sent: list[Message[Any]] = []
        refused: InvalidTask | None = None
        for message in messages:
            try:
                sent.append(self.enqueue(message, delay=delay))
            except InvalidTask as error:
                refused = error
        if refused is not None:
            raise refused
        return sent

    def send_in(
        self, session: Any, message: Message[Any], *, delay_ms: int | None = None
    ) -> Message[Any] | Awaitable[Message[Any]]:
        """Send a message with a caller's transaction; see outbox.send_in."""
        from workers.ledger import outbox  # why: it needs SQLAlchemy (18 MB); whoever has a session has that.

        return outbox.send_in(self, session, message, delay_ms=delay_ms)

    def publish_accepted(self, messages: Sequence[Message[Any]]) -> None:
        """Put messages on the bus whose rows have just been written; what it does not take is the relay's."""
        try:
            self.publish(messages)
        except (BusUnavailable, BusFull, BusRefused):
            self._leave_to_the_relay(messages)

    def publish(
        self,
        messages: Sequence[Message[Any]],
        *,
        delay_ms: int | None = None,
        arrived_us: Sequence[int] | None = None,
        timeout_s: float | None = None,
    ) -> list[Receipt]:
        """Put messages on the bus whose rows stand already. Repeating it is safe. Raises BusUnavailable, BusFull."""
        self._must_be_up()
        try:
            return super().publish(
                messages,
                delay_ms=delay_ms,
                arrived_us=arrived_us,
                timeout_s=self._publish_timeout_s if timeout_s is None else timeout_s,
            )
        except (BusUnavailable, BusFull) as error:
            self._break(is_full=isinstance(error, BusFull))
            raise

    def take_off(
        self, queue_name: str, message_id: str, *, timeout_s: float | None = None, tombstone_s: float | None = None
    ) -> TakenOff:
        """As the broker's, behind the same breaker as `publish`. Raises BusUnavailable."""
        self._must_be_up()
        try:
            return super().take_off(queue_name, message_id, timeout_s=timeout_s, tombstone_s=tombstone_s)
        except BusUnavailable:
            self._break()
            raise

    def forget_removal(self, queue_name: str, message_id: str, *, timeout_s: float | None = None) -> bool:
        """As the broker's, behind the same breaker as `publish`. Raises BusUnavailable."""
        self._must_be_up()
        try:
            return super().forget_removal(queue_name, message_id, timeout_s=timeout_s)
        except BusUnavailable:
            self._break()
            raise

    def send_again(self, message: Parcel) -> None:
        """Have a message that was not started delivered anew, under the attempt that its options now name."""
        self._decide_again(message, message._message, None)  # noqa: SLF001 - Dramatiq has no other access

    def hand_back_running(self) -> None:
        """The process ends while messages run: each goes back for its next attempt, its row first."""
        for parcel in self.held():
            if self.ledger.is_running(parcel) and not parcel.sealed:
                record = self._record(parcel._message)  # noqa: SLF001 - as above
                self.ledger.hand_back(parcel, parcel.settlement(Verdict.RETRY, record=record))

    def _must_be_up(self) -> None:
        if not self.is_bus_up:
            raise BusUnavailable("Redis did not answer a moment ago")  # type: ignore[no-untyped-call]  # Dramatiq's

    def _break(self, *, is_full: bool = False) -> None:
        self._down_until_s, self._is_full = time.monotonic() + BREAK_S, is_full

    def _leave_to_the_relay(self, messages: Sequence[Message[Any]]) -> None:
        self.ledger.leave_to_the_relay([message.message_id for message in messages])

    def _settle(self, settlement: Settlement) -> None:
        decided = self.ledger.settle(settlement)
        if decided is not None:
            self.submit_settlements([decided])
