"""The broker as a task uses it: no interrupt lands in the middle of a send, between its row and its message."""

from typing import Any

from dramatiq import Message

from workers.ledger.bus import LedgerBroker
from workers.runner.window import windows


class MaskedBroker(LedgerBroker):
    """The ledger's broker, with interrupts held back while it works for a task."""

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """As LedgerBroker; an interrupt that comes meanwhile is raised after it."""
        with windows.masked():
            return super().enqueue(message, delay=delay)
