"""What a schedule is made of, said once: a line of the timetable, or what a person asks for; and whether it can be.

A trigger is said as plain data (`crontab(…)`, `cron(…)`, `interval(…)`, `date(…)`), which only `checked` looks at: a
line that is wrong must not take the module, and with it every other line, along.

Must not: read or write rows; know the clock.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Final

from models.schedule import Misfire, Overlap
from models.task import MAX_PRIORITY, MIN_PRIORITY
from models.triggers import Trigger, TriggerError, parse, to_row
from workers.errors import InvalidSchedule, InvalidTask
from workers.params import validate
from workers.registry import Registry, function_of

ID_MAX_CHARS: Final = 100
NAME_MAX_CHARS: Final = 200
REASON_MAX_CHARS: Final = 500
ID_PATTERN: Final = "[A-Za-z0-9][A-Za-z0-9._:-]*"
BOUNDS: Final = {
    "priority": (MIN_PRIORITY, MAX_PRIORITY),
    "max_retries": (0, 1_000),
    "time_limit_s": (1, 7 * 24 * 3600),
    "misfire_grace_s": (0, 31 * 24 * 3600),
    "catch_up_max": (1, 1_000),
    "jitter_s": (0, 24 * 3600),
}
"""Whole numbers, from and to."""


@dataclass(frozen=True)
class Declaration:
    """A recurring job.

    Args:
        schedule_id: its name for programs: letters, digits and `._:-`, at most 100.
        actor: canonical name or alias.
        trigger: when it is due; see `crontab`, `cron`, `interval`, `date`.
        params: named arguments of each run.
        name: for people; by default the id.
        time_zone: IANA name, in which the trigger's fields are meant.
        start_at, end_at: never due before or after; aware, or ISO 8601 text.
        enabled: whether it starts enabled.
        priority: 1–10; None for the actor's.
        max_retries, time_limit_s: of each run.
        misfire: what becomes of times at which no scheduler was awake: `skip`, `run_once` or `run_all`.
        misfire_grace_s: so late a run still counts as on time.
        catch_up_max: how many missed times `run_all` makes up for.
        overlap: what becomes of a time at which the run before is unfinished: `allow`, `skip` or `cancel_running`.
        jitter_s: each run starts up to so much later than it is due.
        also_scheduled: why the same actor is scheduled with the same parameters by another line.
    """

    schedule_id: str
    actor: str
    trigger: Trigger | Mapping[str, Any]
    params: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    time_zone: str = "UTC"
    start_at: datetime | str | None = None
    end_at: datetime | str | None = None
    enabled: bool = True
    priority: int | None = None
    max_retries: int = 3
    time_limit_s: int = 300
    misfire: str = Misfire.RUN_ONCE
    misfire_grace_s: int = 60
    catch_up_max: int = 100
    overlap: str = Overlap.SKIP
    jitter_s: int = 0
    also_scheduled: str | None = None


COLUMNS: Final = tuple(one.name for one in fields(Declaration) if one.name != "schedule_id")
"""What of it stands in the row, under the same names."""
WHEN: Final = frozenset({"trigger", "time_zone", "start_at", "end_at"})
"""Those of them that decide when it is due."""


def crontab(expression: str) -> dict[str, Any]:
    """When a crontab line would run: five fields, or `@hourly` …"""
    return {"kind": "crontab", "expression": expression}


def cron(**by_field: int | str) -> dict[str, Any]:
    """When all fields match: year, month, day, week, day_of_week, hour, minute, second. `cron(hour=9)` is 09:00:00."""
    return {"kind": "cron", **by_field}


def interval(**elapsed: int) -> dict[str, Any]:
    """Every so many weeks, days, hours, minutes and seconds of elapsed time."""
    return {"kind": "interval", **elapsed}


def date(run_date: str | datetime) -> dict[str, Any]:
    """Once, at that time: `2026-12-24 18:00:00` in the schedule's zone."""
    return {"kind": "date", "run_date": run_date}


@dataclass(frozen=True)
class Checked:
    """A declaration that can be. values: by column, as JSON holds them (times as datetimes)."""

    values: dict[str, Any]
    trigger: Trigger


def checked(declared: Declaration, registry: Registry, *, params_max_bytes: int = 256 * 1024) -> Checked:
    """Look at all of a declaration.

    Raises:
        InvalidSchedule: the field, what was expected, what came.
    """
    _check_id(declared.schedule_id)
    values = {name: getattr(declared, name) for name in COLUMNS}
    values["name"] = _checked_text("name", declared.name or declared.schedule_id, NAME_MAX_CHARS)
    values["misfire"] = _checked_choice("misfire", declared.misfire, Misfire)
    values["overlap"] = _checked_choice("overlap", declared.overlap, Overlap)
    for name, (least, most) in BOUNDS.items():
        if name != "priority" or declared.priority is not None:
            _check_number(name, getattr(declared, name), least, most)
    if not isinstance(declared.enabled, bool):
        raise InvalidSchedule(f"enabled: expected true or false, got {declared.enabled!r:.50}", field="enabled")
    values["actor"], values["params"] = _checked_job(declared, registry, params_max_bytes)
    trigger = checked_trigger(declared.trigger, declared.time_zone, declared.start_at, declared.end_at)
    if declared.also_scheduled is not None:
        _checked_text("also_scheduled", declared.also_scheduled, REASON_MAX_CHARS)
    values |= {"trigger": to_row(trigger), **_own(trigger)}
    return Checked(values, trigger)


def problems(timetable: Sequence[Declaration], registry: Registry) -> list[str]:
    """What is wrong with each of these declarations, a line each."""
    found: list[str] = []
    for declared in timetable:
        try:
            checked(declared, registry)
        except InvalidSchedule as error:
            found.append(f"schedule {declared.schedule_id!s:.100}: {error}")
    return found


def checked_trigger(
    said: Trigger | Mapping[str, Any],
    time_zone: str = "UTC",
    start_at: datetime | str | None = None,
    end_at: datetime | str | None = None,
) -> Trigger:
    """The trigger that was said, in its zone and bounds. Raises InvalidSchedule."""
    stored = dict(said) if isinstance(said, Mapping) else {**to_row(said), **_own(said)}
    try:
        return parse(stored.pop("kind", None), stored, time_zone=time_zone, start_at=start_at, end_at=end_at)
    except TriggerError as error:
        raise InvalidSchedule(str(error), field=error.field) from None


def raw(declared: Declaration) -> dict[str, Any]:
    """What stands of a declaration that cannot be in a row all the same, so that people see it: nothing is checked."""
    values = {name: getattr(declared, name) for name in COLUMNS}
    said = values["trigger"]
    values["trigger"] = dict(said) if isinstance(said, Mapping) else {"kind": repr(said)[:NAME_MAX_CHARS]}
    for name in ("start_at", "end_at"):
        values[name] = None
    return {name: json.loads(json.dumps(value, default=str)) for name, value in values.items()}


def _check_id(schedule_id: object) -> None:
    ok = isinstance(schedule_id, str) and len(schedule_id) <= ID_MAX_CHARS and re.fullmatch(ID_PATTERN, schedule_id)
    if not ok:
        raise InvalidSchedule(
            f"id: expected 1–{ID_MAX_CHARS} letters, digits and ._:- that begin with a letter or digit, "
            f"got {schedule_id!r:.120}",
            field="id",
        )


def _checked_text(name: str, value: object, most: int) -> str:
    if not isinstance(value, str) or len(value) > most or not value.isprintable():
        raise InvalidSchedule(f"{name}: expected at most {most} printable characters, got {value!r:.120}", field=name)
    return value


def _check_number(name: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidSchedule(f"{name}: expected a whole number, {least}–{most}, got {value!r:.50}", field=name)


def _checked_choice(name: str, value: object, choices: type[Misfire] | type[Overlap]) -> str:
    try:
        return str(choices(value))  # type: ignore[arg-type]  # why: whatever it is, an enum refuses what is none of it.
    except ValueError:
        raise InvalidSchedule(f"{name}: expected one of {', '.join(choices)}; got {value!r:.50}", field=name) from None


def _own(trigger: Trigger) -> dict[str, Any]:
    """What of a trigger stands in columns of their own."""
    return {"time_zone": trigger.time_zone, "start_at": trigger.start_at, "end_at": trigger.end_at}


def _checked_job(declared: Declaration, registry: Registry, params_max_bytes: int) -> tuple[str, dict[str, Any]]:
    if not isinstance(declared.params, Mapping) or not all(isinstance(name, str) for name in declared.params):
        raise InvalidSchedule(f"params: expected named arguments, got {declared.params!r:.80}", field="params")
    try:
        actor = registry.resolve(str(declared.actor))
        params = validate(function_of(actor), declared.params)
    except InvalidTask as error:
        if error.field == "task_name":
            raise InvalidSchedule(f"actor: {error}", field="actor") from None
        raise InvalidSchedule(str(error), field=error.field) from None
    size = len(json.dumps(params))
    if size > params_max_bytes:
        raise InvalidSchedule(f"params: expected at most {params_max_bytes} bytes of JSON, got {size}", field="params")
    return actor.actor_name, params
