"""`up`, `migrate`, `sample`: bringing the system into being."""

import json
import sys
import zlib
from contextlib import suppress
from typing import Annotated

import typer

from models import database
from workers import audit, callboard, sample
from workers.cli.show import Json, Yes, ask_first, print_json
from workers.settings import LogFormat

JsonLines = Annotated[bool, typer.Option("--json", help="Print each line as JSON; as CALLBOARD_LOG_FORMAT=json.")]
_COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "bright_cyan", "bright_green", "bright_magenta")


def up(as_json: JsonLines = False) -> None:
    """Bring everything up on this machine, and keep it up until Ctrl-C.

    Starts what is not configured: Redis, the SQLite database, a mail catcher. Then workers, scheduler and API.
    """
    from workers.process.up import up as bring_up  # why: only this verb needs the process machinery.

    speak_json(as_json)
    bring_up(callboard.settings, say)


def migrate(
    down: Annotated[bool, typer.Option("--down", help="Go back one step instead of up to the newest.")] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Bring the database's tables up to this version, or one step back."""
    from models import schema  # why: Alembic is slow to import, and every verb would wait for it.

    if down:
        where = f"the database {database.describe()} goes a step back, and tables and columns of that step go with what"
        ask_first(f"Stop all processes first: {where} is in them. Go on?", yes)
    else:  # why not down: a step back may take the log's own table with it.
        audit.record("database.migrate")
    revision = schema.downgrade() if down else schema.upgrade()
    if as_json:
        print_json({"revision": revision})
    else:
        typer.echo(f"the database is at {revision}")


def load_sample(as_json: Json = False) -> None:
    """Load sample records into the embedded database, if it has none of its own yet."""
    audit.record("sample.load")
    loaded = sample.load(callboard.settings)
    if as_json:
        print_json({"added": loaded})
        return
    if not loaded:
        typer.echo("there are records already; nothing was added")
    for table, count in loaded.items():
        typer.echo(f"{count:3} {table.replace('_', ' ')}")


def speak_json(wanted: bool) -> None:
    """From here on, lines of this process and of those that it starts are JSON."""
    if wanted:
        callboard.settings.log_format = LogFormat.JSON


def say(name: str, line: str) -> None:
    """Show a line of one of several processes."""
    if callboard.settings.log_format is LogFormat.JSON:
        # why: whoever reads the lines as JSON wants each of them to be, also those of Redis and of print().
        line = line if line.startswith("{") else json.dumps({"process": name, "message": line})
        with suppress(OSError):
            typer.echo(line)
            sys.stdout.flush()
        return
    colour = "white" if name in ("up", "supervisor") else _COLOURS[zlib.crc32(name.encode()) % len(_COLOURS)]
    with suppress(OSError):  # whoever was reading is gone; the processes go on
        typer.echo(typer.style(f"{name:<10}| ", fg=colour) + line)  # in one write, for several threads say things
        sys.stdout.flush()
