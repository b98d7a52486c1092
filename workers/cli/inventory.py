"""`inventory`: every actor and its schedules, for people, as CSV, or as JSON.

The CSV is meant to be committed and compared in CI, which has no database: `--check` is content with the file as the
code alone makes it, and also with the one that `--csv` has just written where a database adds people's schedules.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from models import database, schedule
from models.schedule import Origin, Schedule
from periodic.declaration import Declaration, checked_trigger
from periodic.timetable import TIMETABLE
from workers import callboard
from workers.cli.show import Json, print_json, print_table
from workers.errors import CallboardError, InvalidSchedule
from workers.registry import source_of, type_of

DEFAULT_FILE = Path("background_tasks_inventory.csv")
COLUMNS = ("name", "type", "queue", "trigger", "retries", "limit", "module", "line")
_FORMULA = ("=", "+", "-", "@")
"""What a spreadsheet takes for the beginning of a formula."""


def inventory(
    wants_csv: Annotated[bool, typer.Option("--csv", help="Write CSV to a file.")] = False,
    output: Annotated[Path, typer.Option(help="The CSV file; - for standard output.")] = DEFAULT_FILE,
    check: Annotated[bool, typer.Option("--check", help="Only compare; exit code 1 if it differs.")] = False,
    as_json: Json = False,
    declared_only: Annotated[bool, typer.Option("--declared", help="Only what the code says: no database is asked, so "
                                                "the file is the same everywhere.")] = False,
) -> None:  # fmt: skip
    """List every actor with its schedules: a line for each schedule, one for an actor without.

    The limit is in seconds. Retries and limit are those of the schedule, else of the actor, else of the settings. The
    schedules are those of the timetable, as the database has them if there is one (paused, overridden), and those that
    people added; --check accepts a file that was written with or without what the database adds.
    """
    if check:
        _compare(output, declared_only=declared_only)
        return
    rows = _rows([] if declared_only else _stored())
    if as_json:
        print_json(rows)
    elif wants_csv and str(output) == "-":
        typer.echo(as_csv(rows), nl=False)
    elif wants_csv:
        try:
            output.write_text(as_csv(rows), encoding="utf-8", newline="")
        except OSError as error:
            raise CallboardError(f"{output} cannot be written ({error.strerror}): name another --output") from None
        typer.echo(f"{len(rows)} lines in {output}")
    else:
        _show(rows)


def _stored() -> list[Schedule]:
    """The schedules of the database; none, and a word on stderr, if it cannot be asked."""
    path = database.sqlite_path()
    if path is not None and not path.exists():
        why = "there is no database yet (`callboard up` or `callboard migrate` makes it)"
    else:
        try:
            with database.reading() as session:
                return schedule.all_rows(session)
        except database.DatabaseError as error:
            why = f"the database cannot be asked ({error})"
    typer.echo(f"callboard: {why}: only what the timetable declares is listed", err=True)
    return []


def _rows(stored: Sequence[Schedule]) -> list[dict[str, Any]]:
    """A line each, in the order of the actors' names; an actor's declared schedules as in the timetable, then people's
    in the order of their ids; at last the schedules whose actors are gone."""
    rows: list[dict[str, Any]] = []
    own_rows = {row.schedule_id: row for row in stored if row.origin == Origin.DECLARED and row.removed_at is None}
    declared = [_declared(one, own_rows.get(one.schedule_id)) for one in TIMETABLE]
    added = [
        (row.actor, {"trigger": in_words(row) + _state(row), "retries": row.max_retries, "limit": row.time_limit_s})
        for row in stored
        if row.origin == Origin.USER
    ]
    for name, actor in sorted(callboard.registry.actors.items()):
        if "periodic" in actor.options:
            continue  # why: the scheduler's own tick is no work.
        module, _, line = source_of(actor).partition(":")
        own: dict[str, Any] = {
            "name": name,
            "type": type_of(actor),
            "queue": actor.queue_name,
            "trigger": "",
            "retries": actor.options.get("max_retries", callboard.settings.max_retries),
            "limit": actor.options.get("time_limit", callboard.settings.time_limit_s * 1000) / 1000,
            "module": module,
            "line": int(line) if line else None,
        }
        scheduled = [
            own | about | {"limit": float(about["limit"])}
            for scheduled_actor, about in (*declared, *added)
            if callboard.registry.find(scheduled_actor) is actor
        ]
        rows += scheduled or [own]
    gone = [(name, about) for name, about in (*declared, *added) if callboard.registry.find(name) is None]
    for name, about in sorted(gone, key=lambda one: one[0]):
        rows.append(dict.fromkeys(COLUMNS) | {"name": name} | about | {"limit": float(about["limit"])})
    return rows


def _declared(line: Declaration, row: Schedule | None) -> tuple[str, dict[str, Any]]:
    """The actor of a declared schedule and what its line says, or what people have made of it."""
    if row is not None and row.overridden:
        said: Declaration | Schedule = row
        state = _state(row)
    else:
        said, state = line, "" if line.enabled else " (disabled)"
    return said.actor, {"trigger": in_words(said) + state, "retries": said.max_retries, "limit": said.time_limit_s}


def _state(row: Schedule) -> str:
    """What people have done to a schedule, to be read behind its trigger."""
    words = [f"{row.schedule_id}, added by a person"] if row.origin == Origin.USER else []
    if not row.enabled:
        words.append("paused")
    elif row.next_run_at is None and row.error is None:
        words.append("never due again")
    if changed := sorted(set(row.overridden) - {"enabled"}):
        words.append(f"overridden: {', '.join(changed)}")
    return f" ({'; '.join(words)})" if words else ""


def in_words(declared: Declaration | Schedule) -> str:
    """When a schedule is due, for people."""
    try:
        return checked_trigger(declared.trigger, declared.time_zone, declared.start_at, declared.end_at).in_words()
    except InvalidSchedule as error:
        return f"error: {error}"


def as_csv(rows: list[dict[str, Any]]) -> str:
    """The rows as CSV with a heading, a line each; no cell begins like a formula."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({column: _cell(row[column]) for column in COLUMNS} for row in rows)
    return text.getvalue()


def _cell(value: Any) -> str:
    """A cell that no spreadsheet takes for a formula: one that begins like it gets an apostrophe before it."""
    text = "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    text = text.replace("\r", " ")  # why: not every reader keeps a bare one within its cell.
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def _compare(output: Path, *, declared_only: bool) -> None:
    mend = f"run `callboard inventory --csv --declared --output {output}`"
    try:
        present = output.read_text(encoding="utf-8")
    except FileNotFoundError:
        problem = f"{output} is missing: {mend}"
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        problem = f"{output} cannot be read ({reason}): name another --output, or {mend}"
    else:
        if present == as_csv(_rows([])) or (not declared_only and present == as_csv(_rows(_stored()))):
            typer.echo(f"{output} is up to date")
            return
        problem = f"{output} is not up to date: {mend}"
    typer.echo(problem, err=True)
    raise typer.Exit(1)


def _show(rows: list[dict[str, Any]]) -> None:
    print_table(
        ("actor", "type", "trigger", "retries", "limit", "source"),
        [
            (row["name"], row["type"], row["trigger"], row["retries"], f"{row['limit']:g} s",
             f"{row['module'] or '?'}:{row['line'] or '?'}")
            for row in rows
        ],
    )  # fmt: skip
