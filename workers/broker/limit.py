"""What an actor may do at a time and in a time: the limit that a worker sends along with each fetch.

A message of a limited actor waits in a lane of its queue (`queue|actor`), and `fetch.lua` hands out no more of a lane
than it has permits. A permit is a lease: it ends with it, however that ends (settled, given back, expired), so nothing
leaks, nothing waits in a worker, and nothing waits behind a lane that has no permit.

concurrency   counts leased messages of the lane, in all workers. One that is fetched and unstarted holds a permit too,
              until a thread takes it: within 50 ms, else it goes back and its permit with it. After the server was
              emptied under living workers, lanes with a concurrency rest for the grace (two renewals), in which workers
              register what they are running. A worker that was away for a whole lease may still be running what others
              have got by then: that run is not counted until it renews.
rate          counts hand-outs in a sliding window that ends now; those given back unstarted do not count. A function
              starts at most 50 ms after its message is handed out. The record of the window dies with the data.

Messages of an actor that a worker's code does not have wait in such a lane as well, limit or none: that worker gives
them back into it unstarted, and says with each later fetch that it takes nothing there. It dies before it gives them
back: their lease ends, and the next to fetch them does so. It starts anew: it has forgotten, and meets one message once
more. Nobody has the actor: they wait in their place.

The order among all that may run stays strict. A lane is of one queue: an actor whose messages are sent to two queues
has its limit in each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LANE_MARK: Final = "|"
"""Between queue and actor in the name of a lane; no queue name may have it."""
_UNKNOWN_HERE: Final = "-"
MOST_CONCURRENCY: Final = 100_000
MOST_RATE: Final = 10_000
LONGEST_WINDOW_S: Final = 31 * 86_400.0


@dataclass(frozen=True, slots=True)
class Limit:
    """concurrency: most messages at a time, 1-100,000. rate: most starts, 1-10,000, in any `per_s` seconds (above 0, at
    most 31 days). None: no such limit. Raises ValueError for anything else, or if it limits nothing."""

    concurrency: int | None = None
    rate: int | None = None
    per_s: float | None = None

    def __post_init__(self) -> None:
        if self.concurrency is None and self.rate is None:
            raise ValueError("expected a limit to have a concurrency or a rate, got neither")
        if self.concurrency is not None and not 1 <= self.concurrency <= MOST_CONCURRENCY:
            raise ValueError(f"expected concurrency to be 1 to {MOST_CONCURRENCY}, got {self.concurrency!r}")
        if (self.rate is None) != (self.per_s is None):
            raise ValueError(f"expected rate and per_s together, got rate={self.rate!r}, per_s={self.per_s!r}")
        if self.rate is not None and not 1 <= self.rate <= MOST_RATE:
            raise ValueError(f"expected rate to be 1 to {MOST_RATE}, got {self.rate!r}: for more, take a shorter per_s")
        if self.per_s is not None and not 0 < self.per_s <= LONGEST_WINDOW_S:
            raise ValueError(f"expected per_s to be above 0 and at most {LONGEST_WINDOW_S:.0f}, got {self.per_s!r}")

    def wire(self, actor_name: str) -> str:
        """Returns it as `fetch.lua` reads it."""
        per_us = 0 if self.per_s is None else max(int(self.per_s * 1e6), 1)
        return f"{actor_name}\n{self.concurrency or 0} {self.rate or 0} {per_us}"


def none_here(actor_name: str) -> str:
    """Returns, as `fetch.lua` reads it, that this worker takes nothing of that actor's lane: it does not know it."""
    return f"{actor_name}\n{_UNKNOWN_HERE}"
