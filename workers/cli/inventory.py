"""`inventory`: every actor and its schedules, for people, as CSV, or as JSON."""

import csv
import io
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from periodic.declaration import Declaration, checked_trigger
from periodic.timetable import TIMETABLE
from workers import callboard
from workers.errors import CallboardError, InvalidSchedule
from workers.registry import source_of, type_of

DEFAULT_FILE = Path("background_tasks_inventory.csv")
COLUMNS = ("name", "type", "queue", "trigger", "retries", "limit", "module", "line")
_FORMULA = ("=", "+", "-", "@")
"""What a spreadsheet takes for the beginning of a formula."""


def inventory(
    wants_csv: Annotated[bool, typer.Option("--csv", help="Write CSV to a file.")] = False,
    output: Annotated[Path, typer.Option(help="The CSV file; - for standard output.")] = DEFAULT_FILE,
    check: Annotated[bool, typer.Option("--check", help="Only compare; exit code 1 if it differs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:  # fmt: skip
    """List every actor with its schedules: a line for each schedule, one for an actor without.

    The limit is in seconds. Retries and limit are those of the schedule, else of the actor, else of the settings.
    """
    rows = _rows()
    text = as_csv(rows)
    if check:
        _compare(output, text)
    elif as_json:
        typer.echo(json.dumps(rows, indent=2))
    elif wants_csv and str(output) == "-":
        typer.echo(text, nl=False)
    elif wants_csv:
        try:
            output.write_text(text, encoding="utf-8", newline="")
        except OSError as error:
            raise CallboardError(f"{output} cannot be written ({error.strerror}): name another --output") from None
        typer.echo(f"{len(rows)} lines in {output}")
    else:
        _show(rows)


def _rows() -> list[dict[str, Any]]:

    rows: list[dict[str, Any]] = []
    for name, actor in sorted(callboard.registry.actors.items()):
        if "periodic" in actor.options:
            continue  # why: the scheduler's own tick is no work.
        module, _, line = source_of(actor).partition(":")
        own: dict[str, Any] = {
            "name": name,
            "type": type_of(actor),
            "queue": actor.queue_name,
            "trigger": "",
            "retries": actor.options.get("max_retries", callboard.settings.max_retries),
            "limit": actor.options.get("time_limit", callboard.settings.time_limit_s * 1000) / 1000,
            "module": module,
            "line": int(line) if line else None,
        }
        scheduled = [
            own
            | {
                "trigger": in_words(one) + ("" if one.enabled else " (disabled)"),
                "retries": one.max_retries,
                "limit": float(one.time_limit_s),
            }
            for one in TIMETABLE
            if callboard.registry.find(one.actor) is actor
        ]
        rows += scheduled or [own]
    return rows


def in_words(declared: Declaration) -> str:
    """When a declaration is due, for people."""
    try:
        return checked_trigger(declared.trigger, declared.time_zone, declared.start_at, declared.end_at).in_words()
    except InvalidSchedule as error:
        return f"error: {error}"


def as_csv(rows: list[dict[str, Any]]) -> str:
    """The rows as CSV with a heading, a line each; no cell begins like a formula."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({column: _cell(row[column]) for column in COLUMNS} for row in rows)
    return text.getvalue()


def _cell(value: Any) -> str:
    """A cell that no spreadsheet takes for a formula: one that begins like it gets an apostrophe before it."""
    text = "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    text = text.replace("\r", " ")  # why: not every reader keeps a bare one within its cell.
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def _compare(output: Path, expected: str) -> None:
    try:
        is_same = output.read_text(encoding="utf-8") == expected
    except (OSError, ValueError):
        is_same = False
    if not is_same:
        typer.echo(f"{output} is not up to date: run `callboard inventory --csv --output {output}`", err=True)
        raise typer.Exit(1)
    typer.echo(f"{output} is up to date")


def _show(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console  # why: rich is slow to import and most verbs do not need it.
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 1, 0, 0))
    for heading in ("actor", "type", "trigger", "retries", "limit", "source"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        shown = (row["name"], row["type"] or "", row["trigger"], row["retries"], f"{row['limit']:g} s",
                 f"{row['module']}:{row['line'] or '?'}")  # fmt: skip
        table.add_row(*(Text(str(one)) for one in shown))
    Console().print(table)
