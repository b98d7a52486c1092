"""Running totals: what was ever counted, exactly once, whatever died since and whatever retention has pruned.

A table of totals holds rows to be added up; nothing else is ever said of one of its rows.

    a move of a task's row, a run of a schedule ──→ a row more      in the very transaction (on PostgreSQL the very
                                                                    statement) that makes the move
    many rows ──fold──→ one row a key, their sums                   the chore `totals`, every few seconds

Why rows and no counters that are updated: who only appends waits for nobody and cannot deadlock, so it costs a group
commit one small insert for each actor in it. What a crash leaves: move and count are both done or both not. A move
that is made again (its commit's answer was lost) moves nothing, and so counts nothing. A fold takes rows away and adds
their sum in one transaction: the sum over the table is the same before and after, and two that fold at once take
different rows. A reader adds up in one statement, which sees the table as of one moment; so what he sees only grows.

`enqueued` is not counted, as a send pays for each microsecond: each task that was ever accepted is either unfinished,
which an index counts, or has been counted when it ended or was withdrawn; a retry by hand takes it back (`enqueued`).

Times of flushes are no moves: a process that dies takes those of its last second along (workers.ledger.scribe).

Must not: import SQLAlchemy (models.total_tables has the tables); read the clock.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import Any, Final

import msgspec

from models.direct import Direct, marked

SECONDS: Final = (0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0)
"""Upper bounds of the buckets of a duration; above the last there is one more."""
ROWS: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
"""The same of the size of a flush."""
FOLD_FROM: Final = 100
"""With fewer rows than this a fold leaves them."""
FOLD_MOST: Final = 10_000


def buckets(name: str) -> list[str]:
    """The columns of a histogram: how many fell into each bucket, not cumulative."""
    return [f"{name}_{number}" for number in range(len(SECONDS) + 1)]


class Journal(msgspec.Struct, frozen=True):
    """A table of totals. keys: what is counted apart. counts: numbers of events. histograms: name → upper bounds; of
    each there is a sum, `<name>_sum`, and its buckets."""

    table: str
    keys: tuple[str, ...]
    counts: tuple[str, ...]
    histograms: dict[str, tuple[float, ...]]

    @property
    def amounts(self) -> list[str]:
        """The columns that are added up."""
        of_histograms = [column for name in self.histograms for column in (f"{name}_sum", *buckets(name))]
        return [*self.counts, *of_histograms]


TASKS: Final = Journal(
    "task_totals",
    ("task_name", "queue"),
    ("completed", "failed", "cancelled", "reopened", "withdrawn", "retried", "lost"),
    {"wait": SECONDS, "run": SECONDS},
)
"""completed, failed, cancelled: moves into that status. reopened: moves out of failed or cancelled, by hand. withdrawn:
rows that were taken back before they were sent. retried: attempts that failed and were followed by another. lost:
attempts whose worker was taken for dead. wait: from when an attempt could start to its start; run: to its end; both of
attempts that have ended."""

SCHEDULES: Final = Journal("schedule_totals", (), ("sent", "missed", "overlapped"), {"late": SECONDS})
"""missed, overlapped: due times that were left out. late: of those that were sent."""

FLUSHES: Final = Journal("flush_totals", (), (), {"seconds": SECONDS, "rows": ROWS})
"""Group commits of the ledger: how long, and how many outcomes."""

ALL: Final = (TASKS, SCHEDULES, FLUSHES)


class Tally:
    """Amounts that are to be added to a journal, by their keys, in memory."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._rows: dict[tuple[str, ...], dict[str, float]] = {}
        self._values: dict[tuple[tuple[str, ...], str], list[float]] = {}

    def count(self, keys: tuple[str, ...], name: str, amount: float = 1) -> None:
        """Add to a column."""
        row = self._rows.setdefault(keys, {})
        row[name] = row.get(name, 0) + amount

    def observe(self, keys: tuple[str, ...], name: str, value: float) -> None:
        """Add a value to a histogram."""
        self.observe_all(keys, name, (value,))

    def observe_all(self, keys: tuple[str, ...], name: str, values: Iterable[float]) -> None:
        """Add values to a histogram. They are only kept here: a group commit pays for each of its tasks."""
        kept = self._values.get((keys, name))
        if kept is None:
            kept = self._values[keys, name] = []
        kept.extend(values)

    def write(self, to: Direct) -> None:
        """Append what was counted."""
        for (keys, name), values in self._values.items():
            values.sort()
            self.count(keys, f"{name}_sum", sum(values))
            below = 0
            for number, bound in enumerate((*self._journal.histograms[name], inf)):
                upto = bisect_right(values, bound)
                if upto > below:
                    self.count(keys, f"{name}_{number}", upto - below)
                below = upto
        self._values.clear()
        amounts = self._journal.amounts
        rows = [[*keys, *(row.get(name, 0) for name in amounts)] for keys, row in self._rows.items()]
        _append(to, self._journal, rows)

    def __bool__(self) -> bool:
        return bool(self._rows or self._values)


def _append(to: Direct, journal: Journal, rows: Sequence[Sequence[Any]]) -> None:
    columns = [*journal.keys, *journal.amounts]
    sql = f"INSERT INTO {journal.table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
    if rows:
        to.run_counted_many(marked(to, sql), rows)


def counted(to: Direct, move: str, values: Sequence[Any], *names: str) -> bool:
    """Make a move of one task's row, and count it under these names; returns whether it was made.

    Args:
        move: an UPDATE or DELETE of background_tasks, without RETURNING.
    """
    ones = ", ".join("1" * len(names))
    into = f"INSERT INTO task_totals (task_name, queue, {', '.join(names)})"
    if to.dialect != "sqlite":
        sql = f"WITH moved AS ({move} RETURNING task_name, queue) {into} SELECT task_name, queue, {ones} FROM moved"
        return to.run_counted(marked(to, sql), values) == 1
    moved = to.run(f"{move} RETURNING task_name, queue", values)
    for keys in moved:
        to.run(f"{into} VALUES (?, ?, {ones})", keys)
    return bool(moved)


def fold(to: Direct, journal: Journal) -> int:
    """Put the oldest rows together, up to FOLD_MOST; returns how many they were. Run it in a transaction."""
    rows = [*journal.keys, *journal.amounts]
    sums = ", ".join([*journal.keys, *(f"sum({name})" for name in journal.amounts)])
    grouped = f" GROUP BY {', '.join(journal.keys)}" if journal.keys else " HAVING count(*) > 0"
    oldest = f"SELECT id FROM {journal.table} ORDER BY id LIMIT {FOLD_MOST}"
    count = int(to.run(f"SELECT count(*) FROM ({oldest}) AS o")[0][0])
    if count < FOLD_FROM:
        return 0
    into = f"INSERT INTO {journal.table} ({', '.join(rows)})"
    if to.dialect != "sqlite":
        gone = f"WITH gone AS (DELETE FROM {journal.table} WHERE id IN ({oldest}) RETURNING *)"
        to.run_counted(f"{gone} {into} SELECT {sums} FROM gone{grouped}")
        return count
    last_id = to.run(f"SELECT max(id) FROM ({oldest}) AS o")[0][0]
    to.run(f"{into} SELECT {sums} FROM {journal.table} WHERE id <= ?{grouped}", (last_id,))
    to.run(f"DELETE FROM {journal.table} WHERE id <= ?", (last_id,))
    return count


def read(to: Direct, journal: Journal) -> list[dict[str, Any]]:
    """The totals: of each key a dict of keys and amounts. Of a journal without keys exactly one."""
    sums = [f"coalesce(sum({name}), 0)" for name in journal.amounts]
    sql = f"SELECT {', '.join([*journal.keys, *sums])} FROM {journal.table}"
    if journal.keys:
        keys = ", ".join(journal.keys)
        sql += f" GROUP BY {keys} ORDER BY {keys}"
    columns, number_of_keys = [*journal.keys, *journal.amounts], len(journal.keys)
    return [
        dict(zip(columns, [*row[:number_of_keys], *map(_number, row[number_of_keys:])], strict=True))
        for row in to.run(sql)
    ]


def _number(value: Any) -> float:
    """PostgreSQL's sums of integers are decimals."""
    return value if isinstance(value, float) else int(value)


_ENDED: Final = "coalesce(sum(completed + failed + cancelled + withdrawn - reopened), 0)"
_UNFINISHED: Final = "SELECT count(*) FROM background_tasks WHERE status = '{}' AND status <> 'completed'"
_ENQUEUED: Final = (
    f"SELECT {_ENDED}, ({_UNFINISHED.format('pending')}), ({_UNFINISHED.format('running')}) FROM task_totals"
)


def enqueued(to: Direct) -> dict[str, int]:
    """How many tasks were ever accepted (`enqueued`), are `pending` and `running`: one statement, one moment.

    Costs a walk through the index of unfinished rows: about a second for ten million of them, nothing for ended ones.
    """
    ended, pending, running = (int(value) for value in to.run(_ENQUEUED)[0])
    return {"enqueued": ended + pending + running, "pending": pending, "running": running}


def summed(rows: Iterable[Mapping[str, Any]], name: str) -> float:
    """One amount over all keys."""
    return float(sum(row[name] for row in rows))
