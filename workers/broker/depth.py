"""How much is on the bus: the numbers behind dashboards and alerts. Plain data."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class PriorityDepth:
    """Waiting messages of one priority, and how long the oldest has waited, in seconds."""

    priority: int
    waiting: int
    oldest_age_s: float


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """One queue: messages by state, whether it is paused, seconds until the next delayed one is due (None: there is
    none), and the waiting ones by priority, highest first. With ageing the latter counts the first 1,000 only."""

    queue_name: str
    waiting: int
    delayed: int
    leased: int
    dead: int
    paused: bool
    next_due_s: float | None
    priorities: list[PriorityDepth] = field(default_factory=list[PriorityDepth])

    @property
    def live(self) -> int:
        """Messages that are still to be done."""
        return self.waiting + self.delayed + self.leased

    @property
    def oldest_age_s(self) -> float:
        """How long the oldest waiting message has waited, in seconds; 0 if none waits."""
        return max((p.oldest_age_s for p in self.priorities), default=0.0)
