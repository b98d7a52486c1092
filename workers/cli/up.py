"""`up`, `migrate`, `sample`: bringing the system into being."""

import json
import sys
import zlib
from contextlib import suppress
from typing import Annotated

import typer

from workers import audit, callboard, sample
from workers.settings import LogFormat

_COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "bright_cyan", "bright_green", "bright_magenta")


def up() -> None:
    """Bring everything up on this machine, and keep it up until Ctrl-C.

    Starts what is not configured: Redis, the SQLite database, a mail catcher. Then workers, scheduler and API.
    """
    from workers.process.up import up as bring_up  # why: only this verb needs the process machinery.

    bring_up(callboard.settings, say)


def migrate(
    down: Annotated[bool, typer.Option("--down", help="Go back one step instead of up to the newest.")] = False,
) -> None:
    """Bring the database's tables up to this version, or one step back."""
    from models import schema  # why: Alembic is slow to import, and every verb would wait for it.

    if not down:  # why: a step back may take the log's own table with it.
        audit.record("database.migrate")
    revision = schema.downgrade() if down else schema.upgrade()
    typer.echo(f"the database is at {revision}")


def load_sample() -> None:
    """Load sample records into the embedded database, if it has none of its own yet."""
    audit.record("sample.load")
    loaded = sample.load(callboard.settings)
    if not loaded:
        typer.echo("there are records already; nothing was added")
    for table, count in loaded.items():
        typer.echo(f"{count:3} {table.replace('_', ' ')}")


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
