"""The bus under the ledger: each send has its row first, each acknowledgement its committed outcome.

    enqueue    the status middleware writes the row, then the message is published. If the bus does not answer, the row
               stays and the relay sends it: `send()` has succeeded. After such a failure the bus is left alone for
               `BREAK_S`, and rows are written for the relay at once, so that senders do not wait for it each time
    settle     the bus's decision about a delivery goes to the ledger, which may change it (a message that may not run
               now is put off) and commits the outcome; only then is it executed on the bus

A crash between row and message: the row says that it was sent, and reconcile finds that it was not. A crash between the
commit and the settlement: the lease ends, the message is delivered again, and the row refuses it.
"""

import time
from collections.abc import Sequence
from typing import Any, Final

from dramatiq import Message
from dramatiq.broker import MessageProxy
from dramatiq.errors import ActorNotFound

from workers.broker import BusFull, BusRefused, BusUnavailable, CallboardBroker, Parcel, Receipt, Settlement, Verdict
from workers.errors import InvalidTask, UnknownActor
from workers.ledger.ledger import ENVELOPE, Ledger
from workers.registry import Registry

BREAK_S: Final = 1.0
"""For how long a bus that did not answer is not asked again."""


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
        super().__init__(owner_name=ledger.presence.take_id, **options)
        self.settlement_sink = self._settle
        self.on_fetched = lambda parcels: ledger.vouch(parcels, self.generation)

    def get_actor(self, actor_name: str) -> Any:
        """The actor of a canonical name or alias; raises ActorNotFound."""
        try:
            return self.registry.resolve(actor_name)
        except UnknownActor:
            raise ActorNotFound(actor_name) from None

    def knows_actor(self, actor_name: str) -> bool:
        """Whether a message under this name can run here; if not, it is put off."""
        return self.registry.find(actor_name) is not None

    @property
    def is_bus_up(self) -> bool:
        """Whether the bus answered when it was asked last, or has not been asked for a while."""
        return time.monotonic() >= self._down_until_s

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Send a message, its row first.

        Args:
            delay: milliseconds.

        Raises:
            SendError: raised by the status middleware; nothing was sent.
            InvalidTask: the bus can never take it; nothing was sent.
        """
        try:
            return super().enqueue(message, delay=delay)
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

    def publish(
        self,
        messages: Sequence[Message[Any]],
        *,
        delay_ms: int | None = None,
        arrived_us: Sequence[int] | None = None,
        timeout_s: float | None = None,
    ) -> list[Receipt]:
        """Put messages on the bus whose rows stand already. Repeating it is safe. Raises BusUnavailable, BusFull."""
        if not self.is_bus_up:
            raise BusUnavailable("Redis did not answer a moment ago")  # type: ignore[no-untyped-call]  # Dramatiq's
        try:
            return super().publish(
                messages,
                delay_ms=delay_ms,
                arrived_us=arrived_us,
                timeout_s=self._publish_timeout_s if timeout_s is None else timeout_s,
            )
        except (BusUnavailable, BusFull):
            self._down_until_s = time.monotonic() + BREAK_S
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

    def _leave_to_the_relay(self, messages: Sequence[Message[Any]]) -> None:
        self.ledger.leave_to_the_relay([message.message_id for message in messages])

    def _settle(self, settlement: Settlement) -> None:
        decided = self.ledger.settle(settlement)
        if decided is not None:
            self.submit_settlements([decided])
