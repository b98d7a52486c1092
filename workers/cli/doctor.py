"""`doctor`: why is it not running?"""

from dataclasses import asdict
from typing import Annotated

import typer

from workers.cli import complete
from workers.cli.show import Json, print_json, print_table
from workers.doctor import State, examine

_COLOURS = {State.OK: "green", State.BAD: "red", State.NOTE: "yellow"}


def doctor(
    about: Annotated[
        str | None,
        typer.Argument(metavar="[TASK|SCHEDULE|QUEUE]", help="Look closely at it.", autocompletion=complete.doctor),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say why something is not running, and what to do; exit code 1 if something is wrong.

    Looks at: Redis, the database, workers, the scheduler, failed imports, clocks, queues that are paused, unserved or
    too old, schedules that cannot run, upkeep that fails; of a task what it waits for, of a schedule when it is due.
    """
    found = examine(about)
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        from rich.text import Text  # why: rich is slow to import and most verbs do not need it.

        rows = [(Text(one.state, style=_COLOURS.get(one.state, "")), one.name, one.said) for one in found]
        print_table(("", "", ""), rows)
    if any(one.state is State.BAD for one in found):
        raise typer.Exit(1)
