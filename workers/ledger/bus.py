"""The bus under the ledger: each send has its row first, each acknowledgement its committed outcome.

    enqueue    the status middleware writes the row, then the message is published; if the bus does not take it, the row
               is taken back, unless a worker has started it already: then only the answer was lost
    settle     the bus's decision about a delivery goes to the ledger, which commits the outcome and may change the
               decision (a message that may not run now is put off); only then is it executed on the bus

A crash between the commit and the settlement: the lease ends, the message is delivered again, and its claim is refused.
"""

from typing import Any

from dramatiq import Message
from dramatiq.broker import MessageProxy
from dramatiq.errors import ActorNotFound

from workers.broker import BusFull, BusRefused, CallboardBroker, Settlement, Verdict
from workers.broker import BusUnavailable as NoAnswer
from workers.errors import BusUnavailable, UnknownActor
from workers.ledger.ledger import ENVELOPE, Ledger
from workers.registry import Registry


class LedgerBroker(CallboardBroker):
    """The broker of this process.

    Args:
        ledger: what writes rows.
        registry: resolves legacy names in messages.
        options: as CallboardBroker takes them.
    """

    def __init__(self, *, ledger: Ledger, registry: Registry, **options: Any) -> None:
        self.ledger = ledger
        self.registry = registry
        super().__init__(**options)
        self.settlement_sink = self._commit

    def get_actor(self, actor_name: str) -> Any:
        """The actor of a canonical name or alias; raises ActorNotFound."""
        try:
            return self.registry.resolve(actor_name)
        except UnknownActor:
            raise ActorNotFound(actor_name) from None

    def knows_actor(self, actor_name: str) -> bool:
        """Whether a message under this name can run here; if not, it is put off."""
        return self.registry.find(actor_name) is not None

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Send a message, its row first.

        Args:
            delay: milliseconds.

        Raises:
            BusUnavailable: Redis did not take it; the row was taken back.
            SendError: raised by the status middleware; nothing was sent.
        """
        try:
            return super().enqueue(message, delay=delay)
        except (NoAnswer, BusFull, BusRefused) as error:
            if isinstance(message, MessageProxy):
                raise
            message.options.pop(ENVELOPE, None)  # why: sent again, this very object needs its row again.
            if not self.ledger.withdraw(message.message_id):
                return message
            raise BusUnavailable(
                f"Redis did not take the message ({error}); nothing was sent: start Redis (`callboard up` brings its "
                "own) or set REDIS_URL, and send again"
            ) from error

    def publish_accepted(self, message: Message[Any]) -> None:
        """Put a message on the bus whose row is in the ledger already. Repeating it is safe.

        Raises:
            BusUnavailable: try again later.
        """
        try:
            self.publish([message])
        except (NoAnswer, BusFull, BusRefused) as error:
            raise BusUnavailable(f"Redis did not take the message: {error}") from error

    def hand_back_running(self) -> None:
        """The process ends while messages run: they go back to the bus at once, each for its next attempt."""
        for parcel in self.held():
            if parcel.started_s and not parcel.sealed and "attempt" in parcel.options:
                record = self._record(parcel._message)  # noqa: SLF001 - Dramatiq has no other access
                self.submit_settlements([parcel.settlement(Verdict.RETRY, record=record)])

    def _commit(self, settlement: Settlement) -> None:
        self.submit_settlements([self.ledger.outcome(settlement)])
