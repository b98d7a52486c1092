"""Lists in a large table: `python -m tests.benchmarks.lists [--rows 1000000] [--database sqlite|postgresql|URL]`.

Fills a fresh database with tasks of many kinds, then asks for the first page (100 rows) of each single filter, frequent
and rare, and of random combinations of up to four, each with the count that is shown beside it; counts them by
themselves, which may take a second; then pages by cursor at several depths. Prints p50, p95 and the slowest, in
milliseconds. Ends with status 1 if the p95 of first pages with their counts is above 50 ms.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from models import database, direct, schema, task_cursor, task_query
from models.retention import id_at
from models.task import TaskStatus, TaskType
from models.task_cursor import Place
from models.task_query import TaskFilter
from tests import servers

TARGET_MS = 50.0
CHUNK = 50_000
"""Rows of a transaction; on a busy machine a larger one meets the watchdog of models.postgres."""
SPAN = timedelta(days=30)
COMBINATIONS = 300

_VALUES = {
    "task_name": "CASE WHEN i % 100000 = 7 THEN 'crowd.rare' ELSE 'crowd.n' || (i % 40) END",
    "task_type": "CASE WHEN i % 100000 = 7 THEN 'media' WHEN i % 100 = 3 THEN 'network' ELSE 'email' END",
    "queue": "CASE WHEN i % 50000 = 11 THEN 'rare' ELSE 'q' || (i % 12) END",
    "priority": "1 + i % 10",
    "status": "CASE WHEN i % 1000 = 0 THEN 'pending' WHEN i % 10000 = 1 THEN 'running' WHEN i % 100 = 2 THEN 'failed'"
    " WHEN i % 200 = 3 THEN 'cancelled' ELSE 'completed' END",
    "error_message": "CASE WHEN i % 100 = 2 THEN 'no answer from host db' || (i / 100 % 1000) END",
    "params": """'{"args":[],"kwargs":{"customer":"c-123456","copies":2,"note":"of an ordinary length"}}'""",
    "options": "'{}'",
    "result": """'{"sent":true,"to":"someone@example.org","bytes":20480}'""",
    "attempt": "1",
    "retry_count": "0",
    "max_retries": "3",
    "worker_id": "'w'",
    "tags": """CASE WHEN i % 10 = 4 THEN '["batch", "t' || (i / 10 % 500) || '"]' ELSE '[]' END""",
    "correlation_id": "CASE WHEN i % 20 = 0 THEN 'c-' || (i / 200) ELSE id END",
    "parent_id": "CASE WHEN i % 20 = 1 THEN 'p-' || (i / 100) END",
    "group_id": "CASE WHEN i % 50 = 2 THEN 'g-' || (i / 5000) END",
    "schedule_id": "CASE WHEN i % 20 = 3 THEN 's-' || (i / 20 % 30) END",
    "created_at": "at",
    "enqueued_at": "at",
    "started_at": "CASE WHEN i % 1000 > 0 THEN at END",
    "completed_at": "CASE WHEN i % 1000 > 1 THEN done END",
}
"""Column → its value in row number i, as both databases understand it."""

_JSON = ("params", "options", "result", "tags")


def fill(rows: int, first: datetime, last: datetime) -> None:
    """Write rows at even distances between two moments, made by the database itself."""
    first_ms, step_ms = first.timestamp() * 1000, (last - first).total_seconds() * 1000 / rows
    for start in range(0, rows, CHUNK):
        end = min(rows, start + CHUNK) - 1
        with direct.transaction() as to:
            if to.dialect == "sqlite":
                source = (
                    f"WITH RECURSIVE n (i) AS (SELECT {start} UNION ALL SELECT i + 1 FROM n WHERE i < {end}), m AS"
                    f" (SELECT i, CAST({first_ms} + i * {step_ms} AS INTEGER) AS ms FROM n), v AS (SELECT i,"
                    " printf('%08x-%04x-7000-8000-%012x', ms >> 16, ms & 65535, i) AS id,"
                    " strftime('%Y-%m-%d %H:%M:%f', ms / 1000.0, 'unixepoch') || '000' AS at,"
                    " strftime('%Y-%m-%d %H:%M:%f', (ms + i * 7919 % 5000) / 1000.0, 'unixepoch') || '000' AS done"
                    " FROM m)"
                )
            else:
                source = (
                    f"WITH m AS (SELECT i, ({first_ms} + i * {step_ms})::bigint AS ms"
                    f" FROM generate_series({start}, {end}) AS i), v AS (SELECT i, lpad(to_hex(ms >> 16), 8, '0')"
                    " || '-' || lpad(to_hex(ms & 65535), 4, '0') || '-7000-8000-' || lpad(to_hex(i), 12, '0') AS id,"
                    " to_timestamp(ms / 1000.0) AS at, to_timestamp((ms + i::bigint * 7919 % 5000) / 1000.0) AS done"
                    " FROM m)"
                )
            values = ", ".join(
                f"({value})::json" if to.dialect != "sqlite" and name in _JSON else value
                for name, value in _VALUES.items()
            )  # fmt: skip
            into = f"INSERT INTO background_tasks (task_id, {', '.join(_VALUES)})"
            sql = f"{into} {source} SELECT id, {values} FROM v" if to.dialect == "sqlite" else (
                f"{source} {into} SELECT id, {values} FROM v")  # fmt: skip
            to.run(sql if to.dialect == "sqlite" else sql.replace("%", "%%"), ())
    # why not by models.direct: its watchdog would end what takes longer than a transaction may.
    with database.engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(
            "ANALYZE" if database.sqlite_path() is not None else "VACUUM ANALYZE background_tasks"
        )


def singles(rows: int, first: datetime, last: datetime) -> list[TaskFilter]:
    """A frequent and a rare value of each field."""
    half = first + (last - first) / 2
    middle = rows // 2
    return [
        TaskFilter(),
        *(TaskFilter(status=status) for status in TaskStatus),
        *(TaskFilter(task_name=name) for name in ("crowd.n3", "crowd.rare", "nobody")),
        *(TaskFilter(task_type=kind) for kind in (TaskType.EMAIL, TaskType.NETWORK, TaskType.MEDIA, TaskType.JOB)),
        *(TaskFilter(queue=queue) for queue in ("q3", "rare", "nowhere")),
        *(TaskFilter(priority=priority) for priority in (1, 10)),
        *(TaskFilter(tag=tag) for tag in ("batch", "t7", "none")),
        *(TaskFilter(correlation_id=one) for one in (f"c-{middle // 200}", "nothing")),
        *(TaskFilter(parent_id=one) for one in (f"p-{middle // 100}", "nothing")),
        TaskFilter(group_id=f"g-{middle // 5000}"),
        TaskFilter(schedule_id="s-3"),
        *(TaskFilter(q=q) for q in ("crowd.n3", "host db77", "not to be found")),
        TaskFilter(since=last - timedelta(hours=1)),
        TaskFilter(until=half),
        TaskFilter(since=half, until=half + timedelta(hours=1)),
    ]


def combined(one_by_one: list[TaskFilter], count: int, seed: int) -> list[TaskFilter]:
    """Random combinations of two to four of them."""
    chance = random.Random(seed)
    found = []
    for _ in range(count):
        fields: dict[str, Any] = {}
        for one in chance.sample(one_by_one, chance.choice((2, 2, 3, 4))):
            fields |= one.given()
        found.append(TaskFilter(**fields))
    return found


def measured(asks: list[tuple[str, Callable[[Any], object]]]) -> float:
    """Ask each four times, and print and return the p95, in ms, of what the quicker two of the last three took at most:
    the first fills the caches, and this machine may have other work. Beside it, the processor time of the same: what is
    left of it on a machine of its own."""
    took: list[tuple[float, float, str]] = []
    for name, ask in asks:
        each_ms, work_ms = [], []
        for _ in range(4):
            with database.reading() as session:
                began_s, worked_s = time.perf_counter(), _worked_s(session)
                ask(session)
                each_ms.append((time.perf_counter() - began_s) * 1000)
                work_ms.append((_worked_s(session) - worked_s) * 1000)
        took.append((statistics.median(each_ms[1:]), statistics.median(work_ms[1:]), name))
    took.sort()
    p50, p95 = (took[int(len(took) * share)][0] for share in (0.5, 0.95))
    work = sorted(one[1] for one in took)
    work_p50, work_p95 = (work[int(len(work) * share)] for share in (0.5, 0.95))
    print(f"  {len(took)} questions: p50 {p50:.1f} ms, p95 {p95:.1f} ms, of work {work_p50:.1f} and {work_p95:.1f} ms")
    for ms, worked_ms, name in took[:-4:-1]:
        print(f"    {ms:8.1f} ms, of work {worked_ms:6.1f} ms: {name}", flush=True)
    return p95


def _worked_s(session: Any) -> float:
    """Processor time of this process, and of PostgreSQL's that serves the session where Linux tells it."""
    spent_s = time.process_time()
    if session.get_bind().dialect.name == "postgresql":
        pid = session.connection().connection.dbapi_connection.info.backend_pid
        with suppress(OSError):
            spent_s += int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    return spent_s


def _name(wanted: TaskFilter, sort: str = "-created_at") -> str:
    said = " ".join(f"{name}={value}" for name, value in wanted.given().items()) or "all"
    return said if sort == "-created_at" else f"{said} sort={sort}"


def measure(rows: int) -> bool:
    """Fill, ask, print; returns whether first pages keep within the target."""
    last = datetime.now(UTC)
    first = last - SPAN
    began_s = time.monotonic()
    fill(rows, first, last)
    print(f"{rows:,} rows written in {time.monotonic() - began_s:.0f} s", flush=True)
    print(f"{os.getloadavg()[0]:.0f} processes want to run on {os.cpu_count()} processors", flush=True)
    one_by_one = singles(rows, first, last)
    filters = [*one_by_one, *combined(one_by_one, COMBINATIONS, seed=1)]
    print("first page and count, by id:")
    by_id_ms = measured([
        (_name(one), lambda session, one=one: task_query.search_and_count(session, one)) for one in filters
    ])  # fmt: skip
    print("first page and count, by duration or priority:")
    by_value_ms = measured([
        (_name(one, sort), lambda session, one=one, sort=sort: task_query.search_and_count(session, one, sort=sort))
        for one in filters[:120] for sort in ("-duration", "priority")
    ])  # fmt: skip
    print("first page alone, by id:")
    measured([(_name(one), lambda session, one=one: task_query.search(session, one)) for one in filters])
    print("count by itself:")
    measured([(_name(one), lambda session, one=one: task_query.counted(session, one)) for one in filters])
    print("a page of 100 by cursor, at a depth of so much of the table:")
    for wanted in (TaskFilter(), TaskFilter(status=TaskStatus.FAILED), TaskFilter(queue="q3")):
        depths = []
        for share in (0.0, 0.1, 0.5, 0.9, 0.99):
            cursor = task_cursor.write(Place(id_at(last - SPAN * share)), wanted, "-created_at")
            with database.reading() as session:
                began_s = time.perf_counter()
                for _ in range(10):
                    task_query.search(session, wanted, cursor=cursor)
                depths.append(f"{share:.0%} {(time.perf_counter() - began_s) * 100:.1f} ms")
        print(f"  {_name(wanted)}: {', '.join(depths)}", flush=True)
    keeps = max(by_id_ms, by_value_ms) < TARGET_MS
    print(f"p95 of first pages with counts below {TARGET_MS:.0f} ms: {'yes' if keeps else 'NO'}")
    return keeps


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--database", default="sqlite", help="sqlite, postgresql (both made for it), or an empty one")
    asked = parser.parse_args()
    with ExitStack() as stack:
        url = asked.database
        if url == "sqlite":
            url = f"sqlite:///{Path(stack.enter_context(tempfile.TemporaryDirectory())) / 'lists.db'}"
        elif url == "postgresql":
            url = stack.enter_context(servers.postgres_server())
        database.bind(url)
        schema.upgrade()
        return 0 if measure(asked.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
