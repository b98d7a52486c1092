"""The one Redis client: where the server is, time-outs, and no retries behind our back.

redis-py 8 retries ten times by itself, also commands that are not idempotent (spec/traps.md 8): here it never does.

With no URL configured, each new connection looks for the local server again: the embedded one's socket if it answers,
else localhost:6379. So a process may be started before the server is, and all processes of the project meet.
"""

import hashlib
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.connection import Connection, ConnectionPool, UnixDomainSocketConnection
from redis.retry import Retry

_SOCKET_PATH_MAX_BYTES = 100
"""Linux allows 107 bytes, macOS 103."""
LOCAL_HOST = "localhost"
LOCAL_PORT = 6379


def socket_path(var_dir: Path) -> Path:
    """Where the embedded server of this `var` folder listens; a short path elsewhere if that one is too long."""
    wanted = var_dir.resolve() / "redis" / "redis.sock"
    if len(os.fsencode(wanted)) <= _SOCKET_PATH_MAX_BYTES:
        return wanted
    digest = hashlib.sha256(os.fsencode(wanted)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"callboard-{os.getuid()}-{digest}" / "redis.sock"


def socket_answers(path: Path) -> bool:
    """Whether a server accepts connections on this socket now."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            probe.connect(str(path))
    except OSError:
        return False
    return True


class LocalPool(ConnectionPool):
    """A pool that finds the local server anew for each connection it makes."""

    def __init__(self, path: Path, **options: Any) -> None:
        super().__init__(**options)
        self._socket_path = path

    def make_connection(self) -> Any:
        """A connection to the embedded server if it answers, else to localhost:6379. Opens nothing yet."""
        options = dict(self.connection_kwargs)
        if socket_answers(self._socket_path):
            return UnixDomainSocketConnection(path=str(self._socket_path), **options)  # type: ignore[abstract]  # redis-py's own stub is at odds with itself
        return Connection(
            host=LOCAL_HOST, port=LOCAL_PORT, socket_connect_timeout=options.get("socket_timeout"), **options
        )


def make_client(url: str | None, *, var_dir: Path, timeout_s: float) -> redis.Redis:
    """A client that opens its connections when it is first used.

    Args:
        url: redis://, rediss:// or unix://; None to find the local server.
        var_dir: where the embedded server's socket is.
        timeout_s: of each command and of connecting.
    """
    options: dict[str, Any] = {"socket_timeout": timeout_s, "retry": Retry(NoBackoff(), 0), "retry_on_error": []}
    if url is None:
        return redis.Redis(connection_pool=LocalPool(socket_path(var_dir), **options))
    if not url.startswith("unix:"):
        options["socket_connect_timeout"] = timeout_s
    return redis.Redis(connection_pool=ConnectionPool.from_url(url, **options))


def describe(client: redis.Redis) -> str:
    """Which server it talks to, for people, without the password."""
    pool = client.connection_pool
    if isinstance(pool, LocalPool):
        found = pool.make_connection()
        return f"unix://{found.path}" if isinstance(found, UnixDomainSocketConnection) else "redis://localhost:6379"
    options = pool.connection_kwargs
    if "path" in options:
        return f"unix://{options['path']}"
    return f"redis://{options.get('host', LOCAL_HOST)}:{options.get('port', LOCAL_PORT)}/{options.get('db', 0) or 0}"
