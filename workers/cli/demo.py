"""`demo`: a working day through all domains, as a table."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from workers import audit, callboard
from workers.cli.show import Json, print_json, print_table

if TYPE_CHECKING:
    from workers.demo.day import Day, Told


def demo(as_json: Json = False) -> None:
    """Live a working day through all domains on the running system, and tell what happened.

    Work permits, maintenance, tickets, reports, figures, upkeep, and a service that fails: real tasks, mails and files.
    Needs `callboard up` in another terminal. Exit code 1 if a step did not see what it should have.
    """
    from rich.console import Console  # why: slow, and most verbs do without.

    from workers.demo.day import STEPS, begin, live

    audit.record("demo.begin")
    day = begin(callboard)
    told: list[Told] = []
    try:
        with Console(stderr=True).status(STEPS[0][0]) as status:
            for one in live(day):
                told.append(one)
                status.update(STEPS[min(len(told), len(STEPS) - 1)][0])
    finally:  # why: who presses Ctrl-C in the last step, a minute long, sees what came of the others.
        _tell(day, told, len(STEPS), as_json=as_json)
    if not all(one.is_done for one in told):
        raise typer.Exit(1)


def _tell(day: "Day", told: "list[Told]", steps: int, *, as_json: bool) -> None:
    if as_json:
        print_json([asdict(one) for one in told])
    else:
        print_table(
            ("at (UTC)", "what happened", "what came of it", "tasks", "took"),
            [
                (f"{one.at:%H:%M:%S}", one.title, ("" if one.is_done else "FAILED: ") + one.seen, one.tasks,
                 f"{one.took_s:.1f} s")
                for one in told
            ],
        )  # fmt: skip
        mails = len(day.mails.mails())
        typer.echo(f"{sum(one.is_done for one in told)} of {steps} steps; {mails} mails in {day.mails.folder}")
