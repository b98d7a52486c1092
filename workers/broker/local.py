"""The local Redis: where the embedded server of a `var` folder listens, and a client that finds whichever is there.

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

from workers.broker.connect import RedisClient, connect, say_first_words

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

    def _host_error(self) -> str:
        """What redis-py's errors name."""
        return f"{self._local_socket} or {LOCAL_HOST}:{LOCAL_PORT}"


def make_client(url: str | None, *, var_dir: Path, timeout_s: float, ca_file: Path | None = None) -> RedisClient:
    """A client that opens its connections when it is first used.

    Args:
        url: as `connect` takes it; None to find the local server.
        var_dir: where the embedded server's socket is.
        timeout_s: of each command and of connecting.
        ca_file: authorities to trust for TLS; None for the system's.
    """
    if url is not None:
        ca_path = None if ca_file is None else str(ca_file)
        return connect(url, ca_path=ca_path, socket_timeout_s=timeout_s, connect_timeout_s=min(timeout_s, 3.0))
    pool = ConnectionPool(
        connection_class=LocalConnection,
        local_socket=socket_path(var_dir),
        socket_timeout=timeout_s,
        socket_connect_timeout=min(timeout_s, 3.0),
        retry=Retry(NoBackoff(), 0),
        redis_connect_func=say_first_words,
        protocol=2,
    )
    return redis.Redis(connection_pool=pool)


def describe(client: RedisClient) -> str:
    """Which server it talks to, for people, without the password."""
    if isinstance(client, redis.RedisCluster):
        return "a Redis Cluster"
    options = client.connection_pool.connection_kwargs
    local = options.get("local_socket")
    if local is not None:
        return f"unix://{local}" if socket_answers(local) else f"redis://{LOCAL_HOST}:{LOCAL_PORT}/0"
    if "path" in options:
        return f"unix://{options['path']}"
    if "host" not in options:
        return "a master that Redis Sentinel names"
    return f"redis://{options['host']}:{options.get('port', LOCAL_PORT)}/{options.get('db') or 0}"
