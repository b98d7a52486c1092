"""`alerts list|acknowledge`: what is or was the matter."""

import getpass
from typing import Annotated, Any

import typer

from workers import alerts, audit
from workers.cli.show import Json, age, print_json, print_table
from workers.errors import InvalidTask

app = typer.Typer(help="See what is the matter, say that you take care of it.", no_args_is_help=True)


@app.command("list")
def list_(
    all_: Annotated[bool, typer.Option("--all", help="Those that are over, too.")] = False,
    limit: Annotated[int, typer.Option(help="1–1000 alerts.", min=1, max=alerts.MAX_PAGE)] = 20,
    before_id: Annotated[int | None, typer.Option("--before", help="Go on below this alert.")] = None,
    as_json: Json = False,
) -> None:
    """List open alerts, newest first."""
    rows = alerts.list_alerts(only_open=not all_, limit=limit, before_id=before_id)
    if as_json:
        print_json(rows)
        return
    print_table(
        ("id", "since", "state", "count", "what"),
        [(row["alert_id"], age(row["opened_at"]), _state(row), row["count"], row["message"]) for row in rows],
    )
    typer.echo(f"{len(rows)} alerts")


def _state(row: dict[str, Any]) -> str:
    known = f", known to {row['acknowledged_by']}" if row["acknowledged_by"] else ""
    return ("open" if row["closed_at"] is None else "over") + known


@app.command()
def acknowledge(
    alert_id: Annotated[int, typer.Argument(metavar="ID", help="The alert's id.", min=1, max=2**31 - 1)],
    as_json: Json = False,
) -> None:
    """Say that you take care of an alert; whoever said so first stays."""
    if not alerts.acknowledge(alert_id, by=getpass.getuser()):
        raise InvalidTask(f"there is no alert {alert_id}: `callboard alerts list --all` shows them", field="alert_id")
    audit.record("alerts.acknowledge", alert_id)
    said = {"alert_id": alert_id, "message": "Alert acknowledged"}
    if as_json:
        print_json(said)
    else:
        typer.echo(said["message"])
