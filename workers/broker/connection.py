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
from typing import Any, cast

import redis
from redis.backoff import NoBackoff
from redis.connection import Connection, ConnectionPool
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


class LocalConnection(Connection):
    """A connection to the local server, found anew each time it connects."""

    def __init__(self, *, local_socket: Path, **options: Any) -> None:
        super().__init__(host=LOCAL_HOST, port=LOCAL_PORT, **options)
        self._local_socket = local_socket

    def _connect(self) -> socket.socket:
        found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            found.settimeout(self.socket_connect_timeout)
            found.connect(str(self._local_socket))
            found.settimeout(self.socket_timeout)
        except OSError:
            found.close()
            return cast("socket.socket", super()._connect())
        return found


def make_client(url: str | None, *, var_dir: Path, timeout_s: float) -> redis.Redis:
    """A client that opens its connections when it is first used.

    Args:
        url: redis://, rediss:// or unix://; None to find the local server.
        var_dir: where the embedded server's socket is.
        timeout_s: of each command and of connecting.
    """
    options: dict[str, Any] = {"socket_timeout": timeout_s, "retry": Retry(NoBackoff(), 0), "retry_on_error": []}
    if not (url or "").startswith("unix:"):
        options["socket_connect_timeout"] = timeout_s
    if url is None:
        local: dict[str, Any] = {"connection_class": LocalConnection, "local_socket": socket_path(var_dir)}
        return redis.Redis(connection_pool=ConnectionPool(**local, **options))
    return redis.Redis(connection_pool=ConnectionPool.from_url(url, **options))


def describe(client: redis.Redis) -> str:
    """Which server it talks to, for people, without the password."""
    options = client.connection_pool.connection_kwargs
    local = options.get("local_socket")
    if local is not None:
        return f"unix://{local}" if socket_answers(local) else f"redis://{LOCAL_HOST}:{LOCAL_PORT}/0"
    if "path" in options:
        return f"unix://{options['path']}"
    return f"redis://{options.get('host', LOCAL_HOST)}:{options.get('port', LOCAL_PORT)}/{options.get('db') or 0}"
