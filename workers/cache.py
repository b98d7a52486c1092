"""The cache: values that are commonly read, kept in Redis for a while; `maintenance.warm_cache` puts them there.

    callboard-cache:<key>   string   a value as JSON, at most VALUE_MAX_BYTES; expires after its ttl. Written by `put`.

A cache is a copy: who does not find a value asks the database. Nothing here is lost that is not in a table.

Must not: decide what is worth caching (models.cache_query).
"""

import json
from typing import Any, Final

from workers import callboard
from workers.errors import PermanentError

PREFIX: Final = "callboard-cache:"
VALUE_MAX_BYTES: Final = 1024 * 1024
MAX_TTL_S: Final = 7 * 24 * 3_600


def put(key: str, value: Any, *, ttl_s: int) -> int:
    """Keep a value under a key.

    Args:
        value: what JSON can hold.
        ttl_s: for how many seconds, 1–604,800.

    Returns:
        Its size in bytes.

    Raises:
        PermanentError: it is too large, or the ttl is out of bounds.
        redis.exceptions.RedisError: Redis is away.
    """
    if not 1 <= ttl_s <= MAX_TTL_S:
        raise PermanentError(f"cache entry {key}: expected a ttl_s of 1–{MAX_TTL_S:,} seconds, got {ttl_s}")
    content = json.dumps(value, separators=(",", ":")).encode()
    if len(content) > VALUE_MAX_BYTES:
        raise PermanentError(f"cache entry {key}: its value has {len(content):,} bytes, more than the "
                             f"{VALUE_MAX_BYTES:,} that a cache entry may have")  # fmt: skip
    callboard.broker.client.set(PREFIX + key, content, ex=ttl_s)
    return len(content)


def get(key: str) -> Any:
    """The value of a key, or None if it is not there (any more). Raises redis.exceptions.RedisError."""
    content = callboard.broker.client.get(PREFIX + key)
    return None if content is None else json.loads(content)
