"""`audit`: who did what, when, from where."""

import json
from datetime import UTC, datetime
from typing import Annotated

import typer

from models.audit import MAX_PAGE, AuditFilter
from workers import audit
from workers.errors import InvalidTask


def show(
    who: Annotated[str | None, typer.Option(help="Only by this token or user.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this action, as tasks.cancel.")] = None,
    target: Annotated[str | None, typer.Option(help="Only on this id or name.")] = None,
    since: Annotated[str | None, typer.Option(help="Not before: 2026-12-01T00:00:00+01:00; else UTC.")] = None,
    until: Annotated[str | None, typer.Option(help="Before this time.")] = None,
    limit: Annotated[int, typer.Option(help="1–1000 entries.", min=1, max=MAX_PAGE)] = 20,
    before_id: Annotated[int | None, typer.Option("--before", help="Go on below this entry.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show who did what, newest first."""
    wanted = AuditFilter(
        who=who, action=action, target=target, since=_time("since", since), until=_time("until", until)
    )
    rows = audit.entries(wanted, limit=limit, before_id=before_id)
    if as_json:
        typer.echo(json.dumps([row.model_dump() for row in rows], default=lambda one: one.isoformat(), indent=2))
        return
    from rich.console import Console  # why: rich is slow to import and most verbs do not need it.
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 0))
    for heading in ("id", "when (UTC)", "who", "from", "did", "to", "outcome"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(str(row.id), f"{row.at:%Y-%m-%d %H:%M:%S}", row.who, f"{row.via} {row.from_address}", row.action,
                      row.target, row.outcome)  # fmt: skip
    Console().print(table, markup=False)


def _time(name: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidTask(f"{name}: expected a time such as 2026-12-01T00:00:00+01:00, got {text[:60]!r}",
                          field=name) from None  # fmt: skip
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
