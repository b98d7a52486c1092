"""How many requests a token may make: a bucket for each, filled steadily, that holds two seconds' worth.

Each API process counts by itself; in memory, one small object a token. Not counted: who calls from this machine while
there are no tokens, because it is their own.

Must not: know the web; `take` takes the time as an argument.
"""

import threading
from dataclasses import dataclass

BURST_S = 2.0


@dataclass
class _Bucket:
    left: float
    filled_at_s: float


class RateLimit:
    """Args: per_s: requests a second."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._buckets: dict[str, _Bucket] = {}
        self._taking = threading.Lock()

    def take(self, name: str, now_s: float) -> float:
        """Count a request of that token; returns 0, or in how many seconds the next one is allowed."""
        full = max(1.0, self._per_s * BURST_S)
        with self._taking:
            bucket = self._buckets.setdefault(name, _Bucket(full, now_s))
            elapsed_s = max(0.0, now_s - bucket.filled_at_s)
            bucket.left = min(full, bucket.left + elapsed_s * self._per_s)
            bucket.filled_at_s = now_s
            if bucket.left >= 1:
                bucket.left -= 1
                return 0.0
            return (1 - bucket.left) / self._per_s
