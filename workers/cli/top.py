"""`top`: queues, workers and running tasks, live in a terminal. How it looks: workers.cli.top_picture.

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
from typing import Annotated, Any, Final

import typer

from models.database import DatabaseError
from workers import alerts, fleet, queues, statistics
from workers.broker import BusFull, BusRefused, BusUnavailable
from workers.cli.show import print_json

STATS_S: Final = 300
"""What ended in the last so many seconds is counted."""
ALERTS_MAX: Final = 100


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

    from workers.cli.top_picture import draw

    console = Console()
    if once or not (sys.stdin.isatty() and console.is_terminal):
        console.print(draw(snapshot()))
        return
    _watch(console, every_s)


def snapshot() -> dict[str, Any]:
    """What there is to see now: `at`, `stats`, `queues`, `workers`, `alerts`; None, and `errors`, for what cannot be
    read."""
    now = datetime.now(UTC)
    found: dict[str, Any] = {"at": now, "errors": []}
    reads: dict[str, Callable[[], Any]] = {
        "stats": lambda: statistics.stats(now - timedelta(seconds=STATS_S), now),
        "queues": queues.list_queues,
        "workers": lambda: fleet.list_workers(alive=True, limit=fleet.PAGE_MAX)[0],
        "alerts": lambda: alerts.list_alerts(limit=ALERTS_MAX),
    }
    for name, read in reads.items():
        try:
            found[name] = read()
        except (DatabaseError, BusUnavailable, BusFull, BusRefused) as error:
            found[name] = None
            if str(error) not in found["errors"]:
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

    from workers.cli.top_picture import draw

    reader, keyboard = _Reader(every_s), sys.stdin.fileno()
    try:
        with (
            _interrupts() as interrupted,
            _single_keys(),
            Live(console=console, screen=True, auto_refresh=False) as live,
        ):
            while not interrupted():
                latest = reader.latest
                live.update("reading…" if latest is None else draw(latest, console.height), refresh=True)
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
