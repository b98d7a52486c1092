"""The command tree, and the one place where errors become exit codes."""

import getpass
import inspect
import logging
import socket
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from models.database import DatabaseError
from workers import audit
from workers.broker import BusFull, BusRefused, BusUnavailable
from workers.cli import (
    alerts,
    bench,
    check,
    chores,
    demo,
    doctor,
    enqueue,
    inventory,
    legacy,
    queues,
    schedules,
    stats,
    tasks,
    tokens,
    top,
    up,
    worker,
)
from workers.cli import audit as audit_verbs
from workers.cli.show import print_text
from workers.errors import CallboardError, LedgerUnavailable, OutcomeUnknown

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 3

RUN, SEND, LOOK, MEND = "Run it", "Tasks and schedules", "Look", "Set up and check"
"""Headings of the verbs in --help."""

app = typer.Typer(
    name="callboard",
    help="Background workers in which every task's state can be trusted.",
    epilog="Exit codes: 0 done; 1 the task failed, a check found something, or you said no; 2 wrong usage or settings; "
    "3 the database or Redis cannot be reached; 130 Ctrl-C.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
_VERBS: tuple[tuple[str, str, Callable[..., Any]], ...] = (
    (RUN, "up", up.up),
    (RUN, "worker", worker.worker),
    (SEND, "enqueue", enqueue.enqueue),
    (LOOK, "doctor", doctor.doctor),
    (LOOK, "top", top.top),
    (LOOK, "stats", stats.stats),
    (LOOK, "actors", check.actors),
    (LOOK, "locks", queues.locks),
    (LOOK, "chores", chores.show),
    (LOOK, "audit", audit_verbs.show),
    (MEND, "migrate", up.migrate),
    (MEND, "check", check.check),
    (MEND, "inventory", inventory.inventory),
    (MEND, "sample", up.load_sample),
    (RUN, "demo", demo.demo),
    (MEND, "bench", bench.bench),
)
_GROUPS: tuple[tuple[str, str, typer.Typer], ...] = (
    (SEND, "tasks", tasks.app),
    (SEND, "schedules", schedules.app),
    (SEND, "queues", queues.app),
    (LOOK, "workers", queues.workers_app),
    (LOOK, "alerts", alerts.app),
    (MEND, "tokens", tokens.app),
    (MEND, "legacy", legacy.app),
)


def _flowing(text: str | None) -> str:
    """A docstring with each paragraph on a line of its own, for a terminal of any width."""
    return "\n\n".join(" ".join(one.split()) for one in inspect.cleandoc(text or "").split("\n\n"))


for _panel, _name, _verb in _VERBS:
    app.command(_name, help=_flowing(_verb.__doc__), rich_help_panel=_panel)(_verb)
for _panel, _name, _group in _GROUPS:
    app.add_typer(_group, name=_name, rich_help_panel=_panel)
    for _command in _group.registered_commands:
        _command.help = _flowing(_command.callback.__doc__ if _command.callback else None)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # why: slow, and only --version needs it.

        typer.echo(version("callboard"))
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Background workers in which every task's state can be trusted."""


def main() -> None:
    """Run the command line; the console script `callboard`."""
    logging.getLogger().addHandler(logging.NullHandler())  # why: what is logged on the way is said in the error's line.
    with audit.sheet_of(_user(), socket.gethostname(), "CLI") as sheet:
        outcome, failed = audit.FAILED, None
        try:
            app()
            outcome = audit.DONE
        except SystemExit:
            outcome = audit.DONE  # why: the command's own exit code, as of a task that failed, which it did send.
            raise
        except (DatabaseError, LedgerUnavailable, OutcomeUnknown) as error:
            failed = error
            _die(error, EXIT_UNAVAILABLE)
        except (BusUnavailable, BusFull, BusRefused) as error:
            _die(f"{error}: check that Redis is running and reachable, or set CALLBOARD_REDIS_URL", EXIT_UNAVAILABLE)
        except CallboardError as error:
            outcome = audit.REFUSED
            _die(error, EXIT_USAGE)
        except KeyboardInterrupt:
            sys.exit(130)
        finally:
            sheet.write(outcome, failed=failed)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"  # why: a container's user may have a number only.


def _die(error: Exception | str, code: int) -> None:
    print_text(f"callboard: {error}", err=True)
    sys.exit(code)
