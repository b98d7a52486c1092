"""One process of the ledger benchmark: `python -m tests.benchmarks.ledger_worker KIND REDIS_URL DATABASE_URL`.

It sends or works as it is told: a line of JSON comes in, the answer goes out as one. Bare and naive import nothing of
ours, so that their memory is theirs.

    {"do": "send", "count": n}        single sends                  → {"per_s": …}
    {"do": "send_many", "count": n}   the fastest way to send many  → {"per_s": …}
    {"do": "feed", "seconds": s}      a load of no-ops, and every 100 ms a task that takes a second
    {"do": "work", "threads": n}      start a worker
    {"do": "report"}                  CPU, memory, starts of long tasks, profile; then it ends
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import dramatiq
import redis

BARE, NAIVE_SQLITE, NAIVE_POSTGRES, SQLITE, POSTGRES = "bare", "naive sqlite", "naive pg", "ours sqlite", "ours pg"
KINDS = (BARE, NAIVE_SQLITE, NAIVE_POSTGRES, SQLITE, POSTGRES)
PAYLOAD = "x" * 64
LONG_S = 1.0
SAMPLE_S = 0.002

_count = itertools.count()
_first_s: list[float] = []
_long_starts: list[tuple[str, float]] = []


def noop(payload: str) -> None:
    """The task: nothing. When the first of a process began is noted."""
    if not _first_s:
        _first_s.append(time.time())
    next(_count)


class Kind(Protocol):
    """What is measured: a composed broker and its actors."""

    broker: dramatiq.Broker

    def send(self) -> object: ...
    def send_many(self, count: int) -> object: ...
    def send_long(self) -> object: ...


class Stock:
    """Dramatiq's RedisBroker with its default middleware; `database`: and the status table of most teams."""

    def __init__(self, redis_url: str, database: str | None) -> None:
        from dramatiq.brokers.redis import RedisBroker

        self.broker: dramatiq.Broker = RedisBroker(client=redis.Redis.from_url(redis_url, socket_timeout=30))
        if database is not None:
            from tests.benchmarks.naive_status import NaiveStatus

            self.broker.add_middleware(NaiveStatus(database))
        dramatiq.set_broker(self.broker)
        self._noop: Any = dramatiq.actor(broker=self.broker, queue_name="bench")(noop)

    def send(self) -> object:
        return self._noop.send(PAYLOAD)

    def send_many(self, count: int) -> None:
        for _ in range(count):
            self.send()

    def send_long(self) -> object:
        raise NotImplementedError


class Ours:
    """Callboard as `workers` composes it."""

    def __init__(self, redis_url: str, database: str) -> None:
        os.environ |= {"CALLBOARD_REDIS_URL": redis_url, "CALLBOARD_DATABASE_URL": database}
        from models.task import TaskType
        from workers import callboard
        from workers.registry import actor
        from workers.runner.current import current_task

        def lasting() -> None:
            _long_starts.append((str(current_task().id), time.time()))
            time.sleep(LONG_S)  # why: the task is one that runs on

        self.broker: Any = callboard.broker
        self._noop = actor(task_type=TaskType.JOB, name="bench.noop")(noop)
        self._long = actor(task_type=TaskType.JOB, name="bench.long", priority=10)(lasting)

    def send(self) -> object:
        return self._noop.send(PAYLOAD)

    def send_many(self, count: int) -> None:
        from workers import tasks  # why: only the sender needs it, and a worker's memory is to be what it is.

        tasks.send_many([self._noop.message(PAYLOAD) for _ in range(count)])

    def send_long(self) -> object:
        return self._long.send()


def compose(kind: str, redis_url: str, database: str) -> Kind:
    """The kind that is to be measured."""
    if kind in (SQLITE, POSTGRES):
        return Ours(redis_url, database)
    return Stock(redis_url, None if kind == BARE else database)


class Profile:
    """Where the CPU time of the process's threads goes: each thread's since the last look counts for where it is now.

    The place is the innermost function, and what runs in C counts for the Python function that called it.
    """

    def __init__(self) -> None:
        self.cpu_s: Counter[str] = Counter()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        me = threading.get_ident()
        before_s: dict[int, float] = {}
        while not self._stop.wait(SAMPLE_S):
            for thread_id, frame in sys._current_frames().items():
                now_s = time.clock_gettime(time.pthread_getcpuclockid(thread_id))
                spent_s = now_s - before_s.get(thread_id, now_s)
                before_s[thread_id] = now_s
                if thread_id != me and spent_s:
                    place = Path(frame.f_code.co_filename)
                    self.cpu_s[f"{place.parent.name}/{place.name}:{frame.f_code.co_name}"] += spent_s  # type: ignore[assignment]  # a Counter of seconds

    def stop(self) -> dict[str, float]:
        """Function → seconds of CPU."""
        self._stop.set()
        self._thread.join()
        return dict(self.cpu_s)


def per_s(count: int, work: Callable[[], object]) -> float:
    """How many a second."""
    began_s = time.monotonic()
    work()
    return count / (time.monotonic() - began_s)


def feed(kind: Kind, seconds: float) -> None:
    """200 no-ops a second, and ten long tasks."""
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        kind.send_long()
        for _ in range(20):
            kind.send()
        time.sleep(0.1)  # why: the pace of the load


def _threads_cpu_s() -> dict[str, float]:
    """CPU seconds of this process's threads, those of a kind together; not of the main one, which boots and waits."""
    spent_s: Counter[str] = Counter()
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and thread.ident is not None:
            kind = thread.name if type(thread) is threading.Thread else type(thread).__name__
            spent_s[kind] += time.clock_gettime(time.pthread_getcpuclockid(thread.ident))  # type: ignore[assignment]  # a Counter of seconds
    return dict(spent_s)


def _memory_mb() -> float:
    rows = Path("/proc/self/status").read_text().splitlines()
    return next(int(row.split()[1]) / 1024 for row in rows if row.startswith("VmRSS:"))


def main() -> None:
    """Do as told until told to report."""
    kind = compose(*sys.argv[1:4])
    worker: dramatiq.Worker | None = None
    profile: Profile | None = None
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        answer: dict[str, Any] = {}
        match order["do"]:
            case "send":
                answer["per_s"] = per_s(order["count"], lambda n=order["count"]: [kind.send() for _ in range(n)])  # type: ignore[misc]  # mypy cannot infer lambdas with defaults
            case "send_many":
                answer["per_s"] = per_s(order["count"], lambda n=order["count"]: kind.send_many(n))  # type: ignore[misc]  # as above
            case "feed":
                feed(kind, order["seconds"])
            case "work":
                kind.broker.emit_after("process_boot")
                worker = dramatiq.Worker(kind.broker, worker_threads=order["threads"])
                worker.start()
                profile = Profile() if order["profile"] else None
            case "report":
                answer = {"threads": _threads_cpu_s(), "memory_mb": _memory_mb()}
                answer["profile"] = profile.stop() if profile else {}
                if worker is not None:
                    worker.stop()
                answer |= {"runs": next(_count), "first_s": _first_s, "long_starts": _long_starts}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
