"""Named locks on the bus: who has one, under which fencing token, and what is counted of them.

    free ──take──→ held ──free──→ free
                    │ └──ttl without a renewal──→ free        (its holder died, froze, or cannot reach the server)
                    └──take by a later delivery of the same task──→ held   (the bus has ended the earlier one)

A crash at any line leaves a lock that falls free after its ttl, or at once with the next delivery of its task. Every
call may be repeated. Locks of all queues are on the first tag, also where queues are sharded.

Tokens of a name only grow: a store that remembers the highest it has seen can refuse a holder that is late. After a
loss of the server's data they go on above the earlier ones as long as its clock was not set back. After such a loss
under living workers no lock is given for half a ttl (10 s at most), in which holders renew theirs.

Must not: know a task's row, or what is done about a lock that is held.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from .bus import Bus
    from .parcel import Delivery

NAME: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,100}")
RENEW_WITHIN_S: Final = 5.0
"""A holder renews after a third of its ttl, and after so long at most: `lock_take.lua` relies on it."""
MIN_TTL_S: Final = 0.1
MAX_TTL_S: Final = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class HeldLock:
    """A lock that was taken. token: grows with each holder. value: as the server has it. ttl_s: until it falls free
    unless renewed. waited_s: since the task first found it held."""

    name: str
    token: int
    value: str
    ttl_s: float
    waited_s: float = 0.0


@dataclass(frozen=True, slots=True)
class HeldBy:
    """A lock was not taken: which task has it, and for how many seconds the asking one has been waiting."""

    task_id: str
    waited_s: float


@dataclass(frozen=True, slots=True)
class Holding:
    """A lock that is held: by which task, under which token, and in how many seconds it falls free unless renewed."""

    name: str
    task_id: str
    token: int
    expires_in_s: float


@dataclass(frozen=True, slots=True)
class LockMetrics:
    """Of one lock since the server's data began: times acquired, tasks that found it held, times it was lost, and the
    sum of the seconds that those who acquired it had waited."""

    acquired: int = 0
    held: int = 0
    lost: int = 0
    waited_s: float = 0.0


class Locks:
    """The locks of one bus. Its calls raise BusUnavailable, BusFull and BusRefused."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def take(
        self, name: str, task_id: str, delivery: Delivery, *, ttl_s: float, waits: bool
    ) -> HeldLock | HeldBy | None:
        """Takes a lock for a delivery of a task; None: ask again in a moment, the server has just lost its data.

        waits: whether it asks again if it is held.
        """
        run = f"{delivery.owner}:{delivery.fence}:{delivery.claim}"
        taken, said, waited_us = cast(
            "tuple[int, bytes, int]",
            self._bus.ask("lock_take", name, delivery.fence, run, task_id, _ms(ttl_s), int(waits)),
        )
        if taken == 2:
            return None
        if not taken:
            return HeldBy(said.decode(errors="replace"), waited_us / 1e6)
        return HeldLock(name, int(said), f"{int(said)} {delivery.fence} {run} {task_id}", ttl_s, waited_us / 1e6)

    def renew(self, locks: Sequence[HeldLock], *, timeout_s: float | None = None) -> list[bool]:
        """Prolongs locks; returns which of them are still held."""
        arguments = [one for lock in locks for one in (lock.name, lock.value, lock.token, _ms(lock.ttl_s))]
        answers = cast("list[int]", self._bus.ask("lock_renew", *arguments, timeout_s=timeout_s))
        return [answer == 1 for answer in answers]

    def free(self, lock: HeldLock) -> bool:
        """Frees a lock; False if it was not held any more."""
        return self._bus.ask("lock_free", lock.name, lock.value) == 1

    def held(self, *, timeout_s: float | None = None) -> list[Holding]:
        """The locks that are held at present, by name."""
        flat = cast("list[Any]", self._bus.ask("lock_list", timeout_s=timeout_s))
        found = []
        for name, value, ms in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
            token, _, _, task_id = value.decode(errors="replace").split(" ", 3)
            found.append(Holding(name.decode(), task_id, int(token), ms / 1000))
        return sorted(found, key=lambda one: one.name)

    def metrics(self) -> dict[str, LockMetrics]:
        """What was counted, by name."""
        flat = cast("list[bytes]", self._bus.ask("lock_metrics"))
        counted: dict[str, dict[str, float]] = {}
        for key, number in zip(flat[::2], flat[1::2], strict=True):
            name, _, counter = key.decode().rpartition(" ")
            counted.setdefault(name, {})[counter] = int(number)
        return {
            name: LockMetrics(
                acquired=int(of.get("acquired", 0)),
                held=int(of.get("held", 0)),
                lost=int(of.get("lost", 0)),
                waited_s=of.get("waited_us", 0) / 1e6,
            )
            for name, of in counted.items()
        }


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
