"""`demo`: a working day through all domains, as a table."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from workers import audit, callboard


def demo(
    as_json: Annotated[bool, typer.Option("--json", help="Print what happened as JSON.")] = False,
) -> None:
    """Live a working day through all domains on the running system, and tell what happened.

    Work permits, maintenance, tickets, reports, figures, upkeep, and a service that fails: real tasks, mails and files.
    Needs `callboard up` in another terminal. Exit code 1 if a step did not see what it should have.
    """
    from rich.console import Console  # why: slow, and most verbs do without.
    from rich.table import Table

    from workers.demo.day import STEPS, begin, live

    audit.record("demo.begin")
    day = begin(callboard)
    told = []
    with Console(stderr=True).status(STEPS[0][0]) as status:
        for one in live(day):
            told.append(one)
            status.update(STEPS[min(len(told), len(STEPS) - 1)][0])
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in told], default=str, indent=2, ensure_ascii=False))
    else:
        table = Table("at (UTC)", "what happened", "what came of it", "tasks", "took", box=None, pad_edge=False)
        for one in told:
            mark = "" if one.is_done else "FAILED: "
            table.add_row(f"{one.at:%H:%M:%S}", one.title, mark + one.seen, str(one.tasks), f"{one.took_s:.1f} s")
        Console().print(table, markup=False)
        mails = len(day.mails.mails())
        typer.echo(f"{sum(one.is_done for one in told)} of {len(told)} steps; {mails} mails in {day.mails.folder}")
    if not all(one.is_done for one in told):
        raise typer.Exit(1)
