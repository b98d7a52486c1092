"""How many messages a worker process may hold beyond its free threads, and what follows from how long tasks run.

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
_UNKNOWN_S: Final = 1.0
_WORTH_A_THREAD_S: Final = 0.001
"""As much work is done by one thread sooner than a second one is awake and has the interpreter."""
_EARLIER_S: Final = 5e-6
"""For each so much that tasks take, the next fetch goes out one message earlier: quick tasks are done before an answer
comes whenever it was asked for, and are better off with larger fetches."""


class LookAhead:
    """The measure of one worker process. `record` may be called from any thread."""

    def __init__(self, threads: int, *, horizon_s: float = 0.005, factor: int = 4) -> None:
        self._threads = threads
        self._horizon_s = horizon_s
        self.limit = factor * threads
        self._runs_s: deque[float] = deque(maxlen=_SAMPLES)
        self._mean_s = _UNKNOWN_S

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
        self._mean_s = mean_s = max(sum(runs_s) / len(runs_s), _SHORTEST_S)
        return min(self.limit, int(quick * self._horizon_s / mean_s))

    def low_water(self, size: int) -> int:
        """Returns how few of `size` messages are to be left when the next are asked for: at most half."""
        return min(size // 2, int(self._mean_s / _EARLIER_S))

    def threads_for(self, count: int) -> int:
        """Returns how many threads so many messages are worth waking at once."""
        return min(count, 1 + int(count * self._mean_s / _WORTH_A_THREAD_S))
