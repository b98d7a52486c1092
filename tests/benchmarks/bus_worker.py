"""One worker process of the bus benchmark: `python -m tests.benchmarks.bus_worker KIND URL QUEUES THREADS`.

Says "ready", boots its worker when it reads a line, and at the next line stops and reports as JSON.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from pathlib import Path

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker

from tests.workers.broker.actors import actor_of
from workers.broker import CallboardBroker, MessageCodec

STOCK = "stock"
OURS = "ours"


def make_broker(kind: str, url: str) -> dramatiq.Broker:
    """Returns the broker to be measured, with its own best encoder, and Dramatiq's default middleware."""
    if kind == OURS:
        dramatiq.set_encoder(MessageCodec())
        return CallboardBroker(url)
    return RedisBroker(client=redis.Redis.from_url(url, socket_timeout=30))


def queue_names(count: int) -> list[str]:
    """Returns the names of the benchmark's queues."""
    return [f"bench{i}" for i in range(count)]


class Tally:
    """What one process did."""

    def __init__(self) -> None:
        self._count = itertools.count(1)
        self.runs = 0
        self.latencies_ms: list[float] = []

    def noop(self, payload: str, sent_s: float = 0.0) -> None:
        """The task: nothing; notes how late it started if it was told when it was sent."""
        self.runs = max(self.runs, next(self._count))
        if sent_s:
            self.latencies_ms.append((time.time() - sent_s) * 1000)


def declare(broker: dramatiq.Broker, queues: int, tally: Tally) -> list[dramatiq.Actor[[str, float], None]]:
    """Returns one no-op actor a queue."""
    return [
        actor_of(tally.noop, actor_name=f"noop_{name}", queue_name=name, broker=broker) for name in queue_names(queues)
    ]


def _memory_mb() -> float:
    for row in Path("/proc/self/status").read_text().splitlines():
        if row.startswith("VmRSS:"):
            return int(row.split()[1]) / 1024
    return 0.0


def main() -> None:
    """Runs until told to stop."""
    kind, url, queues, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    broker = make_broker(kind, url)
    dramatiq.set_broker(broker)
    broker.emit_after("process_boot")
    tally = Tally()
    declare(broker, queues, tally)
    print("ready", flush=True)
    sys.stdin.readline()
    boot_s = time.process_time()
    worker = dramatiq.Worker(broker, worker_threads=threads)
    worker.start()
    print("started", flush=True)
    sys.stdin.readline()
    cpu_s = time.process_time() - boot_s
    memory_mb = _memory_mb()
    worker.stop()
    runs = next(tally._count) - 1
    print(
        json.dumps({"runs": runs, "cpu_s": cpu_s, "memory_mb": memory_mb, "latencies_ms": tally.latencies_ms}),
        flush=True,
    )


if __name__ == "__main__":
    main()
