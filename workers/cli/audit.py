"""`audit`: who did what, when, from where."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from models.audit import MAX_PAGE, AuditFilter
from workers import audit
from workers.cli.filters import moment
from workers.cli.show import Json, print_json, print_table


def show(
    who: Annotated[str | None, typer.Option(help="Only by this token or user.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this action, as tasks.cancel.")] = None,
    target: Annotated[str | None, typer.Option(help="Only on this id or name.")] = None,
    since: Annotated[str | None, typer.Option(help="Then or later: 2026-11-22T12:00, or 2h for two hours ago.")] = None,
    until: Annotated[str | None, typer.Option(help="Before then.")] = None,
    limit: Annotated[int, typer.Option(help="1–1000 entries.", min=1, max=MAX_PAGE)] = 20,
    before_id: Annotated[int | None, typer.Option("--before", help="Go on below this entry.")] = None,
    as_json: Json = False,
) -> None:
    """Show who did what, newest first."""
    now = datetime.now(UTC)
    from_, to = (
        None if said is None else moment(said, name, now) for name, said in (("since", since), ("until", until))
    )
    wanted = AuditFilter(who=who, action=action, target=target, since=from_, until=to)
    rows = audit.entries(wanted, limit=limit, before_id=before_id)
    if as_json:
        print_json([row.model_dump() for row in rows])
        return
    print_table(
        ("id", "when (UTC)", "who", "from", "did", "to", "outcome"),
        [
            (row.id, f"{row.at:%Y-%m-%d %H:%M:%S}", row.who, f"{row.via} {row.from_address}", row.action, row.target,
             row.outcome)
            for row in rows
        ],
    )  # fmt: skip
