"""The numbers that scripts need, in one immutable object. Every process on one bus should have the same ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# 57 years of microseconds: ten bands of it fill the 54 bits (with sign) of a double. No wait makes up for a priority.
STRICT_STEP_US: Final = 1_800_000_000_000_000
# Where scores count from, as in `prelude.lua`: 2025-01-01.
_EPOCH_US: Final = 1_735_689_600_000_000


@dataclass(frozen=True, slots=True)
class Policy:
    """How the bus treats messages.

    lease_s: how long a message belongs to a worker without renewal. Renewed every third of it.
    ageing_s_per_priority: None: strict order. Else a message of priority p goes before one of p + 1 that came this
        many seconds later.
    max_losses: so many workers may vanish with a message before it is dead; 0: no limit (the ledger decides).
    dead_letters_kept, dead_letter_age_s: bounds of the dead letters of each queue.
    tombstone_s: how long a cancelled message that was absent is refused.
    answer_ttl_s: how long the answer to a sender's call is remembered, for the case that it was lost.
    put_off_s: how long a message waits that this worker cannot read, because newer code sent it.
    clock_offset_us: added to the server's clock; for tests.
    """

    lease_s: float = 25.0
    ageing_s_per_priority: float | None = None
    max_losses: int = 0
    dead_letters_kept: int = 10_000
    dead_letter_age_s: float = 7 * 86_400.0
    tombstone_s: float = 3_600.0
    answer_ttl_s: float = 120.0
    put_off_s: float = 5.0
    clock_offset_us: int = 0

    def __post_init__(self) -> None:
        if self.lease_s <= 0:
            raise ValueError(f"expected lease_s to be above 0, got {self.lease_s!r}")
        if self.ageing_s_per_priority is not None and self.ageing_s_per_priority <= 0:
            raise ValueError(
                f"expected ageing_s_per_priority to be above 0, or None for strict order, "
                f"got {self.ageing_s_per_priority!r}"
            )

    @property
    def step_us(self) -> int:
        """How many microseconds of waiting one step of priority is worth."""
        if self.ageing_s_per_priority is None:
            return STRICT_STEP_US
        return min(int(self.ageing_s_per_priority * 1e6), STRICT_STEP_US)

    def arrived_us(self, score: str, priority: int) -> int:
        """Returns when a message became available (Unix microseconds), from its place (`score_of`, undone)."""
        return int(float(score)) + _EPOCH_US - (5 - priority) * self.step_us

    @property
    def lease_us(self) -> int:
        """The lease in the scripts' unit."""
        return int(self.lease_s * 1e6)

    @property
    def grace_us(self) -> int:
        """How long after a server's restart nobody's lease ends: two renewals, so that the living can renew."""
        return int(self.lease_s * 2e6 / 3)
