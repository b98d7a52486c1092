"""When to try again, and after how long. Decides about errors; makes no calls and does not sleep."""

from __future__ import annotations

import random
import re

import redis
from redis.exceptions import OutOfMemoryError

# Conditions of a server that pass by themselves. Scripts of Redis 6.2 bury the code in the middle of the text.
_PASSING = re.compile(
    r"(?:^|[\s-])(LOADING|READONLY|MASTERDOWN|NOREPLICAS|CLUSTERDOWN|TRYAGAIN|MOVED|ASK|BUSY|MISCONF|UNBLOCKED)\b"
)
_FULL = re.compile(r"(?:^|[\s-])OOM\b")


def is_full(error: BaseException) -> bool:
    """Whether the server refused because it is at its memory limit."""
    return isinstance(error, OutOfMemoryError) or (
        isinstance(error, redis.ResponseError) and _FULL.search(str(error)) is not None
    )


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed later without anybody mending anything: a lost or slow connection, a server
    that loads, a replica after a failover, a cluster that moves slots."""
    if isinstance(error, redis.AuthenticationError):
        return False
    if isinstance(error, redis.ConnectionError | redis.TimeoutError | redis.ReadOnlyError | OSError):
        return True
    return isinstance(error, redis.RedisError) and _PASSING.search(str(error)) is not None


class Backoff:
    """Growing, capped, jittered pauses: the first at once, then between half and all of 50 ms, 100 ms, ... `cap_s`.

    cap_s: longest pause in seconds.
    """

    def __init__(self, *, cap_s: float = 2.0) -> None:
        self._cap_s = cap_s
        self._failures = 0

    def next_s(self) -> float:
        """Returns the seconds to wait before the next try, and counts this failure."""
        self._failures += 1
        if self._failures == 1:
            return 0.0
        ceiling_s: float = min(self._cap_s, 0.05 * 2 ** min(self._failures - 2, 10))
        return ceiling_s * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Forgets past failures: a call has succeeded."""
        self._failures = 0
