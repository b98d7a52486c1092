"""/health/ready names what is wrong in each fault, within a bounded time, also where a server hangs. Real servers."""

import signal
import sqlite3
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis

from models import database
from models.task import WorkerProcess
from tests.servers import OwnPostgres, OwnRedis, wait_until
from tests.workers import well
from tests.workers.web.test_problems import problem_of
from tests.workers.web.tokens import with_tokens
from workers import callboard, readiness
from workers.registry import ImportFailure

__all__ = ["with_tokens"]

READY = "/health/ready"
BOUND_S = 10 * readiness.PATIENCE_S
"""Ten times what it may take: this machine may be busy. Servers that hang answer after their own time-outs at best."""


@pytest.fixture
def ready(bus: object, ledger_database: str) -> None:
    """All is well."""
    well.alive()
    well.scheduling()


def wrong(api: httpx2.Client) -> dict[str, str]:
    """What is not ready: name → detail."""
    began_s = time.monotonic()
    answer = api.get(READY)
    assert time.monotonic() - began_s < BOUND_S
    found = problem_of(answer, 503)
    checks: Any = found["checks"]
    named = {check["name"]: check["detail"] for check in checks if check["ok"] is False}
    for detail in named.values():
        assert detail in str(found["detail"])
    return named


def becomes_ready(api: httpx2.Client) -> None:
    wait_until(lambda: api.get(READY).status_code == 200, within_s=30, what="the system to be ready again")


@pytest.mark.usefixtures("ready")
def test_where_all_is_well_it_is_ready_and_says_of_what(api: httpx2.Client) -> None:
    answer = api.get(READY)

    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["status"] == "ready"
    assert [check["name"] for check in body["checks"]] == ["redis", "database", "workers", "scheduler", "actors"]
    assert all(check["ok"] for check in body["checks"])


@pytest.mark.usefixtures("ready")
def test_redis_down(api: httpx2.Client, own_redis: OwnRedis) -> None:
    own_redis.kill()

    (name, detail), *_ = wrong(api).items()

    assert name == "redis"
    assert "check that it is running and reachable, or set CALLBOARD_REDIS_URL" in detail
    own_redis.start()
    becomes_ready(api)


@pytest.mark.usefixtures("ready")
def test_redis_hanging(api: httpx2.Client, own_redis: OwnRedis) -> None:
    with own_redis.hanging():
        found = wrong(api)
        again = wrong(api)

    assert set(found) == set(again) == {"redis"}
    becomes_ready(api)


@pytest.mark.usefixtures("ready")
def test_redis_without_the_data_that_it_had(api: httpx2.Client, bus: "redis.Redis") -> None:
    def said() -> str:
        detail: str = api.get(READY).json()["checks"][0]["detail"]
        return detail

    long_ago_us = round((time.time() - 61) * 1e6)
    bus.hset(callboard.broker.bus_of("jobs").keys.prefix + "generation", "since_us", long_ago_us)
    assert said().endswith("takes writes")

    bus.flushall()

    assert said().endswith("its data is younger than 60 s: what waited is sent again from the ledger")
    assert api.get(READY).status_code == 200


@pytest.mark.usefixtures("ready")
def test_redis_full(api: httpx2.Client, bus: "redis.Redis") -> None:
    bus.config_set("maxmemory", "1")
    try:
        found = wrong(api)
    finally:
        bus.config_set("maxmemory", "0")

    assert set(found) == {"redis"}
    assert "is full" in found["redis"]
    assert "raise maxmemory" in found["redis"]


@pytest.mark.usefixtures("ready")
def test_redis_read_only(api: httpx2.Client, bus: "redis.Redis") -> None:
    bus.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        found = wrong(api)
    finally:
        bus.execute_command("REPLICAOF", "NO", "ONE")

    assert set(found) == {"redis"}
    assert "it is a replica: name the primary in CALLBOARD_REDIS_URL" in found["redis"]


def test_the_database_down(api: httpx2.Client, bus: object, own_postgres: OwnPostgres) -> None:
    well.alive()
    well.scheduling()
    own_postgres.kill()

    found = wrong(api)

    assert set(found) == {"database"}
    assert "check that it is running, reachable and writable" in found["database"]
    unknown = [check["name"] for check in api.get(READY).json()["checks"] if check["ok"] is None]
    assert unknown == ["workers", "scheduler"]
    own_postgres.start()
    becomes_ready(api)


def test_the_database_hanging_holds_one_thread_however_many_ask(
    api: httpx2.Client, bus: object, own_postgres: OwnPostgres
) -> None:
    well.alive()
    well.scheduling()
    becomes_ready(api)
    own_postgres.signal(signal.SIGSTOP)
    try:
        answers = [wrong(api) for _ in range(3)]
        threads = _checking()
    finally:
        own_postgres.signal(signal.SIGCONT)

    assert {frozenset(found) for found in answers} == {frozenset({"database"})}
    assert "hangs or is away" in answers[0]["database"]
    assert threads <= 1
    becomes_ready(api)


def _checking() -> int:
    import threading

    return sum(thread.name == "callboard-readiness" for thread in threading.enumerate())


def test_the_database_read_only(api: httpx2.Client, bus: object, postgres_database: str) -> None:
    well.alive()
    well.scheduling()
    with database.writing() as session:
        name = session.connection().exec_driver_sql("SELECT current_database()").scalar_one()
        session.connection().exec_driver_sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    database.bind(postgres_database)

    found = wrong(api)

    assert set(found) == {"database"}
    assert "is read-only, as a standby is" in found["database"]


def test_the_write_lock_held_by_a_stranger(api: httpx2.Client, bus: object, sqlite_database: str) -> None:
    well.alive()
    well.scheduling()
    stranger = sqlite3.connect(sqlite_database.removeprefix("sqlite:///"), isolation_level=None)
    stranger.execute("BEGIN IMMEDIATE")
    try:
        found = wrong(api)
    finally:
        stranger.execute("ROLLBACK")
        stranger.close()

    assert set(found) == {"database"}
    assert "another process holds its write lock" in found["database"]
    becomes_ready(api)


@pytest.fixture
def elsewhere() -> Iterator[None]:
    """The usual database is bound again at the end."""
    yield
    database.bind(callboard.settings.database)


@pytest.mark.usefixtures("elsewhere", "bus")
def test_a_database_that_is_not_migrated_or_not_there(api: httpx2.Client, tmp_path: Path) -> None:
    database.bind(f"sqlite:///{tmp_path / 'empty.db'}")
    assert "run `callboard migrate`" in wrong(api)["database"]

    (tmp_path / "file").touch()
    database.bind(f"sqlite:///{tmp_path / 'file' / 'callboard.db'}")

    assert wrong(api).keys() == {"database"}


def test_no_live_worker(api: httpx2.Client, bus: object, ledger_database: str) -> None:
    well.scheduling()
    assert wrong(api) == {"workers": "no worker is alive: start one with `callboard worker`"}

    well.alive(heard_of=timedelta(minutes=1))

    assert set(wrong(api)) == {"workers"}
    with database.writing() as session:
        session.delete(session.get_one(WorkerProcess, "h:1:w"))
    well.alive()
    assert api.get(READY).status_code == 200


def test_no_scheduler(api: httpx2.Client, bus: object, ledger_database: str) -> None:
    well.alive()
    assert "none was ever heard of: start one with `periodiq periodic`" in wrong(api)["scheduler"]

    well.scheduling(heard_of=timedelta(minutes=5))

    assert "the last was heard of at" in wrong(api)["scheduler"]


@pytest.mark.usefixtures("ready")
def test_a_domain_that_failed_to_import(api: httpx2.Client) -> None:
    callboard.registry.failures.append(ImportFailure("workers.actors.media", "ModuleNotFoundError: No module 'x'"))
    try:
        found = wrong(api)
    finally:
        callboard.registry.failures.clear()

    assert found == {
        "actors": "workers.actors.media cannot be imported (ModuleNotFoundError: No module 'x'): mend it, its actors "
        "are missing"
    }


@pytest.mark.usefixtures("own_redis", "sqlite_database", "elsewhere")
def test_with_all_of_it_away_the_process_still_lives(api: httpx2.Client, own_redis: OwnRedis, tmp_path: Path) -> None:
    own_redis.kill()
    database.bind(f"sqlite:///{tmp_path / 'empty.db'}")

    assert set(wrong(api)) == {"redis", "database"}
    assert api.get("/health/live").json() == {"status": "live"}


@pytest.mark.usefixtures("with_tokens", "bus", "sqlite_database")
def test_a_stranger_learns_which_part_is_not_ready_and_nothing_of_where_it_is(api: httpx2.Client) -> None:
    found = problem_of(api.get(READY), 503)

    assert str(found["detail"]).startswith("not ready: workers; scheduler: ask with a token for what is wrong")
    checks: Any = found["checks"]
    assert {check["detail"] for check in checks} == {""}
