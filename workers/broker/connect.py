"""From an address to a Redis client with time-outs chosen and redis-py's own retries off.

redis-py 8 by itself waits 5 s and then repeats a command up to ten times, also one that is not idempotent. The bus
repeats by its own rule (`line.py`), so here: no retries, and a time-out above a server's usual stalls.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

RedisClient = redis.Redis | redis.RedisCluster


class _Patience(threading.local):
    """How long this thread waits for the first words of a connection; None: as long as for any others."""

    within_s: float | None = None


_patience = _Patience()


@contextmanager
def first_words_within(seconds: float | None) -> Generator[None]:
    """Inside, a connection that this thread opens gives up its handshake after so many seconds: a server that hangs
    still accepts connections, and would hold the caller for the whole socket time-out. Not for Redis Cluster."""
    before, _patience.within_s = _patience.within_s, seconds
    try:
        yield
    finally:
        _patience.within_s = before


def say_first_words(connection: Any) -> None:
    """What redis-py does on a new connection, within the patience of this thread: its `redis_connect_func`."""
    usual_s = connection.socket_timeout
    within_s = _patience.within_s
    if within_s is None or (usual_s is not None and usual_s <= within_s):
        connection.on_connect()
        return
    try:
        connection.socket_timeout = within_s
        connection.update_current_socket_timeout(within_s)
        connection.on_connect()
    finally:
        connection.socket_timeout = usual_s
        connection.update_current_socket_timeout(usual_s)


def connect(
    url: str, *, ca_path: str | None = None, socket_timeout_s: float = 10.0, connect_timeout_s: float = 3.0
) -> RedisClient:
    """Returns a client for `url`; connects at the first call, not here.

    url: `redis://`, `rediss://` (TLS), `unix://`, with user (ACL), password and database as redis-py has them;
        `redis+sentinel://[user:password@]host:port[,host:port...]/service[/database]` (`rediss+sentinel://` for TLS);
        `redis+cluster://` and `rediss+cluster://` for Redis Cluster.
    ca_path: certificate authority for TLS; else the system's.
    socket_timeout_s: longest wait for an answer. A stall of the server below it is only waited out.
    connect_timeout_s: longest wait for a connection.

    Raises ValueError for any other scheme, or a sentinel address without a service name.
    """
    options: dict[str, Any] = {
        "socket_timeout": socket_timeout_s,
        "socket_connect_timeout": connect_timeout_s,
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    scheme = urlsplit(url).scheme
    if ca_path is not None and scheme.startswith("rediss"):
        options["ssl_ca_certs"] = ca_path
    if scheme in {"redis+cluster", "rediss+cluster"}:
        return redis.RedisCluster.from_url(url.replace("+cluster", "", 1), **options)
    options["redis_connect_func"] = say_first_words
    if scheme in {"redis", "rediss", "unix"}:
        if scheme == "unix":
            del options["socket_keepalive"]
        return redis.Redis.from_url(url, **options)
    if scheme in {"redis+sentinel", "rediss+sentinel"}:
        return _behind_sentinel(url, tls=scheme.startswith("rediss"), options=options)
    raise ValueError(
        f"expected a URL of redis, rediss, unix, redis+sentinel, rediss+sentinel, redis+cluster or rediss+cluster, "
        f"got scheme {scheme!r}"
    )


def _behind_sentinel(url: str, *, tls: bool, options: dict[str, Any]) -> redis.Redis:
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    path = [piece for piece in parts.path.split("/") if piece]
    if not path:
        raise ValueError("expected redis+sentinel://host:port/service, got no service name: add the master's name")
    sentinels: list[tuple[str, int]] = []
    for host in hosts.split(","):
        name, _, port = host.rpartition(":") if ":" in host else (host, "", "26379")
        sentinels.append((name, int(port)))
    query = dict(parse_qsl(parts.query))
    kwargs = dict(options)
    if user:
        kwargs["username"] = unquote(user)
    if password:
        kwargs["password"] = unquote(password)
    if len(path) > 1:
        kwargs["db"] = int(path[1])
    if tls:
        kwargs["ssl"] = True
    # Sentinels often have a password of their own and no TLS: they are asked with what the query says.
    sentinel_options = {k.removeprefix("sentinel_"): v for k, v in query.items() if k.startswith("sentinel_")}
    finder = Sentinel(sentinels, sentinel_kwargs={**options, **sentinel_options})
    master: redis.Redis = finder.master_for(path[0], **kwargs)
    return master
