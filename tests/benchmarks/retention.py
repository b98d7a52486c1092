"""Retention beside live work: `python -m tests.benchmarks.retention [--rows 10000000] [--database sqlite|postgresql]
[--clean-up]`.

Fills a fresh database: half of the rows are old enough to go, half only lose their results. Then prunes turn by turn as
upkeep does, beside a process that has 2,000 tasks a second accepted and ended in batches of 200, and prints what went a
second and how long the live process's transactions took with and without it. Ends with status 1 if pruning does not
keep up with that stream (each kind of it, both at once).

--clean-up: all rows are old enough to go, and what removes them is the work of `maintenance.cleanup_old_data`, beside
1,000 tasks a second. Ends with status 1 if one is left in --seconds, a live transaction failed, or a statement (of the
clean-up or, with its wait, of live work) took a second.
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
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType

from models import database, direct, schema, task_moves
from models.direct import SqliteDirect
from models.postgres import PostgresDirect
from models.retention import Retention
from models.task import AttemptOutcome, TaskStatus, new_task_id
from models.task_moves import End, NewTask
from tests import servers
from tests.models import crowd
from workers.actors import maintenance

STREAM_PER_S = 2_000
CLEAN_UP_STREAM_PER_S = 1_000
LONGEST_S = 1.0
BATCH = 200
TICK_S = 0.5
"""Between two turns, as upkeep has it."""
DAY = timedelta(days=1)


def live(seconds: float, per_s: int) -> None:
    """Accept and end tasks at a steady pace; prints how long each transaction took, in ms, as JSON."""
    took_ms: list[float] = []
    began_s = time.monotonic()
    batches = 0
    while time.monotonic() - began_s < seconds:
        now = datetime.now(UTC)
        tasks = [NewTask(new_task_id(), "live.task", "live", created_at=now, enqueued_at=now) for _ in range(BATCH)]
        ends = [
            End(
                one.task_id, 1, "w", started_at=now, finished_at=now, status=TaskStatus.COMPLETED,
                outcome=AttemptOutcome.COMPLETED, result="[1]",
            )
            for one in tasks
        ]  # fmt: skip
        for move in (
            lambda to, tasks=tasks: task_moves.accept(to, tasks),
            lambda to, ends=ends: task_moves.end(to, ends),
        ):
            asked_s = time.monotonic()
            with direct.transaction() as to:
                move(to)
            took_ms.append((time.monotonic() - asked_s) * 1000)
        batches += 1
        time.sleep(max(0.0, began_s + batches * BATCH / per_s - time.monotonic()))  # why: the stream's pace
    print(json.dumps({"took_ms": took_ms, "tasks_per_s": batches * BATCH / (time.monotonic() - began_s)}))


def _start_live(url: str, seconds: float, per_s: int = STREAM_PER_S) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.benchmarks.retention", "--live", str(seconds), "--database", url]
    command += ["--per-s", str(per_s)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))


def _report(what: str, process: subprocess.Popen[str]) -> float:
    said = json.loads(process.communicate()[0])
    assert process.returncode == 0, "a live transaction failed"
    took_ms = sorted(said["took_ms"])
    p99 = took_ms[int(len(took_ms) * 0.99)]
    print(
        f"live work {what}: {said['tasks_per_s']:,.0f} tasks/s; a transaction of {BATCH} tasks took"
        f" {statistics.median(took_ms):.0f} ms (median), {p99:.0f} ms (p99), {took_ms[-1]:.0f} ms (longest)"
    )
    return took_ms[-1]


def measure(url: str, rows: int, seconds: float) -> bool:
    """Fill, prune, print; returns whether pruning keeps up."""
    now = datetime.now(UTC)
    began_s = time.monotonic()
    crowd.fill(rows // 2, first=now - 60 * DAY, last=now - 31 * DAY)
    crowd.fill(rows - rows // 2, first=now - 29 * DAY, last=now - 8 * DAY, start=rows)
    with direct.transaction() as to:
        crowd.settle(to)
    print(f"{rows:,} rows with attempts written in {time.monotonic() - began_s:.0f} s", flush=True)
    _report("alone", _start_live(url, 10.0))

    beside = _start_live(url, seconds)
    retention = Retention(result_days=7, task_days=30)
    gone = {"tasks": 0, "results": 0}
    turns_ms = []
    began_s = time.monotonic()
    finished = False
    while time.monotonic() - began_s < seconds and not finished:
        turn_s = time.monotonic()
        found = retention.turn(now)
        turns_ms.append((time.monotonic() - turn_s) * 1000)
        gone = {name: gone[name] + found[name] for name in gone}
        finished = not found["more"]
        time.sleep(TICK_S)  # why: upkeep's pace
    took_s = time.monotonic() - began_s
    rates = {name: count / took_s for name, count in gone.items()}
    print(
        f"pruned in {took_s:.0f} s, rests included: {gone['tasks']:,} tasks ({rates['tasks']:,.0f}/s) and"
        f" {gone['results']:,} results ({rates['results']:,.0f}/s); longest turn {max(turns_ms):.0f} ms"
        + ("; nothing is left" if finished else "")
    )
    _report("beside", beside)
    keeps_up = all(rate >= STREAM_PER_S for rate in rates.values())
    print(f"keeps up with {STREAM_PER_S:,} tasks/s: {'yes' if keeps_up else 'NO'}")
    return keeps_up


def clean_up(url: str, rows: int, seconds: float) -> bool:
    """Fill, have the actor's work done until nothing is left, print; returns whether it was in time and in bounds."""
    now = datetime.now(UTC)
    crowd.fill(rows, first=now - 60 * DAY, last=now - 31 * DAY)
    with direct.transaction() as to:
        crowd.settle(to)
        to.run("UPDATE background_tasks SET status = 'cancelled', completed_at = created_at WHERE completed_at IS NULL")
    print(
        f"{rows:,} expired rows with attempts written in {(datetime.now(UTC) - now).total_seconds():.0f} s", flush=True
    )
    _report("alone", _start_live(url, 10.0, CLEAN_UP_STREAM_PER_S))

    longest = _Longest()
    beside = _start_live(url, seconds, CLEAN_UP_STREAM_PER_S)
    gone, began_s = 0, time.monotonic()
    is_done = False
    with longest.watched():
        while not is_done and time.monotonic() - began_s < seconds:
            found = maintenance.forget_old_data(None)
            gone, is_done = gone + found["tasks"], found["is_done"]
    took_s = time.monotonic() - began_s
    print(f"{gone:,} of {rows:,} rows went in {took_s:.0f} s ({gone / took_s:,.0f}/s, rests included); the longest of "
          f"{longest.count:,} statements took {longest.s * 1000:.0f} ms: {longest.statement[:70]}")  # fmt: skip
    slowest_ms = _report("beside", beside)
    is_well = gone == rows and max(longest.s, slowest_ms / 1000) < LONGEST_S
    print(f"all gone, no statement of {LONGEST_S:g} s, no failed task: {'yes' if is_well else 'NO'}")
    return is_well


class _Longest:
    """The longest statement of this process's direct connections."""

    def __init__(self) -> None:
        self.s, self.statement, self.count = 0.0, "", 0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Time each statement inside, by Python's profiler."""
        codes = {
            getattr(kind, name).__code__
            for kind in (SqliteDirect, PostgresDirect)
            for name in ("run", "run_counted", "run_counted_many")
        }
        began: list[float] = []

        def profile(frame: FrameType, event: str, _what: object) -> None:
            if frame.f_code not in codes:
                return
            if event == "call":
                began.append(time.perf_counter())
            elif event == "return":
                took_s = time.perf_counter() - began.pop()
                self.count += 1
                if took_s > self.s:
                    self.s, self.statement = took_s, frame.f_locals["sql"]

        sys.setprofile(profile)
        try:
            yield
        finally:
            sys.setprofile(None)


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to prune at most")
    parser.add_argument("--database", default="sqlite", help="sqlite, postgresql (both made for it), or an empty one")
    parser.add_argument("--clean-up", action="store_true", help="the work of maintenance.cleanup_old_data")
    parser.add_argument("--per-s", type=int, default=STREAM_PER_S, help=argparse.SUPPRESS)
    parser.add_argument("--live", type=float, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    with ExitStack() as stack:
        url = asked.database
        if url == "sqlite":
            url = f"sqlite:///{Path(stack.enter_context(tempfile.TemporaryDirectory())) / 'retention.db'}"
        elif url == "postgresql":
            url = stack.enter_context(servers.postgres_server())
        database.bind(url)
        if asked.live:
            live(asked.live, asked.per_s)
            return 0
        schema.upgrade()
        return 0 if (clean_up if asked.clean_up else measure)(url, asked.rows, asked.seconds) else 1


if __name__ == "__main__":
    sys.exit(main())
