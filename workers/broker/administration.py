"""What operators, the API and the ledger do to queues and to single messages. Each is one call of one tag's script."""

from __future__ import annotations

from collections.abc import Sequence

from .calls import Change, Removal, TakenOff
from .dead_letter import DeadLetter
from .depth import QueueDepth
from .envelope import priority_of
from .tags import Tags


class Administration(Tags):
    """Calls raise BusUnavailable (repeat them: each is safe to repeat), BusFull, BusRefused."""

    def remove(self, queue_name: str, message_id: str, *, timeout_s: float | None = None) -> Removal:
        """Takes a message off the bus. REMOVED: it will not run. LEASED: a worker has it; one that this process has not
        started yet is taken back first. ABSENT: `enqueue` refuses it for `tombstone_s`. timeout_s: None: the bus's."""
        return self.take_off(queue_name, message_id, timeout_s=timeout_s).removal

    def take_off(
        self, queue_name: str, message_id: str, *, timeout_s: float | None = None, tombstone_s: float | None = None
    ) -> TakenOff:
        """As `remove`; also says which delivery of a removed message was lost with its worker. tombstone_s: None: the
        policy's."""
        return self.bus_of(queue_name).take_off(queue_name, message_id, timeout_s=timeout_s, tombstone_s=tombstone_s)

    def is_younger_than(self, age_s: float, queue_name: str) -> bool:
        """Whether the server with this queue was restarted or emptied so lately: then what is absent there may still be
        running somewhere. Raises BusUnavailable."""
        return self.bus_of(queue_name).is_younger_than(age_s)

    def forget_removal(self, queue_name: str, message_id: str, *, timeout_s: float | None = None) -> bool:
        """Lets a message be sent that was removed when it was absent. Returns whether it was refused until now."""
        return self.bus_of(queue_name).forget_removal(message_id, timeout_s=timeout_s)

    def reprioritise(self, queue_name: str, message_id: str, priority: int) -> Change:
        """Gives a message that waits or is delayed another priority, 1-10."""
        return self.bus_of(queue_name).reprioritise(queue_name, message_id, priority_of({"priority": priority}))

    def pause_queue(self, queue_name: str) -> None:
        """Stops handing out a queue, for all workers. What runs goes on; sending goes on."""
        self.bus_of(queue_name).pause(queue_name, paused=True)

    def resume_queue(self, queue_name: str) -> None:
        """Hands out a queue again."""
        self.bus_of(queue_name).pause(queue_name, paused=False)

    def depth(self, queue_name: str, *, timeout_s: float | None = None) -> QueueDepth:
        """Counts a queue."""
        return self.bus_of(queue_name).depth(queue_name, timeout_s=timeout_s)

    def probe(self, *, timeout_s: float) -> None:
        """Whether all servers take writes now: raises BusUnavailable, BusFull or BusRefused if one does not. Asks them
        one after the other, each within timeout_s."""
        for bus in self._buses:
            bus.probe(timeout_s=timeout_s)

    def dead_letters(self, queue_name: str, *, limit: int = 100, offset: int = 0) -> list[DeadLetter]:
        """Lists dead letters of a queue, latest first."""
        return self.bus_of(queue_name).dead_letters(queue_name, limit=limit, offset=offset)

    def requeue_dead(self, queue_name: str, message_ids: Sequence[str]) -> list[bool]:
        """Sends dead letters again. Returns for each whether it was there."""
        return self.bus_of(queue_name).requeue_dead(queue_name, message_ids)
