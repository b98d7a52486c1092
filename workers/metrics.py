"""Metrics: what this installation does, as Prometheus reads it.

Nothing here is counted in this process's memory, so any process that serves `/metrics` gives the same answer, and a
restart of any process loses nothing:

    counters, histograms   running totals that are written with each move (models.totals); Redis's own for locks
    enqueued, drift        what the chores `totals` and `sweep` found last (workers.ledger.upkeep)
    gauges                 asked now: workers, depth and age of queues

What a scrape costs does not depend on how many tasks there are: the totals are a few rows an actor, a queue is a few
commands. If the database or Redis is away the rest is shown, and `callboard_up` says so.

Must not: count rows of tasks.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from models import database, direct, task_query, totals
from models.database import DatabaseError
from models.task_upkeep import findings
from workers import callboard
from workers.broker import BusFull, BusRefused, BusUnavailable

BUS_TIMEOUT_S: Final = 1.0
_PREFIX: Final = "callboard_"

_logger = logging.getLogger(__name__)


def exposition(accept: str = "") -> tuple[bytes, str]:
    """Every metric of now.

    Args:
        accept: the header of the request; OpenMetrics if it asks for that.

    Returns:
        The text and its content type.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Everything())
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Everything(Collector):
    def collect(self) -> Iterator[Metric]:
        """Each part that can be asked, and which could."""
        up = GaugeMetricFamily(_PREFIX + "up", "Whether the part could be asked for this scrape.", labels=["part"])
        for part, families in (("database", _of_the_database), ("redis", _of_redis)):
            found = _asked(part, families)
            up.add_metric([part], float(found is not None))
            yield from found or []
        yield up


def _asked(part: str, families: Callable[[], Iterable[Metric]]) -> list[Metric] | None:
    try:
        return list(families())
    except (DatabaseError, BusUnavailable, BusFull, BusRefused) as error:
        _logger.warning("metrics are shown without those of the %s: %s", part, error)
        return None


def _of_the_database() -> Iterator[Metric]:
    now = datetime.now(UTC)
    with direct.reading() as to:
        tasks, (schedules,), (flushes,) = (totals.read(to, journal) for journal in totals.ALL)
        found = findings(to)
    with database.reading() as session:
        workers = task_query.live_workers(session, callboard.ledger.presence.alive_since(now))
    yield from _of_tasks(tasks, found.get("totals", {}))
    yield from _of_schedules(schedules)
    yield _histogram("ledger_flush_seconds", "Group commits of the ledger: how long they took.", "seconds",
                     totals.SECONDS, [((), flushes)], [])  # fmt: skip
    yield _histogram("ledger_flush_outcomes", "Group commits of the ledger: how many outcomes they had.", "rows",
                     totals.ROWS, [((), flushes)], [])  # fmt: skip
    yield GaugeMetricFamily(_PREFIX + "workers", "Worker processes that are alive.", value=len(workers))
    threads = sum(one.threads for one in workers)
    yield GaugeMetricFamily(_PREFIX + "worker_threads", "Threads of the workers that are alive.", value=threads)
    drift = GaugeMetricFamily(_PREFIX + "drift", "Differences of ledger and bus that the last sweep found and mended.",
                              labels=["kind"])  # fmt: skip
    for kind in ("without_message", "without_row"):
        drift.add_metric([kind], found.get("sweep", {}).get(kind, 0))
    yield drift


def _of_tasks(rows: list[dict[str, Any]], counted: Mapping[str, int]) -> Iterator[Metric]:
    yield CounterMetricFamily(_PREFIX + "tasks_enqueued", "Tasks accepted, as counted every ten seconds.",
                              value=counted.get("enqueued", 0))  # fmt: skip
    unfinished = GaugeMetricFamily(_PREFIX + "tasks", "Unfinished tasks, as counted every ten seconds.",
                                   labels=["status"])  # fmt: skip
    for status in ("pending", "running"):
        unfinished.add_metric([status], counted.get(status, 0))
    yield unfinished
    labels = ["actor", "queue"]
    finished = CounterMetricFamily(_PREFIX + "tasks_finished", "Tasks that ended.", labels=[*labels, "status"])
    reopened = CounterMetricFamily(_PREFIX + "tasks_reopened", "Ended tasks retried by hand.", labels=labels)
    retries = CounterMetricFamily(_PREFIX + "task_retries", "Attempts that failed and are retried.", labels=labels)
    lost = CounterMetricFamily(_PREFIX + "task_attempts_lost", "Attempts whose worker was lost.", labels=labels)
    for row in rows:
        keys = [row["task_name"], row["queue"]]
        for status in ("completed", "failed", "cancelled"):
            finished.add_metric([*keys, status], row[status])
        for family, name in ((reopened, "reopened"), (retries, "retried"), (lost, "lost")):
            family.add_metric(keys, row[name])
    yield from (finished, reopened, retries, lost)
    keyed = [((row["task_name"], row["queue"]), row) for row in rows]
    yield _histogram("task_wait_seconds", "From when an attempt could start to its start; of attempts that ended.",
                     "wait", totals.SECONDS, keyed, labels)  # fmt: skip
    yield _histogram("task_run_seconds", "From the start of an attempt to its end.", "run", totals.SECONDS, keyed,
                     labels)  # fmt: skip


def _of_schedules(row: Mapping[str, Any]) -> Iterator[Metric]:
    yield _histogram("schedule_lateness_seconds", "From a due time to the sending of its task.", "late",
                     totals.SECONDS, [((), row)], [])  # fmt: skip
    for name, said in (("missed", "nobody was awake"), ("overlapped", "the run before was unfinished")):
        yield CounterMetricFamily(f"{_PREFIX}schedule_{name}", f"Due times left out: {said}.", value=row[name])


def _of_redis() -> Iterator[Metric]:
    messages = GaugeMetricFamily(_PREFIX + "queue_messages", "Messages on the bus.", labels=["queue", "state"])
    oldest = GaugeMetricFamily(_PREFIX + "queue_oldest_seconds", "How long the oldest message has waited that could "
                               "start.", labels=["queue"])  # fmt: skip
    paused = GaugeMetricFamily(_PREFIX + "queue_paused", "Whether the queue is paused.", labels=["queue"])
    for queue in sorted(callboard.broker.get_declared_queues()):
        depth = callboard.broker.depth(queue, timeout_s=BUS_TIMEOUT_S)
        for state in ("waiting", "delayed", "leased", "dead"):
            messages.add_metric([queue, state], getattr(depth, state))
        oldest.add_metric([queue], depth.oldest_age_s)
        paused.add_metric([queue], float(depth.paused))
    yield from (messages, oldest, paused)
    locks = callboard.broker.locks.metrics()
    for counted, name, said in (
        ("acquired", "acquired", "Times a lock was taken."),
        ("held", "waits", "Tasks that found a lock held."),
        ("lost", "lost", "Times a holder lost its lock."),
        ("waited_s", "wait_seconds", "Seconds that those who took a lock had waited for it."),
    ):
        family = CounterMetricFamily(f"{_PREFIX}lock_{name}", said, labels=["lock"])
        for lock, of_it in sorted(locks.items()):
            family.add_metric([lock], getattr(of_it, counted))
        yield family


def _histogram(
    name: str,
    said: str,
    column: str,
    bounds: Iterable[float],
    rows: Iterable[tuple[tuple[str, ...], Mapping[str, Any]]],
    labels: list[str],
) -> Metric:
    family = HistogramMetricFamily(_PREFIX + name, said, labels=labels)
    edges = [*map(floatToGoString, bounds), "+Inf"]
    for keys, row in rows:
        counts = accumulate(row[bucket] for bucket in totals.buckets(column))
        family.add_metric(keys, list(zip(edges, counts, strict=True)), row[f"{column}_sum"])
    return family
