"""`chores`: the upkeep that the processes of the system share, its last runs and what they found."""

from typing import Any

import typer

from workers import chores
from workers.cli.show import Json, age, print_json, print_table


def show(as_json: Json = False) -> None:
    """Show what keeps rows and bus in step: last run, findings, error."""
    rows = chores.list_chores()
    if as_json:
        print_json(rows)
        return
    if not rows:
        typer.echo("no chore was ever done: start a worker, the scheduler or the API, which share them", err=True)
        return
    print_table(
        ("chore", "last run", "took", "found", "by"),
        [
            (row["name"], "never" if row["last_run_at"] is None else age(row["last_run_at"]),
             "" if row["took_ms"] is None else f"{row['took_ms']} ms", _found(row), row["holder"])
            for row in rows
        ],
        whole=("chore", "last run", "took"),
    )  # fmt: skip


def _found(row: dict[str, Any]) -> str:
    if row["error"]:
        return f"failed since: {row['error']}"
    return ", ".join(f"{count} {what}" for what, count in row["findings"].items() if count)
