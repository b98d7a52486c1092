"""Rolling task history up into `task_hours`: which hours want it, and how one is done.

    an hour of `background_tasks` ──counts differ from task_hours──→ its rows are written over, in one transaction

An hour wants it if its counts by status are not those of `task_hours`: because it was never rolled up, because tasks of
it ended late (an outcome that was held while the database was away), or because a task of it was retried by hand and
ended again in another hour. Counts come from the index on (completed_at, status) alone. So nothing has to be remembered
between two runs: what a crash leaves is hours that were rolled up, and others that still want it.

Hours from before `LATE_FOR` ago are looked at only if nothing newer was ever rolled up, and none from before retention
began to take tasks away: what was rolled up of those stays as it is.

An hour's durations are read in slices of about SLICE_ROWS, so that no statement is long, and are kept in memory as
8 bytes each until its percentiles are known: 60 MB for an hour of 1,000 tasks a second.

Must not: read the clock.
"""

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from models import direct
from models.direct import Direct, marked, stamp
from models.task_moves import unstamp

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
LATE_FOR: Final = timedelta(hours=48)
"""So late a task may end and is still counted in its hour."""
SLICE_ROWS: Final = 20_000
QUANTILES: Final = (0.5, 0.95, 0.99)

_ENDED: Final = "completed_at IS NOT NULL AND completed_at >= ? AND completed_at < ?"
_HOUR_SQLITE: Final = "substr(completed_at, 1, 13)"
_HOUR_POSTGRES: Final = "date_trunc('hour', completed_at, 'UTC')"
_COUNTS: Final = f"SELECT {{hour}}, status, count(*) FROM background_tasks WHERE {_ENDED} GROUP BY 1, 2"
_KNOWN: Final = "SELECT hour_at, status, sum(count) FROM task_hours WHERE hour_at >= ? AND hour_at < ? GROUP BY 1, 2"
_DURATIONS: Final = (
    "SELECT b.task_name, b.status, b.created_at, coalesce(a.started_at, b.started_at), b.started_at, b.completed_at"
    " FROM background_tasks AS b LEFT JOIN task_attempts AS a"
    " ON b.attempt > 1 AND a.task_id = b.task_id AND a.number = 1"
    f" WHERE {_ENDED.replace('completed_at', 'b.completed_at')}"
)
_WRITE: Final = (
    "INSERT INTO task_hours (hour_at, task_name, status, count, wait_p50_s, wait_p95_s, wait_p99_s,"
    " run_p50_s, run_p95_s, run_p99_s, rolled_up_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (hour_at, task_name, status) DO UPDATE SET count = excluded.count,"
    " wait_p50_s = excluded.wait_p50_s, wait_p95_s = excluded.wait_p95_s, wait_p99_s = excluded.wait_p99_s,"
    " run_p50_s = excluded.run_p50_s, run_p95_s = excluded.run_p95_s, run_p99_s = excluded.run_p99_s,"
    " rolled_up_at = excluded.rolled_up_at"
)
_FORGET: Final = "DELETE FROM task_hours WHERE hour_at = ?"

Counts = dict[datetime, dict[str, int]]
"""Hour → status → how many."""


def wanting(now: datetime, *, kept_for: timedelta) -> Iterator[tuple[datetime, int]]:
    """The full hours that want to be rolled up, oldest first, each with how many tasks ended in it.

    Args:
        kept_for: how long ended tasks are kept.
    """
    until = _hour_of(now)
    since = _begin(now, kept_for)
    while since is not None and since < until:
        before = min(until, since + DAY)
        with direct.reading() as to:
            ended, known = _ended(to, since, before), _known(to, since, before)
        for hour in sorted(ended.keys() | known.keys()):
            if ended.get(hour, {}) != known.get(hour, {}):
                yield hour, sum(ended.get(hour, {}).values())
        since = before


def _begin(now: datetime, kept_for: timedelta) -> datetime | None:
    """The first hour to look at; None if no task has ever ended."""
    # why an hour more: retention takes what is in the middle of an hour, and goes on while we look.
    kept_since = _hour_of(now - kept_for) + 2 * HOUR
    with direct.reading() as to:
        newest = unstamp(to.run("SELECT max(hour_at) FROM task_hours")[0][0])
        if newest is not None:
            return max(kept_since, min(newest, _hour_of(now)) - LATE_FOR)
        oldest = unstamp(to.run("SELECT min(completed_at) FROM background_tasks WHERE completed_at IS NOT NULL")[0][0])
    return None if oldest is None else max(kept_since, _hour_of(oldest))


def roll_up(hour: datetime, ended: int, now: datetime) -> int:
    """Write an hour's rows, over those that are there.

    Args:
        hour: when it began.
        ended: about how many tasks ended in it.
        now: kept with the rows.

    Returns:
        How many rows the hour has.
    """
    waits: dict[tuple[str, str], array[float]] = defaultdict(lambda: array("d"))
    runs: dict[tuple[str, str], array[float]] = defaultdict(lambda: array("d"))
    slices = max(1, -(-ended // SLICE_ROWS))
    for number in range(slices):
        with direct.reading() as to:
            ends = [stamp(to.dialect, hour + HOUR * one / slices) for one in (number, number + 1)]
            for name, status, *moments in to.run(marked(to, _DURATIONS), ends):
                created_at, first_at, started_at, completed_at = (unstamp(one) for one in moments)
                waits[name, status].append(_seconds(created_at, first_at or completed_at))
                runs[name, status].append(_seconds(started_at, completed_at))
    with direct.transaction() as to, to.atomic():
        at, hour_at = stamp(to.dialect, now), stamp(to.dialect, hour)
        to.run(marked(to, _FORGET), (hour_at,))
        for key, of_key in waits.items():
            # why an upsert: another may have written it since, and its rows are not seen by the line above.
            to.run(
                marked(to, _WRITE), (hour_at, *key, len(of_key), *_percentiles(of_key), *_percentiles(runs[key]), at)
            )
    return len(waits)


def _seconds(since: datetime | None, until: datetime | None) -> float:
    """From one to the other; 0 if one of them never was, or a clock was set back."""
    return 0.0 if since is None or until is None else max(0.0, (until - since).total_seconds())


def _percentiles(values: Iterable[float]) -> list[float]:
    """By nearest rank: each is one of the values."""
    ordered = sorted(values)
    return [
        ordered[min(len(ordered) - 1, -(-int(quantile * 1000) * len(ordered) // 1000) - 1)] for quantile in QUANTILES
    ]


def _ended(to: Direct, since: datetime, until: datetime) -> Counts:
    is_sqlite = to.dialect == "sqlite"
    sql = _COUNTS.format(hour=_HOUR_SQLITE if is_sqlite else _HOUR_POSTGRES)
    rows = to.run(marked(to, sql), (stamp(to.dialect, since), stamp(to.dialect, until)))
    return _counts((f"{row[0]}:00:00.000000" if is_sqlite else row[0], *row[1:]) for row in rows)


def _known(to: Direct, since: datetime, until: datetime) -> Counts:
    return _counts(to.run(marked(to, _KNOWN), (stamp(to.dialect, since), stamp(to.dialect, until))))


def _counts(rows: Iterable[tuple[Any, ...]]) -> Counts:
    found: Counts = {}
    for hour_at, status, count in rows:
        hour = unstamp(hour_at)
        assert hour is not None
        found.setdefault(hour, {})[status] = int(count)
    return found


def _hour_of(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
