"""`schedules list|show|add|edit|delete|pause|resume|run|runs|preview|reset`: recurring jobs in a terminal."""

import builtins
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer

from periodic import schedules
from periodic.declaration import COLUMNS
from workers import audit
from workers.cli import complete
from workers.cli.enqueue import parse_params
from workers.cli.show import Json, print_json, print_table
from workers.errors import InvalidSchedule

app = typer.Typer(help="Look at schedules, change them, run one now.", no_args_is_help=True)

_Id = Annotated[str, typer.Argument(metavar="ID", help="The schedule's id.", autocompletion=complete.schedules)]
_Every = Annotated[str | None, typer.Option("--every", help="Interval: 30s, 5m, 2h, 1d, 1w, or several: 1h30m.")]
_Crontab = Annotated[str | None, typer.Option("--crontab", help="Five crontab fields, or @daily …")]
_Cron = Annotated[builtins.list[str] | None, typer.Option("--cron", metavar="FIELD=VALUE", help="A field that must "
                  "match: year, month, day, week, day_of_week, hour, minute, second. Repeat it.")]  # fmt: skip
_At = Annotated[str | None, typer.Option("--at", help="Once: 2026-12-24 18:00:00, in the zone.")]
_Zone = Annotated[str | None, typer.Option("--zone", help="IANA time zone, such as Europe/Berlin.")]
_Start = Annotated[str | None, typer.Option("--start", help="Never due before: 2026-12-01T00:00:00+01:00.")]
_End = Annotated[str | None, typer.Option("--end", help="Never due after.")]
_Param = Annotated[builtins.list[str] | None, typer.Option("--param", metavar="KEY=VALUE", help="A parameter of each "
                   "run; a value that starts with {, [ or \" is JSON. Repeat it.")]  # fmt: skip
_Name = Annotated[str | None, typer.Option("--name", help="For people.")]
_Priority = Annotated[int | None, typer.Option(help="1 (last) to 10 (first); by default the actor's.")]
_Retries = Annotated[int | None, typer.Option(help="Retries of each run.")]
_Limit = Annotated[int | None, typer.Option("--time-limit", metavar="SECONDS", help="Time limit of each run.")]
_Misfire = Annotated[str | None, typer.Option(help="Missed times: skip, run_once or run_all.")]
_Grace = Annotated[int | None, typer.Option("--misfire-grace", metavar="SECONDS", help="So late is on time.")]
_CatchUp = Annotated[int | None, typer.Option("--catch-up-max", help="How many missed times run_all makes up for.")]
_Also = Annotated[str | None, typer.Option("--also-scheduled", metavar="WHY", help="Why the same job is scheduled "
                  "besides this one.")]  # fmt: skip
_Overlap = Annotated[str | None, typer.Option(help="The run before is unfinished: allow, skip or cancel_running.")]
_Jitter = Annotated[
    int | None, typer.Option("--jitter", metavar="SECONDS", help="Each run starts up to so much later.")
]


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the schedules: when they are due, and how their last run went."""
    rows = schedules.list()
    if as_json:
        print_json(rows)
        return
    print_table(
        ("schedule", "when", "next", "last"),
        [(row["id"], row["words"] or f"error: {row['error']}", _next(row), row["last_status"] or "-") for row in rows],
    )
    typer.echo(f"{len(rows)} schedule{'' if len(rows) == 1 else 's'}")


@app.command()
def show(schedule_id: _Id, as_json: Json = False) -> None:
    """Show one schedule, its overrides, and when it is due next."""
    row = schedules.get(schedule_id)
    if row["error"] is None:
        trigger = {"trigger": row["trigger"], "time_zone": row["time_zone"]}
        row["next"] = schedules.preview(**trigger, start_at=row["start_at"], end_at=row["end_at"])["next"]
    if as_json:
        print_json(row)
        return
    for name, value in row.items():
        if name == "next":
            typer.echo("next times:")
            for time in value:
                typer.echo(f"  {_time(time, row['time_zone'])}")
        elif name == "overridden" and value:
            said = ", ".join(f"{column} (declared: {(row['declared'] or {}).get(column)})" for column in value)
            typer.echo(f"overridden: {said}; `callboard schedules reset {schedule_id}` takes it back")
        elif name != "declared" and value not in (None, "", [], {}):
            typer.echo(f"{name}: {_shown(value, row['time_zone'])}")


@app.command()
def add(
    schedule_id: _Id, actor: Annotated[str, typer.Argument(help="Name of the actor.", autocompletion=complete.actors)],
    every: _Every = None, crontab: _Crontab = None, cron: _Cron = None, at: _At = None, zone: _Zone = None,
    start: _Start = None, end: _End = None, param: _Param = None, name: _Name = None, priority: _Priority = None,
    max_retries: _Retries = None, time_limit_s: _Limit = None, misfire: _Misfire = None,
    misfire_grace_s: _Grace = None, catch_up_max: _CatchUp = None, overlap: _Overlap = None, jitter_s: _Jitter = None,
    also_scheduled: _Also = None,
    paused: Annotated[bool, typer.Option("--paused", help="Add it paused.")] = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Add a schedule, with exactly one of --every, --crontab, --cron, --at.

    Example: callboard schedules add nightly-check health.check_system --crontab "0 2 * * *" --zone Europe/Berlin
    """
    trigger = _trigger(every, crontab, cron, at)
    if trigger is None:
        raise InvalidSchedule("trigger: expected one of --every, --crontab, --cron or --at", field="trigger")
    fields = _given(
        time_zone=zone, start_at=start, end_at=end, name=name, priority=priority, max_retries=max_retries,
        time_limit_s=time_limit_s, misfire=misfire, misfire_grace_s=misfire_grace_s, catch_up_max=catch_up_max,
        overlap=overlap, jitter_s=jitter_s, also_scheduled=also_scheduled,
    )  # fmt: skip
    kind = trigger.pop("kind")
    audit.record("schedules.add", schedule_id, details={"actor": actor})
    row = schedules.add(actor, kind, schedule_id, params=parse_params(param or []), enabled=not paused,
                        **fields, **trigger)  # fmt: skip
    _tell(row, "added", as_json=as_json)


@app.command()
def edit(
    schedule_id: _Id,
    actor: Annotated[
        str | None, typer.Option(help="Name of another actor.", autocompletion=complete.actors)
    ] = None,
    every: _Every = None, crontab: _Crontab = None, cron: _Cron = None, at: _At = None, zone: _Zone = None,
    start: _Start = None, end: _End = None, param: _Param = None, name: _Name = None, priority: _Priority = None,
    max_retries: _Retries = None, time_limit_s: _Limit = None, misfire: _Misfire = None,
    misfire_grace_s: _Grace = None, catch_up_max: _CatchUp = None, overlap: _Overlap = None, jitter_s: _Jitter = None,
    also_scheduled: _Also = None,
    clear: Annotated[builtins.list[str] | None, typer.Option("--clear", metavar="FIELD", help="Empty start_at, "
                     "end_at, priority or params. Repeat it.")] = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Change a schedule; it takes effect within a second. What was not given stays."""
    changes = _given(
        actor=actor, trigger=_trigger(every, crontab, cron, at), time_zone=zone, start_at=start, end_at=end, name=name,
        params=None if param is None else parse_params(param), priority=priority, max_retries=max_retries,
        time_limit_s=time_limit_s, misfire=misfire, misfire_grace_s=misfire_grace_s, catch_up_max=catch_up_max,
        overlap=overlap, jitter_s=jitter_s, also_scheduled=also_scheduled,
    )  # fmt: skip
    for field in clear or []:
        if field not in ("start_at", "end_at", "priority", "params"):
            raise InvalidSchedule(
                f"clear: expected start_at, end_at, priority or params, got {field!r:.50}", field="clear"
            )
        changes[field] = {} if field == "params" else None
    if not changes:
        raise InvalidSchedule(f"nothing to change: give at least one of {', '.join(COLUMNS)}", field="changes")
    audit.record("schedules.edit", schedule_id, details={"fields": sorted(changes)})
    _tell(schedules.edit(schedule_id, **changes), "changed", as_json=as_json)


@app.command()
def delete(schedule_id: _Id, as_json: Json = False) -> None:
    """Delete a schedule that a person added. Its runs and tasks stay on record."""
    audit.record("schedules.delete", schedule_id)
    schedules.delete(schedule_id)
    if as_json:
        print_json({"id": schedule_id, "deleted": True})
    else:
        typer.echo(f"{schedule_id} deleted")


@app.command()
def pause(schedule_id: _Id, as_json: Json = False) -> None:
    """Send nothing until `resume`."""
    audit.record("schedules.pause", schedule_id)
    _tell(schedules.pause(schedule_id), "paused", as_json=as_json)


@app.command()
def resume(schedule_id: _Id, as_json: Json = False) -> None:
    """Make it due again, from now on."""
    audit.record("schedules.resume", schedule_id)
    _tell(schedules.resume(schedule_id), "resumed", as_json=as_json)


@app.command()
def reset(schedule_id: _Id, as_json: Json = False) -> None:
    """Take back what people changed of a declared schedule."""
    audit.record("schedules.reset", schedule_id)
    _tell(schedules.reset(schedule_id), "as declared", as_json=as_json)


@app.command()
def run(
    schedule_id: _Id,
    force: Annotated[bool, typer.Option("--force", help="Even if the run before is unfinished.")] = False,
    as_json: Json = False,
) -> None:
    """Send a task of this schedule now, besides its due times."""
    audit.record("schedules.run", schedule_id)
    task_id = schedules.run(schedule_id, by="the command line", force=force)
    if as_json:
        print_json({"task_id": task_id})
    else:
        typer.echo(task_id)


@app.command()
def runs(
    schedule_id: _Id,
    limit: Annotated[int, typer.Option(min=1, max=schedules.RUNS_MAX, help="Rows.")] = 20,
    as_json: Json = False,
) -> None:
    """Show what became of its due times, newest first."""
    rows = schedules.runs(schedule_id, limit=limit)
    if as_json:
        print_json(rows)
        return
    print_table(("due", "outcome", "late", "task"), [_run(row) for row in rows])


def _run(row: dict[str, Any]) -> tuple[str, ...]:
    due = _time(row["due_at"])
    if row["due_until"] is not None:
        due += f" and {'many' if row['due_count'] is None else row['due_count'] - 1} more"
    by_hand = (row["reason"] or "").startswith("run now")
    became = row["task_id"] and f"{row['task_id']} {row['task_status'] or 'pruned'}"
    if became and row["reason"]:
        became += f" ({row['reason']})"
    late = "by hand" if by_hand else f"{row['lateness_ms'] / 1000:.1f} s"
    return due, row["outcome"], late, became or row["reason"] or ""


@app.command()
def preview(
    every: _Every = None, crontab: _Crontab = None, cron: _Cron = None, at: _At = None, zone: _Zone = None,
    start: _Start = None, end: _End = None,
    count: Annotated[int, typer.Option(min=1, max=schedules.PREVIEW_MAX, help="How many times.")] = 5,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Say a trigger in words, and its next times. Changes nothing.

    Example: callboard schedules preview --crontab "10,50 9 * * *" --zone Europe/Berlin
    """
    trigger = _trigger(every, crontab, cron, at)
    if trigger is None:
        raise InvalidSchedule("trigger: expected one of --every, --crontab, --cron or --at", field="trigger")
    found = schedules.preview(trigger, **_given(time_zone=zone, start_at=start, end_at=end), count=count)
    if as_json:
        print_json(found)
        return
    typer.echo(found["words"])
    for time in found["next"]:
        typer.echo(f"  {_time(time, zone or 'UTC')}")


def _trigger(
    every: str | None, crontab: str | None, cron: Sequence[str] | None, at: str | None
) -> dict[str, Any] | None:
    """What the options say of the trigger; None if they say nothing."""
    said: builtins.list[dict[str, Any]] = []
    if every is not None:
        said.append({"kind": "interval", **_elapsed(every)})
    if crontab is not None:
        said.append({"kind": "crontab", "expression": crontab})
    if cron:
        said.append({"kind": "cron", **_fields(cron)})
    if at is not None:
        said.append({"kind": "date", "run_date": at})
    if len(said) > 1:
        raise InvalidSchedule("trigger: expected only one of --every, --crontab, --cron and --at", field="trigger")
    return said[0] if said else None


def _fields(cron: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in cron:
        field, is_said, value = one.partition("=")
        if not is_said or field in ("", "kind"):
            raise InvalidSchedule(f"cron: expected FIELD=VALUE, such as hour=9, got {one!r:.60}", field="cron")
        if field in found:
            mend = f"write {field}={found[field]},{value}"
            raise InvalidSchedule(f"{field:.40}: expected it once, got it twice: {mend:.100}", field=field)
        found[field] = value
    return found


_UNITS = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


def _elapsed(text: str) -> dict[str, int]:
    found: dict[str, int] = {}
    digits = ""
    for char in text[:50]:
        unit = _UNITS.get(char)
        if char.isascii() and char.isdigit():
            digits += char
        elif unit is not None and digits and unit not in found:
            found[unit], digits = int(digits), ""
        else:
            break
    else:
        if found and not digits and len(text) <= 50:
            return found
    raise InvalidSchedule(
        f"every: expected numbers with units, such as 30s, 5m or 1h30m, got {text!r:.60}", field="every"
    )


def _shown(value: object, time_zone: str) -> str:
    if isinstance(value, datetime):
        return _time(value, time_zone)
    return value if isinstance(value, str) else json.dumps(value)


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _tell(row: dict[str, Any], done: str, *, as_json: bool) -> None:
    if as_json:
        print_json(row)
    else:
        words = row["words"] or f"error: {row['error']}"
        typer.echo(f"{row['id']} {done}: {words}" + (f"; next {_next(row)}" if row["enabled"] else ""))


def _next(row: dict[str, Any]) -> str:
    if row["removed_at"] is not None:
        return "removed"
    if not row["enabled"]:
        return "paused"
    return "never" if row["next_run_at"] is None else _time(row["next_run_at"], row["time_zone"])


def _time(moment: datetime, time_zone: str = "UTC") -> str:
    return moment.astimezone(ZoneInfo(time_zone)).strftime("%Y-%m-%d %H:%M:%S %Z")
