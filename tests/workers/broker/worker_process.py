"""A worker in a process of its own, to be killed and frozen:
`python -m tests.workers.broker.worker_process URL NAMESPACE EVIDENCE THREADS LEASE_S SKEW_S`. Says "started"."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager

import dramatiq

from tests.workers.broker.actors import actor_of
from tests.workers.broker.evidence import Evidence
from workers.broker import CallboardBroker, Limit, MessageCodec, Policy

LIMITS = {"few": Limit(concurrency=3), "rated": Limit(rate=50, per_s=1.0)}


class Actors:
    """The actors of these tests, bound to a broker. The test process declares them too, to send to them."""

    def __init__(self, broker: CallboardBroker, evidence: Evidence) -> None:
        def note(name: str) -> None:
            evidence.write("ran", name)

        def last(name: str, seconds: float) -> None:
            evidence.write("began", name)
            time.sleep(seconds)  # why: the task is one that lasts
            evidence.write("ran", name)

        def again(name: str, times: int) -> None:
            evidence.write("ran", name)
            if evidence.count("ran")[name] <= times:
                raise dramatiq.errors.Retry("once more", delay=100)

        def few(name: str, seconds: float) -> None:
            evidence.write("began", name)
            time.sleep(seconds)  # why: the task is one that lasts
            evidence.write("ran", name)

        def rated(_name: str) -> None:
            evidence.write("ran", time.monotonic_ns())

        self.few = actor_of(few, broker=broker, max_retries=5)
        self.rated = actor_of(rated, broker=broker, max_retries=5)
        self.note = actor_of(note, broker=broker, max_retries=5)
        self.last = actor_of(last, broker=broker, max_retries=5)
        self.again = actor_of(again, broker=broker, max_retries=5)


@contextmanager
def worker_process(
    url: str, namespace: str, evidence: Evidence, *, threads: int = 8, lease_s: float = 25.0, skew_s: float = 0.0
) -> Generator[subprocess.Popen[str]]:
    """A worker process for the length of the block; killed at its end if it still lives.

    skew_s: how far its clock is off.
    """
    command = [sys.executable, "-m", "tests.workers.broker.worker_process", url, namespace, str(evidence.path)]
    process = subprocess.Popen([*command, str(threads), str(lease_s), str(skew_s)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "started\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def main() -> None:
    """Runs until SIGTERM."""
    url, namespace, path, threads, lease_s, skew_s = sys.argv[1:7]
    true_time = time.time
    time.time = lambda: true_time() + float(skew_s)  # the clock is what a test may fake
    logging.basicConfig(level=logging.WARNING, format="%(process)d %(asctime)s %(message)s")
    dramatiq.set_encoder(MessageCodec())
    policy = Policy(lease_s=float(lease_s))
    broker = CallboardBroker(url, namespace=namespace, policy=policy, limit_of=LIMITS.get)
    dramatiq.set_broker(broker)
    Actors(broker, Evidence(path))
    worker = dramatiq.Worker(broker, worker_threads=int(threads), worker_timeout=100)
    worker.start()
    print("started", flush=True)
    signal.sigwait({signal.SIGTERM})
    worker.stop()


if __name__ == "__main__":
    # Before any thread starts, so that all inherit it and `sigwait` gets the signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    main()
