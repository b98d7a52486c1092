"""Which tasks are suspected of taking their workers down, and which are convicted.

A worker that dies takes innocents with it, so a lost attempt alone proves nothing. After SUSPECT_AFTER of them the task
runs alone, in a child process: what dies then dies by itself alone, and only such a death (outcome `crashed`)
convicts. A task whose workers keep dying although it never dies alone is given up after MAX_LOST attempts.
"""

from dataclasses import dataclass
from typing import Final

from models import task_moves
from models.direct import Direct

SUSPECT_AFTER: Final = 2
MAX_LOST: Final = 10
MAX_DEATHS: Final = 3
"""Deaths of its own, the losses that made it a suspect counted."""


@dataclass(frozen=True, slots=True)
class Suspicion:
    """lost: attempts that ended with their worker. crashed: attempts that ended with a process of their own."""

    lost: int
    crashed: int

    @property
    def runs_alone(self) -> bool:
        """Whether the next attempt runs in a process of its own."""
        return self.lost >= SUSPECT_AFTER

    @property
    def is_hopeless(self) -> bool:
        """Whether it is given up without another try."""
        return self.lost >= MAX_LOST or self.crashed >= MAX_DEATHS

    @property
    def is_convicted_by_one_more(self) -> bool:
        """Whether one more death of its own is one too many."""
        return min(self.lost, SUSPECT_AFTER) + self.crashed + 1 >= MAX_DEATHS

    @property
    def is_hopeless_after_another_loss(self) -> bool:
        """Whether it is given up if its worker is lost once more."""
        return self.lost + 1 >= MAX_LOST

    def words(self) -> str:
        """What speaks against it, for the row."""
        return f"{self.lost} workers died with it, and {self.crashed} processes in which it ran alone"


NO_SUSPICION: Final = Suspicion(0, 0)


def suspicion_of(to: Direct, task_id: str) -> Suspicion | None:
    """What speaks against a task; None if nothing does."""
    found = Suspicion(task_moves.lost_attempts(to, task_id), task_moves.crashed_attempts(to, task_id))
    return found if found.lost or found.crashed else None
