"""What dramatiq's own tests of its Redis broker (tests/test_redis.py, test_worker.py and parts of test_composition.py,
test_results.py, test_barrier.py upstream) ask of a broker's behaviour, asked of ours, in our words.

Not here, because they test RedisBroker's inside and not what a user sees:
- unacked messages can be requeued / backwards compatibility with old acks: look into `__acks__` sets and force
  maintenance by `maintenance_chance`. Ours: test_lease.py (expiry), test_model.py.
- dead-lettered messages are cleaned up: by `dead_message_ttl` and forced maintenance. Ours: test_administration.py.
- consumer ack/nack can retry on connection error: patch `do_ack`/`do_nack`. Ours: test_faults.py, on a real wire.
- raises AttributeError for an invalid attribute: guards the `do_*` magic, which we do not have.
- warns about deprecated parameters (`requeue_deadline`): we have none.
- join race condition: counts `do_qsize` of queue and delay queue; what it protects (join sees a message at every
  moment of its way) is tested below.
Otherwise by decision: messages of missing actors are rejected: ours puts them off (test_poison.py).
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import dramatiq
import pytest
from dramatiq import Message, QueueJoinTimeout, group, pipeline
from dramatiq.middleware import GroupCallbacks, Shutdown, TimeLimitExceeded
from dramatiq.rate_limits import ConcurrentRateLimiter
from dramatiq.rate_limits.backends import RedisBackend as LimiterBackend
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend as ResultBackend

from tests.workers.broker.actors import actor_of
from tests.workers.broker.conftest import running, wait_until
from tests.workers.broker.server import Server
from workers.broker import CallboardBroker


def test_actors_can_be_sent_messages(broker: CallboardBroker) -> None:
    database: dict[str, int] = {}

    @dramatiq.actor
    def put(key: str, value: int) -> None:
        database[key] = value

    with running(broker) as worker:
        for i in range(100):
            assert put.send(f"key-{i}", i)
        broker.join(put.queue_name, interval=10)
        worker.join()

    assert len(database) == 100


def test_actors_retry_with_backoff_on_failure(broker: CallboardBroker) -> None:
    times: list[float] = []

    @dramatiq.actor(min_backoff=200, max_backoff=500, max_retries=1)
    def do_work() -> None:
        times.append(time.monotonic())
        if len(times) == 1:
            raise RuntimeError("first failure")

    with running(broker) as worker:
        do_work.send()
        broker.join(do_work.queue_name, interval=10)
        worker.join()

    assert 0.2 <= times[1] - times[0] <= 0.7


def test_actors_can_retry_multiple_times(broker: CallboardBroker) -> None:
    attempts: list[int] = []

    @dramatiq.actor(min_backoff=20, max_backoff=20)
    def do_work() -> None:
        attempts.append(1)
        if len(attempts) < 4:
            raise RuntimeError(f"failure {len(attempts)}")

    with running(broker) as worker:
        do_work.send()
        broker.join(do_work.queue_name, interval=10)
        worker.join()

    assert len(attempts) == 4


def test_messages_can_be_delayed_independently_of_each_other(broker: CallboardBroker) -> None:
    results: list[tuple[int, float]] = []

    @dramatiq.actor
    def append(x: int) -> None:
        results.append((x, time.monotonic()))

    with running(broker) as worker:
        sent_s = time.monotonic()
        append.send_with_options(args=(1,), delay=400)
        append.send_with_options(args=(2,), delay=200)
        broker.join(append.queue_name, interval=10)
        worker.join()

    assert [x for x, _ in results] == [2, 1]
    assert results[0][1] - sent_s >= 0.2


def test_messages_can_be_dead_lettered(broker: CallboardBroker) -> None:
    @dramatiq.actor(max_retries=0)
    def do_work() -> None:
        raise RuntimeError("failed")

    message = do_work.send()
    with running(broker) as worker:
        broker.join(do_work.queue_name, interval=10)
        worker.join()

    assert [letter.message_id for letter in broker.dead_letters("default")] == [message.message_id]


def test_unhandled_messages_are_requeued_on_shutdown(broker: CallboardBroker) -> None:
    started = threading.Event()

    @dramatiq.actor
    def do_work() -> None:
        started.set()
        time.sleep(0.3)  # why: the first lasts while the worker is stopped

    do_work.send()
    do_work.send()
    with running(broker, threads=1):
        started.wait(5)

    depth = broker.depth("default")
    assert (depth.waiting, depth.leased) == (1, 0)


def test_delayed_messages_outlast_a_worker(broker: CallboardBroker) -> None:
    actor = actor_of(lambda: None, actor_name="note", broker=broker)
    actor.send_with_options(delay=10_000)

    with running(broker, threads=1):
        pass

    assert broker.depth("default").delayed == 1


def test_join_can_time_out(broker: CallboardBroker) -> None:
    actor = actor_of(lambda: time.sleep(0.6), actor_name="slow", broker=broker)  # why: it outlasts the join
    with running(broker, threads=1):
        actor.send()
        with pytest.raises(QueueJoinTimeout):
            broker.join("default", timeout=200)


def test_join_sees_a_message_at_every_moment_of_its_way(broker: CallboardBroker) -> None:
    runs: list[str] = []

    def again() -> None:
        runs.append("again")

    again_actor = actor_of(again, broker=broker)

    def go() -> None:
        again_actor.send_with_options(delay=50)
        runs.append("go")

    go_actor = actor_of(go, broker=broker)
    with running(broker):
        for _ in range(5):
            go_actor.send()
            broker.join("default", interval=1)
            assert runs[-1] == "again"


def test_queues_can_be_flushed(broker: CallboardBroker) -> None:
    actor = actor_of(lambda: None, actor_name="note", broker=broker)
    actor.send()

    broker.flush_all()

    broker.join("default", timeout=200)


def test_a_broker_takes_a_url_or_a_client_and_not_both(shared_server: Server) -> None:
    client = shared_server.client()
    assert CallboardBroker(client=client).client is client
    assert CallboardBroker(shared_server.url).client.ping()
    with pytest.raises(ValueError, match="either url or client"):
        CallboardBroker(shared_server.url, client=client)
    with pytest.raises(ValueError, match="either url or client"):
        CallboardBroker()


def test_a_lone_consumer_fetches_acknowledges_and_gives_back(broker: CallboardBroker) -> None:
    actor = actor_of(lambda: None, actor_name="note", broker=broker)
    sent = [actor.send().message_id for _ in range(3)]
    consumer = broker.consume("default", prefetch=2, timeout=200)
    first, second = next(consumer), next(consumer)
    assert first is not None
    assert second is not None

    nothing = next(consumer)
    consumer.requeue([first])
    consumer.ack(second)
    third = next(consumer)
    consumer.close()

    assert nothing is None
    assert [first.message_id, second.message_id] == sent[:2]
    assert third is not None
    assert third.message_id == sent[0]
    assert broker.depth("default").waiting == 1


def test_consumers_refuse_what_the_bus_did_not_hand_out(broker: CallboardBroker) -> None:
    message = Message(queue_name="default", actor_name="note", args=(), kwargs={}, options={})
    with pytest.raises(TypeError, match="handed out"):
        broker.consume("default").nack(dramatiq.MessageProxy(message))


def test_workers_serve_only_the_queues_they_are_told_to(broker: CallboardBroker) -> None:
    runs: list[str] = []
    for name in ("red", "blue"):
        actor_of(lambda name=name: runs.append(name), actor_name=name, queue_name=name, broker=broker)
    worker = dramatiq.Worker(broker, queues={"blue"}, worker_threads=2, worker_timeout=100)
    worker.start()
    try:
        for actor in broker.actors.values():
            actor.send()
        broker.join("blue", interval=10)
    finally:
        worker.stop()

    assert runs == ["blue"]
    assert broker.depth("red").waiting == 1


def test_a_queue_declared_while_the_worker_runs_is_served(broker: CallboardBroker) -> None:
    runs: list[str] = []
    with running(broker, threads=1):
        late = actor_of(lambda: runs.append("late"), actor_name="late", queue_name="late", broker=broker)
        late.send()
        wait_until(lambda: runs == ["late"])


def test_a_worker_can_be_paused_and_resumed(broker: CallboardBroker) -> None:
    runs: list[int] = []
    actor = actor_of(lambda: runs.append(1), actor_name="note", broker=broker)
    with running(broker) as worker:
        worker.pause()
        actor.send()
        time.sleep(0.2)  # why: nothing may happen in this time
        paused = list(runs)
        worker.resume()
        wait_until(lambda: runs == [1])

    assert paused == []


def test_there_are_no_delay_queues_and_no_threads_for_them(broker: CallboardBroker) -> None:
    for i in range(3):
        actor_of(lambda: None, actor_name=f"a{i}", queue_name=f"q{i}", broker=broker)
    with running(broker, threads=1) as worker:
        assert set(worker.consumers) == {"q0", "q1", "q2"}

    assert broker.get_declared_delay_queues() == set()


def test_pipelines_groups_results_and_completion_callbacks_go_on(
    broker: CallboardBroker, shared_server: Server
) -> None:
    broker.add_middleware(Results(backend=ResultBackend(client=shared_server.client())))
    broker.add_middleware(GroupCallbacks(LimiterBackend(client=shared_server.client())))
    finished = threading.Event()

    @dramatiq.actor(store_results=True)
    def add(x: int, y: int = 0) -> int:  # why the default: a pipeline gives the first by itself
        return x + y

    @dramatiq.actor
    def done() -> None:
        finished.set()

    with running(broker):
        chain = pipeline([add.message(1, 2), add.message(3), add.message(4)]).run()
        assert chain.get_result(block=True, timeout=5_000) == 10
        several = group([add.message(i, i) for i in range(5)])
        several.add_completion_callback(done.message())
        several.run()
        assert list(several.get_results(block=True, timeout=5_000)) == [0, 2, 4, 6, 8]
        assert finished.wait(5)
        delayed = pipeline([add.message(1, 1), add.message_with_options(args=(1,), delay=100)]).run()
        assert delayed.get_result(block=True, timeout=5_000) == 3


def test_callbacks_and_exhausted_retries_are_told(broker: CallboardBroker) -> None:
    told: list[str] = []

    @dramatiq.actor
    def tell(message: dict[str, object], details: object) -> None:
        told.append(str(message["actor_name"]))

    @dramatiq.actor(on_success="tell")
    def works() -> None:
        pass

    @dramatiq.actor(max_retries=0, on_retry_exhausted="tell")
    def fails() -> None:
        raise RuntimeError("failed")

    with running(broker):
        works.send()
        fails.send()
        wait_until(lambda: sorted(told) == ["fails", "works"])


def test_rate_limiters_go_on(broker: CallboardBroker, shared_server: Server, namespace: str) -> None:
    backend = LimiterBackend(client=shared_server.client())
    limiter = ConcurrentRateLimiter(backend, namespace, limit=1, ttl=10_000)
    together, most, done = 0, 0, 0
    lock = threading.Lock()

    @dramatiq.actor(min_backoff=10, max_backoff=30, max_retries=None)
    def limited() -> None:
        nonlocal together, most, done
        with limiter.acquire():
            with lock:
                together += 1
                most = max(most, together)
            time.sleep(0.005)  # why: long enough for others to come between
            with lock:
                together -= 1
                done += 1

    with running(broker):
        for _ in range(10):
            limited.send()
        wait_until(lambda: done == 10, 20)

    assert most == 1


def test_time_limits_and_shutdown_notices_interrupt_and_lead_to_a_retry(broker: CallboardBroker) -> None:
    seen: list[type[BaseException]] = []
    begun: list[int] = []

    def nap() -> None:
        begun.append(1)
        try:
            for _ in range(2_000):
                time.sleep(0.005)  # why: interrupts come between two of these
        except (TimeLimitExceeded, Shutdown) as error:
            seen.append(type(error))
            raise

    limited = actor_of(nap, actor_name="limited", broker=broker, time_limit=300, max_retries=0)
    noticed = actor_of(nap, actor_name="noticed", broker=broker, notify_shutdown=True, min_backoff=60_000)
    with running(broker, threads=2) as worker:
        limited.send()
        wait_until(lambda: broker.depth("default").dead == 1)
        noticed.send()
        wait_until(lambda: len(begun) == 2)
        assert all(thread.is_alive() for thread in worker.workers)

    assert seen == [TimeLimitExceeded, Shutdown]
    assert broker.depth("default").delayed == 1


def test_the_stock_command_line_runs_it(shared_server: Server, namespace: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import dramatiq\n"
        "from workers.broker import CallboardBroker\n"
        f"broker = CallboardBroker({shared_server.url!r}, namespace={namespace!r})\n"
        "dramatiq.set_broker(broker)\n"
        "@dramatiq.actor\n"
        "def note(name):\n"
        f"    open({str(tmp_path)!r} + '/' + name, 'w').close()\n"
    )
    broker = CallboardBroker(shared_server.url, namespace=namespace)
    actor = actor_of(lambda name: None, actor_name="note", broker=broker)
    command = [sys.executable, "-m", "dramatiq", "-p", "2", "-t", "2", "app"]
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": path})
    try:
        for i in range(10):
            actor.send(f"ran{i}")
        wait_until(lambda: len(list(tmp_path.glob("ran*"))) == 10, 20)
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()

    assert broker.depth("default").live == 0
