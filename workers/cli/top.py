"""`top`: queues, workers and running tasks, live in a terminal.

A thread reads, the main one draws and listens to the keyboard: a server that hangs stops neither the picture, which
says how old it is, nor `q`.
"""

import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from models.database import DatabaseError
from workers import fleet, queues, statistics
from workers.broker import BusFull, BusRefused, BusUnavailable
from workers.cli.queues import print_json
from workers.cli.tasks import age

if TYPE_CHECKING:
    from rich.console import Group

STATS_S: Final = 300
"""What ended in the last so many seconds is counted."""
RUNNING_SHOWN: Final = 15


def top(
    every_s: Annotated[float, typer.Option("--every", metavar="SECONDS", min=0.2, max=3600, help="How often.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print it once and leave; so too where there is no terminal.")]
    = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print it once, as JSON.")] = False,
) -> None:  # fmt: skip
    """Watch queues, workers and running tasks; q or Ctrl-C leaves."""
    if as_json:
        print_json(snapshot())
        return
    from rich.console import Console  # why: rich is slow to import and most verbs do not need it.

    console = Console()
    if once or not (sys.stdin.isatty() and console.is_terminal):
        console.print(_picture(snapshot()))
        return
    _watch(console, every_s)


def snapshot() -> dict[str, Any]:
    """What there is to see now: `at`, `stats`, `queues`, `workers`; None, and `errors`, for what cannot be read."""
    now = datetime.now(UTC)
    found: dict[str, Any] = {"at": now, "errors": []}
    reads: dict[str, Callable[[], Any]] = {
        "stats": lambda: statistics.stats(now - timedelta(seconds=STATS_S), now),
        "queues": queues.list_queues,
        "workers": lambda: fleet.list_workers(alive=True, limit=fleet.PAGE_MAX)[0],
    }
    for name, read in reads.items():
        try:
            found[name] = read()
        except (DatabaseError, BusUnavailable, BusFull, BusRefused) as error:
            found[name] = None
            found["errors"].append(str(error))
    return found


class _Reader:
    """Reads snapshots in a thread."""

    def __init__(self, every_s: float) -> None:
        self.latest: dict[str, Any] | None = None
        self.stop = threading.Event()
        self._every_s = every_s
        threading.Thread(target=self._run, name="callboard-top", daemon=True).start()

    def _run(self) -> None:
        while True:
            self.latest = snapshot()
            if self.stop.wait(self._every_s):
                return


def _watch(console: Any, every_s: float) -> None:
    from rich.live import Live

    reader, keyboard = _Reader(every_s), sys.stdin.fileno()
    try:
        with (
            _interrupts() as interrupted,
            _single_keys(),
            Live(console=console, screen=True, auto_refresh=False) as live,
        ):
            while not interrupted():
                live.update("reading…" if reader.latest is None else _picture(reader.latest), refresh=True)
                if select.select([keyboard], [], [], min(every_s, 0.25))[0]:
                    pressed = os.read(keyboard, 64)
                    if not pressed or b"q" in pressed.lower():
                        return
    finally:
        reader.stop.set()


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Yields what says whether Ctrl-C was pressed. As an exception it would be lost where it lands in a finaliser."""
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: pressed.append(number))
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _single_keys() -> Iterator[None]:
    """Keys come one by one and are not shown; the terminal is as before at the end."""
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _picture(shown: dict[str, Any]) -> "Group":
    from rich.console import Group
    from rich.text import Text

    seconds = (datetime.now(UTC) - shown["at"]).total_seconds()
    stale = f" — {seconds:.0f} s old, the servers do not answer" if seconds > 5 else ""
    parts: list[Any] = [Text(f"callboard, {shown['at']:%H:%M:%S} UTC{stale}   (q leaves)", style="bold")]
    parts += [Text(error, style="red") for error in shown["errors"]]
    if shown["stats"] is not None:
        parts.append(Text(_said_of(shown["stats"])))
    for name, table in (("queues", _queues), ("workers", _workers), ("workers", _running)):
        if shown[name] is not None:
            parts += [Text(""), table(shown[name])]
    return Group(*parts)


def _said_of(stats: dict[str, Any]) -> str:
    rate = stats["success_rate"]
    success = "" if rate is None else f", {rate:.1%} successful"
    return (
        f"{stats['pending']} pending, {stats['running']} running; in {STATS_S // 60} min "
        f"{stats['completed']} completed, {stats['failed']} failed, {stats['cancelled']} cancelled{success}"
    )


def _queues(rows: list[dict[str, Any]]) -> Any:
    return _table(
        ("queue", "waiting", "delayed", "running", "oldest", "workers", ""),
        [
            (row["name"], row["waiting"], row["delayed"], row["running"], f"{row['oldest_age_s']:.0f} s",
             row["workers"], "paused" if row["paused"] else "")
            for row in sorted(rows, key=lambda row: (-row["waiting"] - row["running"], row["name"]))
        ],
    )  # fmt: skip


def _workers(rows: list[dict[str, Any]]) -> Any:
    return _table(
        ("worker", "threads", "running", "heard of"),
        [(row["worker_id"], row["threads"], len(row["tasks"]), age(row["heartbeat_at"])) for row in rows],
    )


def _running(rows: list[dict[str, Any]]) -> Any:
    tasks = sorted((task for row in rows for task in row["tasks"]), key=lambda task: str(task["task_id"]))
    return _table(
        ("running task", "actor", "for", "done"),
        [
            (task["task_id"], task["task_name"], "" if task["started_at"] is None else age(task["started_at"]),
             "" if task["progress"] is None else f"{task['progress']:.0%}")
            for task in tasks[:RUNNING_SHOWN]
        ],
    )  # fmt: skip


def _table(headings: tuple[str, ...], rows: list[tuple[object, ...]]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0))
    for number, heading in enumerate(headings):
        table.add_column(heading, no_wrap=True, justify="left" if number == 0 or not heading else "right")
    for row in rows:
        table.add_row(*(Text(str(value)) for value in row))
    return table
