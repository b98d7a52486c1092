"""The bus beside stock RedisBroker, in one run: `python -m tests.benchmarks.bus [--full] [--server redis|valkey]`.

One figure alone, in pairs that take turns (on a busy machine the CPU a message tells more than the ratio):
`python -m tests.benchmarks.bus --only drain-12 --pairs 6`.

Prints a table with ratios and targets; ends with status 1 if a target is missed. Stock and ours take turns, medians are
compared: only the ratio carries over to another machine. Nothing may be lost or run twice: that is counted too.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any, cast

import dramatiq
import redis

from tests.benchmarks.bus_worker import OURS, STOCK, Tally, declare, make_broker, queue_names
from tests.workers.broker.server import REDIS, VALKEY, Server
from workers.broker import CallboardBroker

PAYLOAD = "x" * 64


@dataclass(frozen=True)
class Size:
    """How much is done: messages of a drain, of a sending, samples of a latency, rounds of everything."""

    drain: int
    send: int
    latency: int
    rounds: int


SHORT = Size(drain=30_000, send=4_000, latency=200, rounds=3)
FULL = Size(drain=60_000, send=20_000, latency=1_000, rounds=5)
DRAINS = {"drain-1": 1, "drain-12": 12}
"""What can be measured alone → number of queues."""


class Crew:
    """Worker processes of one kind."""

    def __init__(self, kind: str, url: str, *, processes: int, threads: int, queues: int) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.bus_worker", kind, url, str(queues), str(threads)]
        self._all = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(processes)
        ]
        for process in self._all:
            self._hear(process)

    def _hear(self, process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("a worker process of the benchmark ended early")
        return line

    def _tell(self) -> None:
        for process in self._all:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()

    def start(self) -> None:
        self._tell()
        for process in self._all:
            self._hear(process)

    def stop(self) -> list[dict[str, Any]]:
        self._tell()
        reports = [cast("dict[str, Any]", json.loads(self._hear(process))) for process in self._all]
        for process in self._all:
            process.wait()
        return reports


class Bench:
    """Measures one kind on one server."""

    def __init__(self, kind: str, server: Server) -> None:
        self.kind = kind
        self.server = server
        self.client = server.client()
        self.broker = make_broker(kind, server.url)

    def left(self, queues: int) -> int:
        """Messages not acknowledged yet."""
        if self.kind == OURS:
            return self.client.hlen("{callboard}:messages")
        pipe = self.client.pipeline(transaction=False)
        for name in queue_names(queues):
            pipe.hlen(f"dramatiq:{name}.msgs")
        return sum(cast("list[int]", pipe.execute()))

    def fill(self, count: int, queues: int) -> None:
        actors = declare(make_broker(self.kind, self.server.url), queues, Tally())
        messages = [actors[i % queues].message(PAYLOAD, 0.0) for i in range(count)]
        if isinstance(self.broker, CallboardBroker):
            self.broker.enqueue_many(messages)
        else:
            for message in messages:
                self.broker.enqueue(message)

    def drain(self, count: int, *, processes: int, threads: int, queues: int) -> dict[str, float]:
        """Messages a second, from the workers' start until all are acknowledged."""
        self.client.flushall()
        crew = Crew(self.kind, self.server.url, processes=processes, threads=threads, queues=queues)
        self.fill(count, queues)
        server_cpu_s = self._server_cpu_s()
        crew.start()
        started_s = time.monotonic()
        while self.left(queues):
            if time.monotonic() - started_s > 120:
                raise RuntimeError(f"{self.kind}: {self.left(queues)} of {count} left after 120 s")
            time.sleep(0.02)  # why: looking more often would slow down what is measured
        elapsed_s = time.monotonic() - started_s
        server_us = (self._server_cpu_s() - server_cpu_s) / count * 1e6
        reports = crew.stop()
        runs = sum(report["runs"] for report in reports)
        if runs != count:
            raise RuntimeError(f"{self.kind}: expected {count} runs, got {runs}")
        cpu_us = sum(report["cpu_s"] for report in reports) / count * 1e6
        return {
            "per_s": count / elapsed_s,
            "server_us": server_us,
            "worker_us": cpu_us,
            "memory_mb": max(report["memory_mb"] for report in reports),
        }

    def _server_cpu_s(self) -> float:
        info = cast("dict[str, float]", self.client.info("cpu"))
        return info["used_cpu_sys"] + info["used_cpu_user"]

    def send(self, count: int) -> float:
        """Single sends a second, one thread."""
        self.client.flushall()
        actor = declare(make_broker(self.kind, self.server.url), 1, Tally())[0]
        started_s = time.monotonic()
        for _ in range(count):
            actor.send(PAYLOAD, 0.0)
        return count / (time.monotonic() - started_s)

    def send_many(self, count: int) -> float:
        """Messages a second by `enqueue_many`, one thread, made before."""
        assert isinstance(self.broker, CallboardBroker)
        self.client.flushall()
        actor = declare(make_broker(self.kind, self.server.url), 1, Tally())[0]
        messages = [actor.message(PAYLOAD, 0.0) for _ in range(count)]
        started_s = time.monotonic()
        self.broker.enqueue_many(messages)
        return count / (time.monotonic() - started_s)

    def idle(self, samples: int) -> dict[str, float]:
        """Milliseconds from just before `send` to the actor's first line, 2 x 8 idle threads, 12 queues; and how many
        commands a worker process sends while nothing happens."""
        self.client.flushall()
        crew = Crew(self.kind, self.server.url, processes=2, threads=8, queues=12)
        actors = declare(make_broker(self.kind, self.server.url), 12, Tally())
        crew.start()
        time.sleep(1.5)  # why: workers settle into idleness, which is what is measured
        # Latency first: a pause between that no poller can fall into step with.
        for _ in range(samples):
            time.sleep(random.uniform(0.01, 0.06))  # why: as above
            random.choice(actors).send(PAYLOAD, time.time())
        time.sleep(1.0)  # why: the last ones end
        before = cast("dict[str, int]", self.client.info("stats"))["total_commands_processed"]
        calls_before = self._client_calls()
        time.sleep(6.0)  # why: the length of the measurement
        after = cast("dict[str, int]", self.client.info("stats"))["total_commands_processed"]
        calls_after = self._client_calls()
        reports = crew.stop()
        latencies = sorted(value for report in reports for value in report["latencies_ms"])
        if len(latencies) != samples:
            raise RuntimeError(f"{self.kind}: expected {samples} runs, got {len(latencies)}")
        return {
            "p50_ms": latencies[len(latencies) // 2],
            "p99_ms": latencies[int(len(latencies) * 0.99)],
            "commands_per_s": (after - before) / 6.0 / 2,
            "calls_per_s": (calls_after - calls_before) / 6.0 / 2,
        }

    def _client_calls(self) -> int:
        """Commands that came over the wire: script calls and blocking pops (stock: script calls)."""
        stats = cast("dict[str, dict[str, int]]", self.client.info("commandstats"))
        return sum(value["calls"] for name, value in stats.items() if name in {"cmdstat_evalsha", "cmdstat_blpop"})


@dataclass
class Row:
    """One line of the table: a figure of each, and what the ratio or ours must be."""

    name: str
    stock: float
    ours: float
    target: str
    met: bool | None

    def __str__(self) -> str:
        ratio = f"{self.ours / self.stock:6.2f}x" if self.stock else "      -"
        mark = {True: "met", False: "MISSED", None: ""}[self.met]
        return f"{self.name:34} {self.stock:10.1f} {self.ours:10.1f} {ratio}  {self.target:22} {mark}"


def measure(size: Size, kind_of_server: str) -> list[Row]:
    """Runs everything; returns the table."""
    server = Server(kind_of_server)
    try:
        return _measure(size, server)
    finally:
        server.remove()


def _measure(size: Size, server: Server) -> list[Row]:
    benches = {kind: Bench(kind, server) for kind in (STOCK, OURS)}
    figures: dict[tuple[str, str], list[float]] = {}

    def note(kind: str, name: str, value: float) -> None:
        figures.setdefault((kind, name), []).append(value)

    for _ in range(size.rounds):
        for kind, bench in benches.items():
            note(kind, "send", bench.send(size.send))
            if kind == OURS:
                note(kind, "send many", bench.send_many(size.send * 10))
            for name, queues in (("drain 1", 1), ("drain 12", 12)):
                result = bench.drain(size.drain, processes=2, threads=8, queues=queues)
                note(kind, name, result["per_s"])
                note(kind, name + " worker us", result["worker_us"])
                note(kind, name + " server us", result["server_us"])
                note(kind, "memory", result["memory_mb"])
            count = size.drain // 16 if kind == STOCK else size.drain // 2
            note(kind, "one thread", bench.drain(count, processes=1, threads=1, queues=1)["per_s"])
    for kind, bench in benches.items():
        for name, value in bench.idle(size.latency).items():
            note(kind, name, value)

    def of(kind: str, name: str) -> float:
        return statistics.median(figures[kind, name])

    def row(label: str, name: str, target: str, met: bool | None) -> Row:
        return Row(label, of(STOCK, name), of(OURS, name), target, met)

    def ratio(name: str) -> float:
        return of(OURS, name) / of(STOCK, name)

    return [
        row("send/s", "send", "", None),
        Row(
            "send_many/s (stock: send/s)",
            of(STOCK, "send"),
            of(OURS, "send many"),
            ">= 15x",
            of(OURS, "send many") >= 15 * of(STOCK, "send"),
        ),
        row("drain/s, 1 queue, 2x8 threads", "drain 1", ">= 3.5x", ratio("drain 1") >= 3.5),
        row("drain/s, 12 queues, 2x8 threads", "drain 12", ">= 3.5x", ratio("drain 12") >= 3.5),
        row("  worker CPU us/message, 1 queue", "drain 1 worker us", "", None),
        row("  server CPU us/message, 1 queue", "drain 1 server us", "", None),
        row("  worker CPU us/message, 12 queues", "drain 12 worker us", "", None),
        row("  server CPU us/message, 12 queues", "drain 12 server us", "", None),
        row("drain/s, one thread", "one thread", ">= 10x", ratio("one thread") >= 10),
        row("idle latency p50 ms", "p50_ms", "<= 1.5 ms", of(OURS, "p50_ms") <= 1.5),
        row("idle latency p99 ms", "p99_ms", "<= 5 ms", of(OURS, "p99_ms") <= 5),
        row("idle calls/s a process, 12 queues", "calls_per_s", "< 5", of(OURS, "calls_per_s") < 5),
        row("  with commands inside scripts", "commands_per_s", "", None),
        row("memory MB a worker process", "memory", "<= stock + 10 MB", of(OURS, "memory") <= of(STOCK, "memory") + 10),
    ]


def drain_in_pairs(queues: int, pairs: int, count: int, kind_of_server: str) -> None:
    """Prints each pair of drains, stock's and ours in turn, and the medians."""
    server = Server(kind_of_server)
    try:
        benches = [Bench(kind, server) for kind in (STOCK, OURS)]
        ratios: list[tuple[float, float]] = []
        print(f"{'':10} {'per s':>17} {'worker us':>13} {'server us':>13} {'cores busy':>13} {'ratio':>7} {'CPU':>6}")
        for number in range(pairs):
            first, second = (bench.drain(count, processes=2, threads=8, queues=queues) for bench in benches)
            cpu_us = [result["worker_us"] + result["server_us"] for result in (first, second)]
            cores = [us * result["per_s"] / 1e6 for us, result in zip(cpu_us, (first, second), strict=True)]
            ratios.append((second["per_s"] / first["per_s"], cpu_us[1] / cpu_us[0]))
            print(
                f"pair {number + 1:<5} {first['per_s']:8.0f} {second['per_s']:8.0f}"
                f" {first['worker_us']:6.0f} {second['worker_us']:6.0f} {first['server_us']:6.0f}"
                f" {second['server_us']:6.0f} {cores[0]:6.2f} {cores[1]:6.2f}"
                f" {ratios[-1][0]:6.2f}x {ratios[-1][1]:6.3f}",
                flush=True,
            )
        per_s, cpu = (statistics.median(column) for column in zip(*ratios, strict=True))
        print(
            f"{queues} queues, median of {pairs} pairs: {per_s:.2f} x stock (target 3.5), CPU a message {cpu:.3f} of it"
        )
    finally:
        server.remove()


def main() -> None:
    """Prints the table; exits with 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="more messages, more rounds")
    parser.add_argument("--only", choices=sorted(DRAINS), help="measure this alone, in pairs of stock and ours")
    parser.add_argument("--pairs", type=int, default=6, help="how many, with --only (default 6)")
    parser.add_argument("--server", choices=[REDIS, VALKEY], default=VALKEY)
    arguments = parser.parse_args()
    if arguments.only:
        size = FULL if arguments.full else SHORT
        drain_in_pairs(DRAINS[arguments.only], arguments.pairs, size.drain, arguments.server)
        return
    rows = measure(FULL if arguments.full else SHORT, arguments.server)
    print(f"dramatiq {dramatiq.__version__}, redis-py {redis.__version__}, server: {arguments.server}")
    print(f"{'':34} {'stock':>10} {'ours':>10} {'ratio':>7}  target")
    for row in rows:
        print(row)
    if any(row.met is False for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
