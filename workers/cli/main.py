"""The command tree, and the one place where errors become exit codes."""

import getpass
import logging
import socket
import sys
from typing import Annotated

import typer

from models.database import DatabaseError
from workers import audit
from workers.broker import BusFull, BusRefused, BusUnavailable
from workers.cli import (
    alerts,
    check,
    chores,
    demo,
    doctor,
    enqueue,
    inventory,
    queues,
    schedules,
    tasks,
    tokens,
    top,
    up,
    worker,
)
from workers.cli import audit as audit_verbs
from workers.errors import CallboardError, LedgerUnavailable, OutcomeUnknown

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 3

app = typer.Typer(
    name="callboard",
    help="Background workers in which every task's state can be trusted.",
    epilog="Exit codes: 0 done; 1 the task failed, or a check found something; 2 wrong usage or settings; "
    "3 the database or Redis cannot be reached.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
app.command("up")(up.up)
app.command("worker")(worker.worker)
app.command("migrate")(up.migrate)
app.command("sample")(up.load_sample)
app.command("demo")(demo.demo)
app.command("check")(check.check)
app.command("actors")(check.actors)
app.command("inventory")(inventory.inventory)
app.command("enqueue")(enqueue.enqueue)
app.command("chores")(chores.show)
app.command("audit")(audit_verbs.show)
app.add_typer(alerts.app, name="alerts")
app.add_typer(tasks.app, name="tasks")
app.add_typer(schedules.app, name="schedules")
app.add_typer(queues.app, name="queues")
app.add_typer(queues.workers_app, name="workers")
app.command("locks")(queues.locks)
app.command("doctor")(doctor.doctor)
app.command("top")(top.top)
app.add_typer(tokens.app, name="tokens")


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
        outcome = audit.FAILED
        try:
            app()
            outcome = audit.DONE
        except SystemExit:
            outcome = audit.DONE  # why: the command's own exit code, as of a task that failed, which it did send.
            raise
        except (DatabaseError, LedgerUnavailable, OutcomeUnknown) as error:
            _die(error, EXIT_UNAVAILABLE)
        except (BusUnavailable, BusFull, BusRefused) as error:
            _die(f"{error}: check that Redis is running and reachable, or set CALLBOARD_REDIS_URL", EXIT_UNAVAILABLE)
        except CallboardError as error:
            outcome = audit.REFUSED
            _die(error, EXIT_USAGE)
        except KeyboardInterrupt:
            sys.exit(130)
        finally:
            sheet.write(outcome)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"  # why: a container's user may have a number only.


def _die(error: Exception | str, code: int) -> None:
    typer.echo(f"callboard: {error}", err=True)
    sys.exit(code)
