"""Traps of the bus (spec/traps.md), each sprung by Dramatiq's own RedisBroker and then stepped over by ours.

What stock does is asserted too: a test that stock passes would prove nothing. Where stock has no way out, we look
into its keys, because what never happens cannot be waited for.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import dramatiq
import pytest
import redis
from dramatiq.broker import Broker, MessageProxy
from dramatiq.brokers import redis as stock_redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import ConnectionClosed
from dramatiq.middleware import TimeLimit, default_middleware
from dramatiq.results import ResultMissing, Results
from dramatiq.results.backends import RedisBackend as ResultBackend

from tests.workers.broker.actors import actor_of
from tests.workers.broker.conftest import running, wait_until
from tests.workers.broker.proxy import Fault, Proxy
from tests.workers.broker.server import VALKEY, Server
from tests.workers.broker.slow_hook import Slow
from tests.workers.broker.test_faults import Once, proxy
from workers.broker import CallboardBroker

__all__ = ["proxy"]

ALWAYS_TIDY = 1_000_000
"""Commands out of a million with which stock looks for dead workers."""


class Stock(RedisBroker):
    """RedisBroker, and how its books stand."""

    def leased(self, queue: str = "default") -> int:
        return int(self.client.scard(f"{self.namespace}:__acks__.{self.broker_id}.{queue}"))

    def waiting(self, queue: str = "default") -> int:
        return int(self.client.llen(f"{self.namespace}:{queue}"))

    def live(self) -> int:
        return int(self.do_qsize("default"))


def stock_on(server: Server, namespace: str, **options: Any) -> Stock:
    """A stock broker in a namespace beside ours, with Dramatiq's middleware; time limits are looked at more often."""
    middleware = [TimeLimit(interval=20) if one is TimeLimit else one() for one in default_middleware]
    broker = Stock(client=server.client(), namespace=f"stock-{namespace}", middleware=middleware, **options)
    broker.emit_after("process_boot")
    return broker


@pytest.fixture
def stock(shared_server: Server, namespace: str) -> Generator[Stock]:
    broker = stock_on(shared_server, namespace)
    yield broker
    broker.client.close()


@pytest.fixture
def own_stock(own_server: Server, namespace: str) -> Generator[Stock]:
    broker = stock_on(own_server, namespace)
    yield broker
    broker.client.close()


def test_trap_3_a_retry_that_cannot_be_sent(stock: Stock, broker: CallboardBroker) -> None:
    def runs_on(one: Broker) -> list[list[object]]:
        seen: list[list[object]] = []

        def task(items: list[object]) -> None:
            seen.append(list(items))
            if len(seen) == 1:
                items.append(object())
                raise RuntimeError("mutated")

        actor = actor_of(task, broker=one, min_backoff=10, max_backoff=20)
        with running(one, threads=1):
            actor.send([1])
            wait_until(lambda: seen)
            one.join("default", timeout=10_000, interval=10)
        return seen

    assert runs_on(stock) == [[1]]  # gone: not waiting, not dead
    assert stock.client.zcard(f"{stock.namespace}:default.XQ") == 0
    assert runs_on(broker) == [[1], [1]]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("fails", [True, False])
def test_trap_4_a_time_limit_that_passes_in_an_after_hook(stock: Stock, fails: bool) -> None:
    """Ours: tests/workers/test_traps.py."""
    runs: list[int] = []

    def task() -> None:
        runs.append(1)
        if fails and len(runs) == 1:
            raise RuntimeError("failed")

    slow = Slow()
    stock.add_middleware(slow)
    actor = actor_of(task, broker=stock, time_limit=100, min_backoff=10, max_backoff=10, max_retries=1)
    with running(stock, threads=1) as worker:
        actor.send()
        wait_until(lambda: runs)
        stock.join("default", timeout=10_000, interval=10)
        wait_until(lambda: worker.workers[0].is_alive() is not fails)

    assert slow.interrupted
    assert len(runs) == (1 if fails else 2)  # its retry is lost; or it runs again although it succeeded


def test_trap_7_the_answer_to_a_fetch_is_lost(
    shared_server: Server, proxy: Proxy, stock: Stock, namespace: str
) -> None:
    def after_the_loss(one: Broker) -> list[int]:
        """What the consumer gets."""
        actor = actor_of(lambda _: None, actor_name="note", broker=one)
        sent = [actor.send(number).message_id for number in range(4)]
        proxy.choose = lose = Once("fetch", Fault.CUT, besides=b"fetch")
        consumer = one.consume("default", prefetch=4, timeout=200)
        got: list[MessageProxy | None] = []
        with contextlib.suppress(ConnectionClosed):
            while not lose.done:
                got.append(next(consumer))
        proxy.choose = lambda _request: Fault.NONE
        got += [next(consumer) for _ in sent]
        return [sent.index(message.message_id) for message in got if message is not None]

    through = redis.Redis.from_url(proxy.url)
    stranding = Stock(client=through, namespace=stock.namespace, maintenance_chance=ALWAYS_TIDY)
    ours = CallboardBroker(proxy.url, namespace=namespace)

    assert after_the_loss(stranding) == []
    assert (stranding.leased(), stranding.waiting()) == (4, 0)  # and while it beats, nobody takes them from it
    assert after_the_loss(ours) == [0, 1, 2, 3]
    ours.close()
    through.close()


def test_trap_8_the_server_is_read_only_for_a_moment_as_after_a_failover(
    own_server: Server, own_stock: Stock, namespace: str
) -> None:
    ours = CallboardBroker(own_server.url, namespace=namespace)
    actor_of(lambda: None, actor_name="of stock", broker=own_stock).send()
    on_stock = own_stock.consume("default", timeout=500)
    (message,) = [next(on_stock)]
    began, release = threading.Event(), threading.Event()

    def task() -> None:
        began.set()
        release.wait(10)

    actor = actor_of(task, broker=ours)
    with running(ours, threads=1) as worker, own_server.client() as server:
        actor.send()
        began.wait(10)
        server.replicaof("127.0.0.1", 1)
        assert message is not None
        with pytest.raises(redis.ReadOnlyError):  # its worker asks again only after ConnectionClosed
            on_stock.ack(message)
        refused = server.info("errorstats")["errorstat_READONLY"]["count"]
        release.set()
        wait_until(lambda: server.info("errorstats")["errorstat_READONLY"]["count"] > refused + 1)
        server.replicaof("NO", "ONE")
        wait_until(lambda: ours.depth("default").live == 0)
        assert worker.workers[0].is_alive()

    assert own_stock.leased() == 1
    ours.close()


def test_trap_10_the_server_restarts_while_a_message_is_delayed(
    own_server: Server, own_stock: Stock, namespace: str
) -> None:
    def runs_on(one: Broker, is_held: Callable[[], object]) -> list[str]:
        runs: list[str] = []
        actor = actor_of(runs.append, actor_name="note", broker=one)
        with running(one, threads=1):
            actor.send_with_options(args=("delayed",), delay=400)
            wait_until(is_held)
            own_server.kill()
            own_server.start()
            actor.send_with_options(args=("later",), delay=800)
            wait_until(lambda: "later" in runs, 20)
        return runs

    ours = CallboardBroker(own_server.url, namespace=namespace)
    assert runs_on(own_stock, lambda: own_stock.leased("default.DQ")) == ["later"]
    assert runs_on(ours, lambda: ours.depth("default").delayed) == ["delayed", "later"]
    ours.close()


def held_by(broker: Broker) -> MessageProxy | None:
    """What a consumer of this broker gets."""
    return next(broker.consume("default", timeout=500))


def test_trap_11_the_clock_of_one_worker_is_a_minute_ahead(
    shared_server: Server, stock: Stock, broker: CallboardBroker, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor_of(lambda: None, actor_name="stock", broker=stock).send()
    actor_of(lambda: None, actor_name="ours", broker=broker).send()
    ahead = stock_on(shared_server, namespace, maintenance_chance=ALWAYS_TIDY)
    ours_ahead = CallboardBroker(shared_server.url, namespace=namespace)
    assert held_by(stock) is not None
    assert held_by(broker) is not None
    true_millis, true_time = stock_redis.current_millis, time.time
    monkeypatch.setattr(stock_redis, "current_millis", lambda: true_millis() + 61_000)
    monkeypatch.setattr(time, "time", lambda: true_time() + 61)

    assert held_by(ahead) is not None  # stolen, while its worker is at it
    assert held_by(ours_ahead) is None
    ours_ahead.close()


def test_trap_11_who_was_away_too_long_acknowledges_what_another_has(
    shared_server: Server, stock: Stock, namespace: str
) -> None:
    actor_of(lambda: None, actor_name="note", broker=stock).send()
    mine = held_by(stock)
    other = stock_on(shared_server, namespace, maintenance_chance=ALWAYS_TIDY, heartbeat_timeout=1)
    wait_until(lambda: held_by(other), 10)  # a millisecond after its owner's last sign of life
    assert mine is not None
    stock.do_ack("default", mine.options["redis_message_id"])
    stolen_back = stock_on(shared_server, namespace, maintenance_chance=ALWAYS_TIDY, heartbeat_timeout=1)

    wait_until(lambda: held_by(stolen_back), 10)


def test_trap_13_what_a_stopping_worker_gives_back_is_first_again(stock: Stock, broker: CallboardBroker) -> None:
    def next_after_a_stop(one: Broker) -> int:
        actor = actor_of(lambda _: None, actor_name="note", broker=one)
        for number in range(3):
            actor.send(number)
        consumer = one.consume("default", prefetch=2, timeout=500)
        consumer.requeue([given for given in (next(consumer), next(consumer)) if given is not None])
        consumer.close()
        first = held_by(one)
        assert first is not None
        return int(first.args[0])

    assert next_after_a_stop(stock) == 2
    assert next_after_a_stop(broker) == 0


def test_trap_14_a_server_that_is_full_lets_nothing_end(namespace: str) -> None:
    server = Server(VALKEY, maxmemory_policy="noeviction")
    stock, ours = stock_on(server, namespace), CallboardBroker(server.url, namespace=namespace)
    for one in (stock, ours):
        actor = actor_of(lambda: None, actor_name="note", broker=one)
        actor.send()
        actor.send()
    consumer, running_on_stock = ours.consume("default", timeout=500), held_by(stock)
    running_on_ours = next(consumer)
    assert running_on_stock is not None
    assert running_on_ours is not None
    server.client().config_set("maxmemory", "1mb")

    for call in (
        lambda: stock.do_ack("default", running_on_stock.options["redis_message_id"]),
        lambda: held_by(stock),
    ):
        with pytest.raises(redis.ResponseError, match=r"OOM|maxmemory"):
            call()
    consumer.ack(running_on_ours)
    waiting = next(consumer)
    assert waiting is not None
    consumer.ack(waiting)

    assert ours.depth("default").live == 0
    consumer.close()
    ours.close()
    server.remove()


def test_trap_15_and_16_are_only_a_line_in_the_log_of_stock(stock: Stock, shared_server: Server) -> None:
    """Ours: test_poison.py and tests/workers/test_lifecycle.py."""
    results = ResultBackend(client=shared_server.client())
    stock.add_middleware(Results(backend=results))
    unstorable = actor_of(object, actor_name="unstorable", broker=stock, store_results=True, max_retries=0)
    unknown = dramatiq.Message(queue_name="default", actor_name="of the new code", args=(), kwargs={}, options={})

    with running(stock, threads=1):
        sent = unstorable.send()
        stock.enqueue(unknown)
        stock.join("default", timeout=10_000, interval=10)

    with pytest.raises(ResultMissing):
        sent.get_result(backend=results)
    dead = stock.client.hvals(f"{stock.namespace}:default.XQ.msgs")
    assert [dramatiq.Message.decode(one).message_id for one in dead] == [unknown.message_id]


def test_trap_12_one_dead_process_ends_the_whole_stock_command(
    shared_server: Server, stock: Stock, namespace: str, tmp_path: Path
) -> None:
    """Ours: tests/faults/test_supervised_workers.py."""
    (tmp_path / "app.py").write_text(
        "import os, dramatiq\n"
        "from dramatiq.brokers.redis import RedisBroker\n"
        f"dramatiq.set_broker(RedisBroker(url={shared_server.url!r}, namespace={stock.namespace!r}))\n"
        "@dramatiq.actor\n"
        "def die():\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    command = [sys.executable, "-m", "dramatiq", "-p", "2", "-t", "1", "app"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(tmp_path)})
    try:
        # One that dies while the others are started is not missed at all, and the command goes on without it.
        wait_until(lambda: stock.client.zcard(f"{stock.namespace}:__heartbeats__") == 2, timeout_s=30)
        actor_of(lambda: None, actor_name="die", broker=stock).send()
        assert process.wait(30) == 1
    finally:
        process.kill()
        process.wait()
