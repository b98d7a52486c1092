"""How `top` looks: a summary, then queues, workers and running tasks, as many as the terminal has room for.

Must not: read anything; it draws a snapshot of workers.cli.top.
"""

from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from rich.console import Group
from rich.table import Table
from rich.text import Text

from workers.cli.show import age
from workers.runner.log_format import escape

STALE_S: Final = 5.0
_HEADINGS: Final = 2
"""Lines that a table has besides its rows: an empty one and its headings."""
_UNSEEN: Final = 10_000


class _Column(NamedTuple):
    """A heading; is_number: to the right; is_whole: never cut, for people copy it."""

    heading: str
    is_number: bool = False
    is_whole: bool = False


Row = tuple[Text | str, ...]


def draw(shown: dict[str, Any], height: int | None = None) -> Group:
    """The picture of a snapshot.

    Args:
        height: lines of the terminal: what does not fit is counted at the end of its table. None: all of it.
    """
    head = [_title(shown), *(_line(error, "red") for error in shown["errors"]), *_summary(shown)]
    tables = [
        (_QUEUES, [_queue(row) for row in _busiest(shown["queues"] or [])]),
        (_WORKERS, [_worker(row) for row in shown["workers"] or []]),
        (_TASKS, [_task(row) for row in _running(shown["workers"] or [])]),
    ]
    room = _UNSEEN if height is None else height - len(head)
    tables = tables[: room // (_HEADINGS + 1)]  # why: a table without room for a row says nothing.
    allowed = _shared([len(rows) for _, rows in tables], room - _HEADINGS * len(tables))
    parts: list[Any] = list(head)
    for (columns, rows), lines in zip(tables, allowed, strict=True):
        parts += [Text(""), _table(columns, rows, lines)]
    return Group(*parts)


def _title(shown: dict[str, Any]) -> Text:
    seconds = (datetime.now(UTC) - shown["at"]).total_seconds()
    title = _line(f"callboard  {shown['at']:%H:%M:%S} UTC", "bold")
    if seconds > STALE_S:
        title.append(f"  {seconds:.0f} s old: the servers do not answer", style="red")
    return title.append("   q leaves", style="dim")


def _summary(shown: dict[str, Any]) -> list[Text]:
    lines = []
    stats = shown["stats"]
    if stats is not None:
        minutes = (stats["until"] - stats["since"]).total_seconds() / 60
        ended = stats["completed"] + stats["failed"] + stats["cancelled"]
        rate = stats["success_rate"]
        said = _line(f"now {stats['running']:,} running, {stats['pending']:,} pending; in {minutes:.0f} min ")
        said.append(f"{stats['completed']:,} completed, ")
        said.append(f"{stats['failed']:,} failed", style="red" if stats["failed"] else "")
        said.append(f", {stats['cancelled']:,} cancelled")
        lines.append(said)
        if ended:
            per_s = ended / minutes / 60
            said = _line(f"{per_s:,.1f} ended a second" if per_s >= 1 else f"{ended / minutes:,.1f} ended a minute")
            lines.append(said.append("" if rate is None else f", {rate:.1%} of them successful"))
    for alert in (shown["alerts"] or [])[:1]:
        more = len(shown["alerts"]) - 1
        others = f" (and {more} more: callboard alerts list)" if more else ""
        lines.append(_line(f"alert: {alert['message']}{others}", "yellow"))
    return lines


def _line(text: str, style: str = "") -> Text:
    """One line, however narrow the terminal is."""
    return Text(escape(text), style=style, no_wrap=True, overflow="ellipsis")


def _shared(wanted: list[int], room: int) -> list[int]:
    """How many lines each table gets: what it wants if there is room for all, else what the modest leave."""
    allowed = [0] * len(wanted)
    left = sorted(range(len(wanted)), key=lambda index: wanted[index])
    for place, index in enumerate(left):
        allowed[index] = min(wanted[index], room // (len(left) - place))
        room -= allowed[index]
    return allowed


def _table(columns: tuple[_Column, ...], rows: list[Row], lines: int) -> Table:
    """At most so many lines of rows; the last one counts those that are left out."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold dim")
    for column in columns:
        table.add_column(
            column.heading, justify="right" if column.is_number else "left", no_wrap=True, overflow="ellipsis",
            min_width=36 if column.is_whole else None,
        )  # fmt: skip
    kept = rows if len(rows) <= lines else rows[: max(0, lines - 1)]
    for row in kept:
        table.add_row(*(Text(escape(cell)) if isinstance(cell, str) else cell for cell in row))
    if len(kept) < len(rows):
        table.add_row(Text(f"and {len(rows) - len(kept)} more", style="dim"))
    return table


_QUEUES: Final = (
    _Column("queue"), _Column("waiting", True), _Column("delayed", True), _Column("running", True),
    _Column("oldest", True), _Column("workers", True), _Column(""),
)  # fmt: skip
_WORKERS: Final = (_Column("worker"), _Column("threads", True), _Column("running", True), _Column("heard of", True))
_TASKS: Final = (_Column("running task", is_whole=True), _Column("actor"), _Column("for", True), _Column("done", True))


def _busiest(queues: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those first in which something waits for nothing, then by how much there is."""

    def place(row: dict[str, Any]) -> tuple[Any, ...]:
        is_stuck = row["paused"] or _is_unserved(row)
        return not is_stuck, -row["waiting"] - row["running"], -row["delayed"], row["name"]

    return sorted(queues, key=place)


def _is_unserved(row: dict[str, Any]) -> bool:
    return bool(row["waiting"]) and not row["workers"]


def _queue(row: dict[str, Any]) -> Row:
    is_unserved = _is_unserved(row)
    return (
        row["name"],
        f"{row['waiting']:,}",
        f"{row['delayed']:,}",
        f"{row['running']:,}",
        f"{row['oldest_age_s']:.0f} s" if row["waiting"] else "",
        Text(str(row["workers"]), style="red" if is_unserved else ""),
        Text("paused" if row["paused"] else "nobody serves it" if is_unserved else "", style="yellow"),
    )


def _worker(row: dict[str, Any]) -> Row:
    return row["worker_id"], str(row["threads"]), str(len(row["tasks"])), age(row["heartbeat_at"])


def _running(workers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that run longest first."""
    tasks = [task for row in workers for task in row["tasks"]]
    return sorted(tasks, key=lambda task: (task["started_at"] is None, str(task["started_at"]), task["task_id"]))


def _task(row: dict[str, Any]) -> Row:
    since = "" if row["started_at"] is None else age(row["started_at"])
    done = "" if row["progress"] is None else f"{row['progress']:.0%}"
    return row["task_id"], row["task_name"], since, done
