"""`alerts list|acknowledge`: what is or was the matter."""

import getpass
import json
from typing import Annotated

import typer

from workers import alerts, audit
from workers.cli.tasks import age
from workers.errors import InvalidTask

app = typer.Typer(help="See what is the matter, say that you take care of it.", no_args_is_help=True)


@app.command("list")
def list_(
    all_: Annotated[bool, typer.Option("--all", help="Those that are over, too.")] = False,
    limit: Annotated[int, typer.Option(help="1–1000 alerts.", min=1, max=alerts.MAX_PAGE)] = 20,
    before_id: Annotated[int | None, typer.Option("--before", help="Go on below this alert.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List open alerts, newest first."""
    rows = alerts.list_alerts(only_open=not all_, limit=limit, before_id=before_id)
    if as_json:
        typer.echo(json.dumps(rows, default=lambda one: one.isoformat(), indent=2))
        return
    from rich.console import Console  # why: rich is slow to import and most verbs do not need it.
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 0))
    for heading in ("id", "since", "state", "count", "what"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        state = "open" if row["closed_at"] is None else "over"
        known = f", known to {row['acknowledged_by']}" if row["acknowledged_by"] else ""
        table.add_row(str(row["alert_id"]), age(row["opened_at"]), f"{state}{known}", str(row["count"]),
                      row["message"])  # fmt: skip
    Console().print(table, markup=False)
    typer.echo(f"{len(rows)} alerts")


@app.command()
def acknowledge(
    alert_id: Annotated[int, typer.Argument(metavar="ID", help="The alert's id.", min=1, max=2**31 - 1)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say that you take care of an alert; whoever said so first stays."""
    if not alerts.acknowledge(alert_id, by=getpass.getuser()):
        raise InvalidTask(f"there is no alert {alert_id}: `callboard alerts list --all` shows them", field="alert_id")
    audit.record("alerts.acknowledge", alert_id)
    said = {"alert_id": alert_id, "message": "Alert acknowledged"}
    typer.echo(json.dumps(said) if as_json else said["message"])
