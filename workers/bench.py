"""A measurement of this installation as it is: its database, its Redis, its live workers, what else they have to do.

    send     N self-tests of one step, by `send_many`, at the lowest priority: real work goes first
    wait     until all have ended, the time is up, or somebody interrupts; then what has not begun is cancelled
    read     of each row when it was accepted, started and ended
    forget   the ended rows are deleted, unless they are to be kept

A process that dies in between leaves tasks that end by themselves, and rows that retention takes; all of them have one
correlation id, `bench-…`.

Must not: know the terminal.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Self

from models.task import Task, TaskStatus
from models.task_query import MAX_PAGE, TaskFilter
from workers import bulk, callboard, fleet, tasks
from workers.errors import CallboardError, InvalidTask

ACTOR: Final = "diagnostics.run_self_test"
MAX_TASKS: Final = 100_000
PRIORITY: Final = 1
CHUNK: Final = 1_000
POLL_S: Final = 0.3


@dataclass(frozen=True)
class Measured:
    """What came of it: rates a second, times in seconds; percentiles are of the tasks that completed."""

    tasks: int
    completed: int
    workers: int
    threads: int
    send_s: float
    sent_per_s: float
    drain_s: float
    """From the first send to the last completion."""
    completed_per_s: float
    wait_p50_s: float
    """From acceptance to start."""
    wait_p95_s: float
    run_p50_s: float
    run_p95_s: float
    correlation_id: str


class Bench:
    """One measurement: `send`, `wait`, `measured`, in this order, within `with`, which cancels and forgets at its end.

    Args:
        count: 1–100,000 tasks.
        keep: leave their rows.

    Raises:
        InvalidTask: a count out of bounds.
        CallboardError: no worker is alive.
    """

    def __init__(self, count: int, *, keep: bool = False) -> None:
        if not 1 <= count <= MAX_TASKS:
            raise InvalidTask(f"tasks: expected 1–{MAX_TASKS:,}, got {count}", field="tasks")
        self._alive, _ = fleet.list_workers(alive=True, limit=fleet.PAGE_MAX)
        if not self._alive:
            raise CallboardError("no worker is alive, so nothing would end: start one with `callboard worker`")
        self._count = count
        self._keep = keep
        self._correlation_id = f"bench-{os.urandom(4).hex()}"
        self._began_at = datetime.now(UTC)
        self._send_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        mine = TaskFilter(correlation_id=self._correlation_id)
        while bulk.act(bulk.Action.CANCEL, mine, by="bench, which is over").more:
            pass
        while not self._keep and bulk.act(bulk.Action.DELETE, mine).outcomes.get("deleted"):
            pass

    def send(self, on_sent: Callable[[int], None] = lambda _more: None) -> None:
        """Send them; on_sent is told how many more were. Raises LedgerUnavailable and what else a send raises."""
        actor = callboard.registry.resolve(ACTOR)
        options: dict[str, Any] = {"correlation_id": self._correlation_id, "priority": PRIORITY}
        self._began_at, began_s = datetime.now(UTC), time.monotonic()
        for first in range(0, self._count, CHUNK):
            chunk = min(CHUNK, self._count - first)
            tasks.send_many(
                actor.message_with_options(kwargs={"steps": 1, "seconds": 0.0}, **options) for _ in range(chunk)
            )
            on_sent(chunk)
        self._send_s = time.monotonic() - began_s

    def wait(self, timeout_s: float, on_ended: Callable[[int], None] = lambda _more: None) -> None:
        """Wait until they have ended, or for so long; on_ended is told how many more have."""
        unfinished = [
            TaskFilter(correlation_id=self._correlation_id, status=one)
            for one in (TaskStatus.PENDING, TaskStatus.RUNNING)
        ]
        told, until_s = 0, time.monotonic() + timeout_s
        while True:
            ended = self._count - sum(tasks.count_tasks(one).number for one in unfinished)
            on_ended(ended - told)
            told = ended
            if told == self._count or time.monotonic() >= until_s:
                return
            time.sleep(POLL_S)

    def measured(self) -> Measured:
        """What came of it; raises CallboardError if nothing completed."""
        done = _completed(self._correlation_id)
        if not done:
            raise CallboardError(f"none of {self._count:,} tasks completed in time: `callboard doctor` says why")
        waits = sorted((started - accepted).total_seconds() for accepted, started, _ in done)
        runs = sorted((ended - started).total_seconds() for _, started, ended in done)
        drain_s = (max(ended for *_, ended in done) - self._began_at).total_seconds()
        return Measured(
            tasks=self._count,
            completed=len(done),
            workers=len(self._alive),
            threads=sum(one["threads"] for one in self._alive),
            send_s=self._send_s,
            sent_per_s=self._count / self._send_s,
            drain_s=drain_s,
            completed_per_s=len(done) / drain_s,
            wait_p50_s=waits[len(waits) // 2],
            wait_p95_s=waits[int(len(waits) * 0.95)],
            run_p50_s=runs[len(runs) // 2],
            run_p95_s=runs[int(len(runs) * 0.95)],
            correlation_id=self._correlation_id,
        )


def _completed(correlation_id: str) -> list[tuple[datetime, datetime, datetime]]:
    """When each of those that completed was accepted, started and ended."""
    wanted = TaskFilter(correlation_id=correlation_id, status=TaskStatus.COMPLETED)
    found: list[tuple[datetime, datetime, datetime]] = []
    cursor: str | None = None
    while True:
        page = tasks.find_tasks(wanted, limit=MAX_PAGE, cursor=cursor)
        found += [_times(row) for row in page.rows]
        cursor = page.next_cursor
        if cursor is None:
            return found


def _times(row: Task) -> tuple[datetime, datetime, datetime]:
    assert row.started_at is not None
    assert row.completed_at is not None
    return row.created_at, row.started_at, row.completed_at
