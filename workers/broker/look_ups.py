"""How a ledger compares itself with the bus: what is there, what is not, who has it. Reads only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from dramatiq import Message
from dramatiq.common import q_name

from .bus import Bus
from .envelope import unpack
from .tags import Tags


class LookUps(Tags):
    """Over all tags. Calls raise BusUnavailable."""

    def absent(self, pairs: Iterable[tuple[str, str]]) -> set[str]:
        """Returns which of these messages are not on the bus: neither waiting, delayed nor held by a worker (a dead
        letter is not on it either).

        pairs: (queue name, message id), any number; asked for by the thousand: a call takes the server about half a
            millisecond. The answer is no picture of one instant: what moves meanwhile is there before and after, but a
            message sent after its call, or settled before it, looks absent.

        Raises BusUnavailable.
        """
        by_bus: dict[Bus, list[str]] = {}
        for queue_name, message_id in pairs:
            by_bus.setdefault(self.bus_of(q_name(queue_name)), []).append(message_id)
        return {name for bus, names in by_bus.items() for name in bus.absent(names)}

    def scan_ids(self, cursor: str | None = None, *, count: int = 1_000) -> tuple[str | None, list[str]]:
        """One step through the ids of all messages on the bus, over all shards.

        cursor: None to begin, then what the last step returned. count: about how many ids a step; the server reads as
            many whole messages for it, and sends their ids only.

        Returns (cursor of the next step, None: that was the last; ids). What is on the bus from the first step to the
        last is returned, maybe twice; what comes or goes meanwhile may be or not. Raises BusUnavailable.
        """
        shard, _, at = (cursor or "0:0").partition(":")
        number = int(shard)
        position, names = self._buses[number].scan_ids(int(at), count)
        if position:
            return f"{number}:{position}", names
        return (f"{number + 1}:0" if number + 1 < len(self._buses) else None), names

    def records(self, message_ids: Sequence[str]) -> list[Message[Any] | None]:
        """Reads messages, wherever they are, for instance some of `scan_ids`.

        Returns each as it would be delivered now (its present priority in its options); None for one that is not on the
        bus, was written by a newer version, or cannot be decoded. Raises BusUnavailable.
        """
        found: list[Message[Any] | None] = [None] * len(message_ids)
        for bus in self._buses:
            for i, record in enumerate(bus.records(message_ids)):
                if record:
                    found[i] = _readable(record)
        return found

    def leased(self, message_ids: Sequence[str]) -> dict[str, str]:
        """Returns message id → name of the worker process that holds it (`owner_name`); others are left out.

        Held is what runs, and what is fetched and not started. A lease past its end counts until a worker's next call.
        Raises BusUnavailable.
        """
        owners: dict[str, str] = {}
        for bus in self._buses:
            owners |= bus.leased(message_ids)
        return owners


def _readable(record: bytes) -> Message[Any] | None:
    try:
        envelope = unpack(record)
        message: Message[Any] = Message.decode(envelope.payload)
        message.options["priority"] = envelope.priority
    except Exception:  # whatever it is, it is this message's fault alone; a worker will set it aside
        return None
    return message
