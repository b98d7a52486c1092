"""How verbs speak: JSON, tables, ages, a bar for long work, a question before what cannot be undone.

What a verb answers goes to stdout; what it says on the way goes to stderr.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any, Literal

import typer

from workers.errors import InvalidTask
from workers.runner.log_format import escape

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
_PIPE_COLUMNS = 10_000
_UNITS_S = (("d", 86_400), ("h", 3_600), ("min", 60))


def print_json(value: object) -> None:
    """Print as JSON, times in ISO 8601."""
    typer.echo(json.dumps(value, indent=2, default=_plain))


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]], *, whole: Sequence[str] = ()) -> None:
    """Print rows of plain text under their headings; without them if all are empty.

    Args:
        rows: cells are text or rich's Text, which may have a style.
        whole: headings of columns that are never folded, such as ids that people copy.
    """
    from rich.console import Console  # why: rich is slow to import and most verbs do not need it.
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _PIPE_COLUMNS  # why: a line that is searched for or cut into fields must not be folded.
    table = Table(box=None, padding=(0, 1, 0, 0), show_header=any(headings))
    for number, heading in enumerate(headings):
        are_numbers = bool(rows) and all(isinstance(row[number], int) for row in rows)
        justify: Literal["left", "right"] = "right" if are_numbers else "left"
        table.add_column(heading, overflow="fold", no_wrap=heading in whole, justify=justify)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(_cell(cell)) for cell in row))
    console.print(table)


def _cell(value: object) -> str:
    return "" if value is None else escape(str(value))


def print_text(text: str, *, err: bool = False) -> None:
    """Print text that somebody else may have written: its lines as they are, control characters as escapes."""
    for line in text.split("\n"):
        typer.echo(escape(line), err=err)


def age(moment: datetime) -> str:
    """How long ago it was, in its largest unit."""
    seconds = (datetime.now(moment.tzinfo) - moment).total_seconds()
    for unit, size_s in _UNITS_S:
        if seconds >= size_s:
            return f"{seconds / size_s:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


@contextmanager
def bar(doing: str, total: int | None, *, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, if that is a terminal; call what it gives with how much more is done.

    Args:
        total: None if it is not known: then only the number done is shown.
        quiet: never show it.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    of: list[Any] = [TextColumn("{task.completed:,}")] if total is None else [BarColumn(24), MofNCompleteColumn()]
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), *of, TimeElapsedColumn())
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal, transient=True) as shown:
        work = shown.add_task(doing, total=total)
        yield lambda more: shown.advance(work, more)


def ask_first(question: str, yes: bool) -> None:
    """Ask before it is done; raises InvalidTask where nobody can be asked. yes: it is answered already."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidTask(f"{question} Say --yes, as nobody can be asked here", field="yes")
    typer.confirm(question, abort=True, err=True)
