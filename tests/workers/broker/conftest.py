"""Servers, brokers and workers for the tests of the bus. All real."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

import dramatiq
import pytest
import redis

from tests.scale import PATIENCE
from tests.workers.broker.server import REDIS, REDIS_6, VALKEY, Server, require
from workers import callboard
from workers.broker import CallboardBroker, MessageCodec

_namespaces = (f"test-{os.getpid()}-{i}" for i in itertools.count())

Wait = Callable[[Callable[[], object], float], None]


@pytest.fixture(scope="session", autouse=True)
def _codec() -> None:
    dramatiq.set_encoder(MessageCodec())


@pytest.fixture(scope="session")
def shared_server() -> Generator[Server]:
    """One server for all tests of a process that do no harm to it."""
    server = Server(VALKEY)
    yield server
    server.remove()


@pytest.fixture(params=[VALKEY, REDIS, REDIS_6])
def any_server(request: pytest.FixtureRequest) -> Generator[Server]:
    """Each kind of server in turn, of the test's own, durable."""
    require(request.param)
    server = Server(request.param, durable=True)
    yield server
    server.remove()


@pytest.fixture
def own_server() -> Generator[Server]:
    """A durable server of the test's own, to be killed and frozen."""
    server = Server(VALKEY, durable=True)
    yield server
    server.remove()


@pytest.fixture
def client(shared_server: Server) -> Generator[redis.Redis]:
    """For looking at the shared server."""
    with shared_server.client() as client:
        yield client


@pytest.fixture
def namespace() -> str:
    """A namespace nobody else uses."""
    return next(_namespaces)


@pytest.fixture
def broker(shared_server: Server, namespace: str) -> Generator[CallboardBroker]:
    """A broker on the shared server, in a namespace of its own, set as Dramatiq's."""
    broker = CallboardBroker(shared_server.url, namespace=namespace)
    broker.emit_after("process_boot")
    dramatiq.set_broker(broker)
    yield broker
    broker.close()
    dramatiq.set_broker(callboard.broker)


@contextmanager
def running(broker: dramatiq.Broker, *, threads: int = 8, timeout_ms: int = 100) -> Generator[dramatiq.Worker]:
    """A stock Dramatiq worker for the length of the block."""
    worker = dramatiq.Worker(broker, worker_threads=threads, worker_timeout=timeout_ms)
    worker.start()
    try:
        yield worker
    finally:
        worker.stop()


def wait_until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Returns as soon as the condition is true. Raises AssertionError if it does not become so in time, of which a busy
    machine gets PATIENCE times as much."""
    deadline_s = time.monotonic() + timeout_s * PATIENCE
    while not condition():
        if time.monotonic() > deadline_s:
            raise AssertionError(f"not within {timeout_s * PATIENCE:g} s: {condition}")
        time.sleep(0.004)  # why: the condition is another process's or thread's; this is the waiting on it
