"""`check` and `actors`: what is wrong before anything runs, and what there is to run."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from models import database, schema
from workers import callboard, start_checks
from workers.params import model_of
from workers.registry import aliases_of, default_priority_of, function_of, source_of, type_of
from workers.settings import Mode


def check(
    paths: Annotated[list[Path] | None, typer.Argument(metavar="[PATH]...", help="Folders and files in which to look "
                                                       "for schedulers outside Callboard.")] = None,
) -> None:  # fmt: skip
    """Find what is wrong before anything runs; exit code 1 if there is something.

    Looks at: settings, domain modules, schedules, the tables of the database if there is one, and then at what a worker
    looks at when it starts: Redis's eviction and persistence, passwords and TLS off this machine, clocks.

    A job that is scheduled twice is a failure, with both places as file:line. In PATH it looks for Kubernetes CronJobs,
    Celery beat, crontabs, APScheduler jobs and asyncio loops that run for ever; a comment on the line, or above it,
    accepts one: # callboard: also-scheduled WHY
    """
    problems = [
        f"{failure.module} cannot be imported ({failure.error}): mend it, its actors are missing"
        for failure in callboard.registry.failures
    ]
    problems += _shard_problems()
    count = len(callboard.registry.actors)
    from periodic import agenda  # why: importing it declares the scheduler's tick, which only the scheduler needs.

    problems += agenda.problems()
    scheduled_twice, warnings = _scheduled_twice(paths or [])
    problems += scheduled_twice
    schema_problems = _schema_problems()
    problems += schema_problems
    if not schema_problems and _has_database():
        problems += _rows_scheduled_twice()
    if not problems and _has_database():
        problems, around = _around_the_worker()
        warnings += around
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)
    for problem in problems:
        typer.echo(problem, err=True)
    if problems:
        raise typer.Exit(1)
    tables = "tables" if _has_database() else "no database yet (`callboard up` or `callboard migrate` makes it)"
    typer.echo(f"all well: {count} actors, settings, schedules, {tables}")


def actors(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the actors: names, types, parameters, legacy names."""
    rows = [
        {
            "name": name,
            "type": type_of(actor),
            "queue": actor.queue_name,
            "priority": default_priority_of(actor),
            "aliases": list(aliases_of(actor)),
            "source": source_of(actor),
            "params": model_of(function_of(actor)).model_json_schema(),
        }
        for name, actor in sorted(callboard.registry.actors.items())
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console  # why: rich is slow to import and most verbs do not need it.
    from rich.table import Table

    table = Table("actor", "type", "priority", "parameters")
    for row in rows:
        schema_of = row["params"]
        assert isinstance(schema_of, dict)
        required = set(schema_of.get("required", ()))
        shown = ", ".join(name if name in required else f"[{name}]" for name in schema_of.get("properties", {}))
        table.add_row(str(row["name"]), str(row["type"]), str(row["priority"]), shown.replace("[", "\\["))
    Console().print(table)


def _shard_problems() -> list[str]:
    known = callboard.broker.get_declared_queues()
    return [
        f"CALLBOARD_SHARDS: shard {shard} names the queue {queue!r}, which no actor uses: expected one of "
        f"{', '.join(sorted(known))}"
        for shard, queues in callboard.settings.shards.items()
        for queue in queues
        if queue not in known
    ]


def _scheduled_twice(paths: list[Path]) -> tuple[list[str], list[str]]:
    """Jobs that declarations schedule twice or another scheduler runs, and what could not be looked at."""
    from periodic import duplicates, elsewhere  # why: as in check().
    from periodic.timetable import TIMETABLE

    declared = duplicates.placed(TIMETABLE)
    found = elsewhere.look(paths)
    registry = callboard.registry
    return duplicates.among(declared, registry) + duplicates.elsewhere(found, declared, registry), found.warnings


def _rows_scheduled_twice() -> list[str]:
    from periodic import duplicates  # why: as in check().
    from periodic.timetable import TIMETABLE

    with database.reading() as session:
        rows = duplicates.user_rows(session)
    return duplicates.with_rows(duplicates.placed(TIMETABLE), rows, callboard.registry)


def _around_the_worker() -> tuple[list[str], list[str]]:
    """What the start checks find: what would stop a start in this mode, and what would not."""
    settings = callboard.settings
    findings = start_checks.run(settings, callboard.broker.client)
    is_strict = settings.mode is Mode.PRODUCTION
    return (
        [str(finding) for finding in findings if finding.stops and is_strict],
        [str(finding) for finding in findings if not (finding.stops and is_strict)],
    )


def _has_database() -> bool:
    path = database.sqlite_path()
    return path is None or path.exists()


def _schema_problems() -> list[str]:
    path = database.sqlite_path()
    if path is not None and not path.exists():
        # why: nothing was started yet; `up` and `migrate` make the file, if its folder can be made.
        place = next(parent for parent in path.absolute().parents if parent.exists())
        if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
            return []
        return [f"the database {path} cannot be made, for {place} is no folder that is writable: set CALLBOARD_VAR_DIR "
                "or CALLBOARD_DATABASE_URL"]  # fmt: skip
    try:
        current = schema.current()
    except database.DatabaseError as error:
        return [str(error)]
    if current == schema.head():
        return []
    return [f"the database is at {current}, this code needs {schema.head()}: run `callboard migrate`"]
