"""`callboard up`: everything on this machine, embedded where nothing is configured, restarted when it dies.

In order: Redis (found or embedded), tables, sample data, mail catcher (only without CALLBOARD_SMTP_URL), workers, the
scheduler, the API. Ctrl-C or SIGTERM stops all of it in reverse order: running tasks get as long as they do under
`callboard worker`, with database, Redis and mail catcher still there. A second Ctrl-C does not wait for them.
"""

import fcntl
import http.client
import json
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from models import database, schema
from workers import sample, start_checks
from workers.broker.local import make_client
from workers.errors import CallboardError
from workers.process import embedded_redis, worker
from workers.process.supervisor import Child, ChildFailed, Supervisor
from workers.settings import Settings, hide_secrets

REDIS_GRACE_S = 2.0
WAIT_FOR_ANOTHER_S = 10
"""How long a second `up` waits for one that may be stopping."""


def up(settings: Settings, say: Callable[[str, str], None]) -> None:
    """Bring the system up and keep it up until it is told to stop.

    Args:
        say: (process name, line) → shown.

    Raises:
        CallboardError: something needed cannot be started; what was started is stopped.
    """
    with _alone(settings):
        _up(settings, say)


def _up(settings: Settings, say: Callable[[str, str], None]) -> None:
    _check_port(settings.api_host, settings.api_port, "CALLBOARD_API_PORT")
    found = embedded_redis.find_running(settings)
    redis_url = found or embedded_redis.url(settings)
    smtp_url, catcher_port = _smtp(settings)
    supervisor = Supervisor(
        environment={
            "CALLBOARD_REDIS_URL": redis_url,
            "CALLBOARD_DATABASE_URL": "" if settings.is_embedded_database else settings.database,
            "CALLBOARD_VAR_DIR": str(settings.var_dir.resolve()),
            "CALLBOARD_SMTP_URL": smtp_url,
            "CALLBOARD_LOG_FORMAT": settings.log_format,
        },
        say=say,
    )
    signal.signal(signal.SIGINT, lambda *_: supervisor.interrupt())
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: supervisor.request_stop())
    try:
        if found is None:
            say("up", f"Redis: starting the embedded server at {redis_url}")
            supervisor.start(_redis_child(settings, redis_url))
        else:
            say("up", f"Redis: using the server at {hide_secrets(found)}")
        _prepare_database(settings, say)
        _check_start(settings, redis_url, say)
        if catcher_port is not None:
            say("up", f"mail: no CALLBOARD_SMTP_URL is set, so mails are caught and kept in {settings.var_dir}/mail/")
            supervisor.start(_catcher_child(settings, catcher_port))
        for child in _system(settings):
            supervisor.start(child)
        say("up", f"API: http://{settings.api_host}:{settings.api_port} (docs at /docs)")
        say("up", "ready; Ctrl-C stops everything")
        supervisor.watch()
    except ChildFailed as error:
        raise CallboardError(f"{error}; its lines above say why") from error
    finally:
        say("up", f"stopping: running tasks may take {settings.shutdown_timeout_s} s; Ctrl-C again kills them …")
        supervisor.stop()
        say("up", "stopped")


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Hold the `var` folder: a second `up` would lean on a Redis that ends with the first. Waits for one that stops."""
    try:
        settings.var_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (settings.var_dir / "up.lock").open("a")
    except OSError as error:
        raise CallboardError(f"{settings.var_dir} is not writable ({error.strerror}): mend its permissions, or set "
                             "CALLBOARD_VAR_DIR") from error  # fmt: skip
    with lock:
        deadline_s = time.monotonic() + WAIT_FOR_ANOTHER_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline_s:
                    raise CallboardError(f"another `callboard up` runs on {settings.var_dir}, or is still stopping: "
                                         "stop it, or set CALLBOARD_VAR_DIR for a second system") from None  # fmt: skip
                time.sleep(0.2)
        yield


def _system(settings: Settings) -> list[Child]:
    children = worker.children(
        settings,
        processes=settings.processes,
        threads=settings.threads,
        queues=(),
        drain_s=settings.shutdown_timeout_s,
    )
    children.append(Child("scheduler", [str(Path(sys.executable).parent / "periodiq"), "periodic"]))
    children.append(Child("web", [sys.executable, "-m", "workers.web"], ready=lambda: _api_answers(settings)))
    return children


def _redis_child(settings: Settings, redis_url: str) -> Child:
    def answers() -> bool:
        client = make_client(redis_url, var_dir=settings.var_dir, timeout_s=1.0)
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()

    return Child("redis", embedded_redis.command(settings), grace_s=REDIS_GRACE_S, ready=answers)


def _catcher_child(settings: Settings, port: int) -> Child:
    mail_dir = settings.var_dir / "mail"
    command = [sys.executable, "-m", "workers.process.mail_catcher", str(port), str(mail_dir)]
    return Child("mail", command, grace_s=2.0, ready=lambda: _listens("127.0.0.1", port))


def _smtp(settings: Settings) -> tuple[str, int | None]:
    """The SMTP URL that the workers get, and the catcher's port if one is to be started."""
    if settings.smtp_url is not None:
        return settings.smtp_url.get_secret_value(), None
    port = settings.mail_catcher_port
    if _listens("127.0.0.1", port):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
    return f"smtp://127.0.0.1:{port}", port


def _prepare_database(settings: Settings, say: Callable[[str, str], None]) -> None:
    try:
        before, after = schema.current() if _exists() else None, schema.upgrade()
    except database.DatabaseError as error:
        raise CallboardError(str(error)) from error
    say("up", f"database: {database.describe()}, " + ("up to date" if before == after else f"migrated to {after}"))
    if settings.is_embedded_database:
        loaded = sample.load(settings)
        if loaded:
            reports = loaded["information_reports"]
            say(
                "up",
                f"sample data: {sum(loaded.values())} records, among them {reports} information reports, "
                f"FIR-2026-000101 to -00010{reports}",
            )


def _check_start(settings: Settings, redis_url: str, say: Callable[[str, str], None]) -> None:
    client = make_client(redis_url, var_dir=settings.var_dir, timeout_s=settings.bus_timeout_s,
                         ca_file=settings.redis_ca_file)  # fmt: skip
    try:
        for finding in start_checks.enforce(start_checks.run(settings, client), settings):
            say("up", f"warning: {finding}")
    finally:
        client.close()


def _exists() -> bool:
    path = database.sqlite_path()
    return path is None or path.exists()


def _check_port(host: str, port: int, variable: str) -> None:
    if _listens(host, port):
        raise CallboardError(f"port {port} on {host} is in use: stop what uses it (another `callboard up`?), or set "
                             f"{variable} to a free one")  # fmt: skip


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False


def _api_answers(settings: Settings) -> bool:
    connection = http.client.HTTPConnection(settings.api_host, settings.api_port, timeout=2.0)
    try:
        connection.request("GET", "/health/live")
        return bool(json.loads(connection.getresponse().read()).get("status") == "live")
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()
