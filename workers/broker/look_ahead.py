"""How many messages a worker process may hold beyond its free threads.

As many as its threads will start within `horizon_s`, by the mean run time of the last tasks; at most `factor` times the
threads; none while nothing was measured. A thread that has been at its present task for longer than the horizon
does not count: nobody knows when it will be free. (Mean, not median or maximum: threads that share the interpreter
lock show some long times that are waits for it, and by Little's law only the mean of all tells the throughput.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

_SAMPLES: Final = 64
_SHORTEST_S: Final = 1e-6


class LookAhead:
    """The measure of one worker process. `record` may be called from any thread."""

    def __init__(self, threads: int, *, horizon_s: float = 0.005, factor: int = 4) -> None:
        self._threads = threads
        self._horizon_s = horizon_s
        self.limit = factor * threads
        self._runs_s: deque[float] = deque(maxlen=_SAMPLES)

    def record(self, run_s: float) -> None:
        """Takes note that a task ran for that long."""
        self._runs_s.append(run_s)

    def size(self, now_s: float, started_s: Iterable[float]) -> int:
        """Returns how many messages to hold now. started_s: when each running task started."""
        try:
            runs_s = tuple(self._runs_s)
        except RuntimeError:  # appended to meanwhile: rare, and the next call sees it
            return 0
        if not runs_s:
            return 0
        long_s = now_s - self._horizon_s
        quick = self._threads - sum(1 for at_s in started_s if at_s < long_s)
        mean_s = max(sum(runs_s) / len(runs_s), _SHORTEST_S)
        return min(self.limit, int(quick * self._horizon_s / mean_s))
