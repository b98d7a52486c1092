"""The tags of one namespace, each with its keys and its bus, and which queue is on which.

One tag by default, so that one fetch can be strict across all queues. With shards (for Redis Cluster) each is a tag of
its own. Knows buses and queues; must know nothing of workers or of Dramatiq.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from .bus import Bus
from .connect import RedisClient
from .generation import Generation, GenerationWatch
from .keys import Keys
from .lock import Locks
from .policy import Policy


class Tags:
    """What a broker has on its server or servers."""

    client: RedisClient
    policy: Policy
    _watch: GenerationWatch
    _buses: list[Bus]
    _bus_by_queue: dict[str, Bus]

    def _open_tags(
        self,
        client: RedisClient,
        namespace: str,
        policy: Policy,
        *,
        shards: Mapping[str, Iterable[str]] | None,
        send_timeout_s: float,
    ) -> None:
        """Makes a bus for the namespace itself, and one for each shard. Raises ValueError for a queue on two."""
        self.client, self.policy = client, policy
        self._watch = GenerationWatch()
        self._buses, self._bus_by_queue = [], {}

        def open_tag(name: str) -> Bus:
            bus = Bus(client, Keys(name), policy, self._watch, send_timeout_s=send_timeout_s)
            self._buses.append(bus)
            return bus

        open_tag(namespace)
        for shard, queue_names in (shards or {}).items():
            bus = open_tag(f"{namespace}-{shard}")
            for queue_name in queue_names:
                if queue_name in self._bus_by_queue:
                    raise ValueError(f"expected each queue on one shard, got {queue_name!r} on two")
                self._bus_by_queue[queue_name] = bus

    def bus_of(self, queue_name: str) -> Bus:
        """Returns the tag that a queue is on."""
        return self._bus_by_queue.get(queue_name, self._buses[0])

    @property
    def locks(self) -> Locks:
        """The named locks."""
        return Locks(self._buses[0])

    def close(self) -> None:
        """Ends idle connections."""
        for bus in self._buses:
            bus.close()

    @property
    def generation(self) -> Generation:
        """The life of the server's data that was seen last; number 0 before the first contact of a worker."""
        return self._watch.latest

    def on_generation(self, listener: Callable[[Generation, Generation], None]) -> None:
        """Calls `listener(before, now)` when the server was restarted, failed over or emptied. It must be quick."""
        self._watch.subscribe(listener)
