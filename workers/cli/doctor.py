"""`doctor`: why is it not running?"""

from dataclasses import asdict
from typing import Annotated

import typer

from workers.cli import complete
from workers.cli.show import Json, print_json
from workers.doctor import State, examine

_COLOURS = {State.OK: typer.colors.GREEN, State.BAD: typer.colors.RED, State.NOTE: typer.colors.YELLOW}


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
        for one in found:
            state = typer.style(f"{one.state:<8}", fg=_COLOURS.get(one.state))
            typer.echo(f"{state}{one.name:<10} {one.said}")
    if any(one.state is State.BAD for one in found):
        raise typer.Exit(1)
