"""`chores`: the upkeep that the processes of the system share, its last runs and what they found."""

import json
from typing import Annotated

import typer

from workers import chores
from workers.cli.tasks import age


def show(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show what keeps rows and bus in step: last run, findings, error."""
    rows = chores.list_chores()
    if as_json:
        typer.echo(json.dumps(rows, default=str, indent=2))
        return
    if not rows:
        typer.echo("no chore was ever done: start a worker, the scheduler or the API, which share them", err=True)
        return
    from rich.console import Console  # why: rich is slow to import and most verbs do not need it.
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("chore", no_wrap=True)
    table.add_column("last run", no_wrap=True, justify="right")
    table.add_column("took", no_wrap=True, justify="right")
    table.add_column("found", overflow="fold")
    table.add_column("by", overflow="fold")
    for row in rows:
        found = ", ".join(f"{count} {what}" for what, count in row["findings"].items() if count)
        table.add_row(
            row["name"],
            "never" if row["last_run_at"] is None else age(row["last_run_at"]),
            "" if row["took_ms"] is None else f"{row['took_ms']} ms",
            (f"failed since: {row['error']}" if row["error"] else found).replace("[", "\\["),
            row["holder"],
        )
    Console().print(table)
