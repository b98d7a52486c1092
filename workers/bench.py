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
from typing import Final

from models.task import Task, TaskStatus
from models.task_query import MAX_PAGE, TaskFilter
from workers import bulk, callboard, fleet, tasks
from workers.errors import CallboardError, InvalidTask

ACTOR: Final = "diagnostics.run_self_test"
MAX_TASKS: Final = 100_000
PRIORITY: Final = 1
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


def measure(
    count: int, *, timeout_s: float, keep: bool = False, on_end: Callable[[int], None] = lambda _more: None
) -> Measured:
    """Send that many tasks, and measure until they have ended.

    Args:
        count: 1–100,000.
        timeout_s: how long to wait for their end.
        keep: leave the rows.
        on_end: told how many more have ended.

    Raises:
        InvalidTask: a count out of bounds.
        CallboardError: no worker is alive, or no task completed in time.
        LedgerUnavailable, BusUnavailable: what was sent runs all the same.
    """
    if not 1 <= count <= MAX_TASKS:
        raise InvalidTask(f"tasks: expected 1–{MAX_TASKS:,}, got {count}", field="tasks")
    alive, _ = fleet.list_workers(alive=True, limit=fleet.PAGE_MAX)
    if not alive:
        raise CallboardError("no worker is alive, so nothing would end: start one with `callboard worker`")
    correlation_id = f"bench-{os.urandom(4).hex()}"
    wanted, actor = TaskFilter(correlation_id=correlation_id), callboard.registry.resolve(ACTOR)
    messages = [
        actor.message_with_options(
            kwargs={"steps": 1, "seconds": 0.0}, priority=PRIORITY, correlation_id=correlation_id
        )
        for _ in range(count)
    ]
    began_s, began_at = time.monotonic(), datetime.now(UTC)
    try:
        tasks.send_many(messages)
        send_s = time.monotonic() - began_s
        _wait(correlation_id, count, began_s + timeout_s, on_end)
        bulk.act(bulk.Action.CANCEL, wanted, by="bench, whose time was up")
        done = _completed(correlation_id)
    finally:
        bulk.act(bulk.Action.CANCEL, wanted, by="bench, interrupted")
        if not keep:
            while bulk.act(bulk.Action.DELETE, wanted).outcomes.get("deleted"):
                pass
    if not done:
        raise CallboardError(f"none of {count:,} tasks completed within {timeout_s:g} s: `callboard doctor` says why")
    waits = sorted((started - accepted).total_seconds() for accepted, started, _ in done)
    runs = sorted((ended - started).total_seconds() for _, started, ended in done)
    drain_s = (max(ended for *_, ended in done) - began_at).total_seconds()
    return Measured(
        tasks=count,
        completed=len(done),
        workers=len(alive),
        threads=sum(one["threads"] for one in alive),
        send_s=send_s,
        sent_per_s=count / send_s,
        drain_s=drain_s,
        completed_per_s=len(done) / drain_s,
        wait_p50_s=waits[len(waits) // 2],
        wait_p95_s=waits[int(len(waits) * 0.95)],
        run_p50_s=runs[len(runs) // 2],
        run_p95_s=runs[int(len(runs) * 0.95)],
        correlation_id=correlation_id,
    )


def _wait(correlation_id: str, count: int, until_s: float, on_end: Callable[[int], None]) -> None:
    unfinished = [
        TaskFilter(correlation_id=correlation_id, status=one) for one in (TaskStatus.PENDING, TaskStatus.RUNNING)
    ]
    told = 0
    while told < count and time.monotonic() < until_s:
        ended = count - sum(tasks.count_tasks(one).number for one in unfinished)
        on_end(ended - told)
        told = ended
        if told < count:
            time.sleep(POLL_S)


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
