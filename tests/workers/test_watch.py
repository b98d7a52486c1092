"""A worker process notices which of its threads are dead or stuck, and that waiting for Redis is neither."""

import ctypes
import threading
import time
from collections.abc import Iterator

import dramatiq
import pytest
import redis

from tests.servers import OwnRedis, wait_until
from workers import callboard
from workers.middleware.watch import symptoms

pytestmark = [
    pytest.mark.usefixtures("sqlite_database"),
    # The threads that are ended here end with an exception that nobody catches: that is the point.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]
LONG_S = 1e9


def found(worker: dramatiq.Worker, *, stall_timeout_s: float = LONG_S, awake_s: float = LONG_S) -> list[str]:
    return symptoms(callboard.broker, worker, stall_timeout_s=stall_timeout_s, awake_s=awake_s)


def end(thread: threading.Thread) -> None:
    """Raise SystemExit in a thread: it ends without a word."""
    assert thread.ident is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))
    wait_until(lambda: not thread.is_alive(), within_s=10, what=f"the end of {thread.name}")


def thread_named(prefix: str) -> threading.Thread:
    (thread,) = (one for one in threading.enumerate() if one.name.startswith(prefix))
    return thread


@pytest.fixture
def stuck(bus: redis.Redis, sqlite_database: str, worker: dramatiq.Worker) -> Iterator[None]:
    """A stranger's listener holds the thread of the bus that tells it of an emptied server."""
    held, release = threading.Event(), threading.Event()

    def hold(*_: object) -> None:
        held.set()
        release.wait()

    wait_until(lambda: callboard.broker.generation.number, within_s=10, what="the first generation")
    callboard.broker.on_generation(hold)
    bus.flushall()
    assert held.wait(10)
    yield
    release.set()


def test_a_worker_that_is_well_has_no_symptoms(worker: dramatiq.Worker) -> None:
    assert found(worker) == []
    (health,) = callboard.broker.health()
    assert health.dead_threads == ()


def test_a_dead_worker_thread_is_counted(worker: dramatiq.Worker) -> None:
    end(worker.workers[0])

    assert found(worker) == ["3 of 4 worker threads are left"]


def test_a_dead_consumer_thread_is_named(worker: dramatiq.Worker) -> None:
    end(worker.consumers["email"])

    assert found(worker) == ["the thread consumer of email has ended"]


@pytest.mark.parametrize("part", ["hub", "settler"])
def test_a_dead_thread_of_the_bus_is_named(worker: dramatiq.Worker, part: str) -> None:
    thread = thread_named(f"callboard-{part}-")

    end(thread)

    assert found(worker) == [f"the thread {thread.name} has ended"]


def test_a_further_thread_is_watched_too(worker: dramatiq.Worker) -> None:
    ended = threading.Thread(target=str, name="flusher")
    ended.start()
    ended.join()

    assert symptoms(callboard.broker, worker, [ended], stall_timeout_s=LONG_S, awake_s=LONG_S) == [
        "the thread flusher has ended"
    ]


@pytest.mark.usefixtures("stuck")
def test_a_thread_of_the_bus_that_is_stuck_is_noticed(worker: dramatiq.Worker) -> None:
    wait_until(lambda: found(worker, stall_timeout_s=2), within_s=15, what="a symptom")

    (symptom,) = found(worker, stall_timeout_s=2)
    assert symptom.startswith(("the bus's hub has been stuck for", "the bus's settler has been stuck for"))


@pytest.mark.usefixtures("stuck")
def test_silence_from_before_the_process_went_on_does_not_count(worker: dramatiq.Worker) -> None:
    wait_until(lambda: found(worker, stall_timeout_s=2), within_s=15, what="a symptom")

    assert found(worker, stall_timeout_s=2, awake_s=1.5) == []


def test_a_worker_that_waits_for_redis_is_not_stuck(own_redis: OwnRedis, worker: dramatiq.Worker) -> None:
    own_redis.kill()
    time.sleep(6)  # why: an outage takes time

    (health,) = callboard.broker.health()
    assert health.hub_silent_s < 5
    assert health.settler_silent_s < 5
    assert health.dead_threads == ()
    own_redis.start()


def test_once_it_stops_no_thread_counts_as_dead(bus: redis.Redis) -> None:
    made = dramatiq.Worker(callboard.broker, worker_timeout=50, worker_threads=1)
    made.start()
    (crew,) = callboard.broker._crews

    made.stop(timeout=5_000)
    callboard.broker.middleware[:] = [
        one for one in callboard.broker.middleware if type(one).__name__ != "_WorkerMiddleware"
    ]

    assert crew.health().dead_threads == ()
    assert callboard.broker.health() == []
