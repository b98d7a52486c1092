"""`check` and `actors`: what is wrong before anything runs, and what there is to run."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from models import database, schedule
from periodic import duplicates, elsewhere
from periodic.timetable import TIMETABLE
from workers import callboard, fleet, start_checks
from workers.cli.show import Json, print_json, print_table, print_text
from workers.settings import Mode
from workers.start_checks import Finding, Weight

EXIT_FOUND = 1
EXIT_UNAVAILABLE = 3


def check(
    paths: Annotated[list[Path] | None, typer.Argument(metavar="[PATH]...", help="Folders and files in which to look "
                                                       "for schedulers outside Callboard.")] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Find what is wrong before anything runs; exit code 1 if there is something.

    Looks at: settings, domain modules, schedules, the tables of the database if there is one, and then at what a worker
    looks at when it starts: Redis's eviction and persistence, passwords and TLS off this machine, clocks. A server that
    is named in the settings, or any in production mode, has to answer: exit code 3. Where none is named, nothing has to
    run: `callboard up` would start it.

    A job that is scheduled twice is a failure, with both places as file:line; a schedule that a person added may say
    why (--also-scheduled), and one that is paused or never due again does not count. In PATH it looks for Kubernetes
    CronJobs, Celery beat, crontabs, APScheduler jobs and asyncio loops that run for ever; a comment on the line, or
    above it, accepts one: # callboard: also-scheduled WHY
    """
    problems, warnings = _in_the_tree(paths or [])
    settings = callboard.settings
    findings = [] if problems or not (_has_database() or _expects_servers()) else _around_the_worker()
    away = [finding for finding in findings if finding.weight is Weight.AWAY]
    for finding in findings:
        if finding.stops(settings.mode):
            problems.append(str(finding))
        elif finding not in away or _expects_servers():
            warnings.append(str(finding))
    code = EXIT_FOUND if problems else EXIT_UNAVAILABLE if away and _expects_servers() else 0
    if as_json:
        print_json({"problems": problems, "warnings": warnings, "actors": len(callboard.registry.actors)})
        raise typer.Exit(code)
    for warning in warnings:
        print_text(f"warning: {warning}", err=True)
    for problem in problems:
        print_text(problem, err=True)
    if code == EXIT_UNAVAILABLE:
        said = "a server that is to be there does not answer: start it, or correct its address"
        typer.echo(f"callboard: {said}", err=True)
    if code:
        raise typer.Exit(code)
    tables = "tables" if _has_database() else "no database yet (`callboard up` or `callboard migrate` makes it)"
    servers = "; no Redis runs (`callboard up` starts it)" if away else ""
    typer.echo(f"all well: {len(callboard.registry.actors)} actors, settings, schedules, {tables}{servers}")


def actors(as_json: Json = False) -> None:
    """List the actors: names, types, parameters, legacy names."""
    rows = fleet.list_actors()
    if as_json:
        print_json(rows)
        return
    print_table(
        ("actor", "type", "priority", "parameters"),
        [(row["name"], row["type"], row["priority"], _parameters(row["params"])) for row in rows],
    )


def _parameters(schema: dict[str, Any]) -> str:
    required = set(schema.get("required", ()))
    return ", ".join(name if name in required else f"[{name}]" for name in schema.get("properties", {}))


def _in_the_tree(paths: list[Path]) -> tuple[list[str], list[str]]:
    """Problems and warnings of code, settings, schedules and tables."""
    problems = [
        f"{failure.module} cannot be imported ({failure.error}): mend it, its actors are missing"
        for failure in callboard.registry.failures
    ]
    problems += _shard_problems()
    schedule_problems, warnings = _about_schedules(paths)
    problems += schedule_problems
    schema_problems = _schema_problems()
    problems += schema_problems
    if not schema_problems and _has_database():
        problems += _rows_scheduled_twice()
    return problems, warnings


def _shard_problems() -> list[str]:
    known = callboard.broker.get_declared_queues()
    return [
        f"CALLBOARD_SHARDS: shard {shard} names the queue {queue!r}, which no actor uses: expected one of "
        f"{', '.join(sorted(known))}"
        for shard, queues in callboard.settings.shards.items()
        for queue in queues
        if queue not in known
    ]


def _about_schedules(paths: list[Path]) -> tuple[list[str], list[str]]:
    """Bad declarations, jobs that they schedule twice or another scheduler runs; and what could not be looked at."""
    declared = duplicates.placed(TIMETABLE)
    found = elsewhere.look(paths)
    registry = callboard.registry
    problems = duplicates.bad(declared, registry) + duplicates.among(declared, registry)
    return problems + duplicates.elsewhere(found, declared, registry), found.warnings


def _rows_scheduled_twice() -> list[str]:
    try:
        with database.reading() as session:
            rows = schedule.all_rows(session)
    except database.DatabaseError:
        return []  # why: a server that is away is found among the servers.
    return duplicates.with_rows(duplicates.placed(TIMETABLE), rows, callboard.registry, datetime.now(UTC))


def _around_the_worker() -> list[Finding]:
    """What the start checks find."""
    return start_checks.run(callboard.settings, callboard.broker.client)


def _expects_servers() -> bool:
    """Whether somebody said that servers are there; if not, they are `callboard up`'s own, which need not run now."""
    settings = callboard.settings
    named = settings.redis_url is not None or settings.database_url is not None
    return named or settings.mode is Mode.PRODUCTION


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
        return [str(finding) for finding in start_checks.check_tables()]
    except database.DatabaseError as error:
        return [] if path is None else [str(error)]  # why: a server that is away is found among the servers.
