"""One job, one scheduler: who schedules a job twice is told both places (spec/schedules.md).

A job is an actor with its arguments, as they are after aliases are resolved and defaults filled in. It is scheduled
twice if
  - two declarations have it, and the second does not say `also_scheduled='why'` (enabled or not: people enable them);
  - a declaration has it and a user's row, both of which will be due again (not paused, not ended, not in error), unless
    one of them says `also_scheduled`;
  - it is run by a scheduler outside this system: `periodic.elsewhere` finds those, and each is a failure even where no
    declaration has its job, because its runs have no row.

Pure but for `placed`, which reads the file: nothing here is changed or sent.
"""

import ast
import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from models.schedule import Origin, Schedule
from periodic import declaration as declarations
from periodic import timetable as default_timetable
from periodic.elsewhere.found import MARK, Found, Hit
from periodic.timetable import Declaration
from workers.errors import InvalidSchedule, InvalidTask
from workers.params import signature_of, validate
from workers.registry import Registry, function_of

_WORD = re.compile(r"[A-Za-z_][\w.]*")


@dataclass(frozen=True)
class Declared:
    """A declaration and where it stands: `periodic/timetable.py:36`."""

    declaration: Declaration
    place: str

    @property
    def why(self) -> str | None:
        """Why its job is scheduled elsewhere too; None if it does not say."""
        return self.declaration.also_scheduled or None


def placed(declarations: Sequence[Declaration], file: Path | None = None) -> list[Declared]:
    """The declarations with their places.

    Args:
        declarations: in the order of the file.
        file: where they are written; by default `periodic/timetable.py`.
    """
    file = file or Path(inspect.getfile(default_timetable))
    lines = _lines_of(file)
    shown = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
    found = []
    for one in declarations:
        at = lines.get(str(one.schedule_id), [])
        # why: of two with one name, the first stands first; a declaration that is made in a loop has no line of its own
        line = at.pop(0) if len(at) > 1 else at[0] if at else None
        found.append(Declared(one, f"{shown}:{line}" if line else str(shown)))
    return found


def bad(declared: Sequence[Declared], registry: Registry) -> list[str]:
    """What is wrong with declarations by themselves, a line each with its place."""
    return [
        f"{one.place}: {problem}" for one in declared for problem in declarations.problems([one.declaration], registry)
    ]


def among(declared: Sequence[Declared], registry: Registry) -> list[str]:
    """What declarations schedule twice, a line each, with both places and the mend."""
    problems: list[str] = []
    names: dict[str, Declared] = {}
    jobs: dict[str, Declared] = {}
    for one in declared:
        schedule_id = str(one.declaration.schedule_id)  # why: a line may say anything; `problems` says what is wrong.
        if first := names.get(schedule_id):
            problems.append(f"{one.place}: schedule {schedule_id} is declared at {first.place} already: rename one of "
                            "them")  # fmt: skip
        names.setdefault(schedule_id, one)
        job = _job(one.declaration.actor, one.declaration.params, registry)
        if (first := jobs.get(job)) and not one.why:
            problems.append(
                f"{one.place}: schedule {schedule_id} runs {one.declaration.actor} with the same arguments as schedule "
                f"{first.declaration.schedule_id} at {first.place}: remove one of them, or say also_scheduled='why' "
                "here"
            )
        jobs.setdefault(job, one)
    return problems


def with_rows(declared: Sequence[Declared], rows: Sequence[Schedule], registry: Registry, now: datetime) -> list[str]:
    """What users' rows run that a declaration runs already, a line each.

    Args:
        rows: all that there are: a declaration is as its own row says, if it has one, for people edit and pause it.
        now: aware; a schedule that is never due after it counts for nothing.
    """
    own = {row.schedule_id: row for row in rows if row.origin == Origin.DECLARED}
    jobs: dict[str, Declared] = {}
    for one in declared:
        row = own.get(one.declaration.schedule_id)
        if one.why or (row is not None and (row.also_scheduled or not _will_be_due(row, now))):
            continue
        of = row or one.declaration
        if row is not None or one.declaration.enabled:
            jobs.setdefault(_job(of.actor, of.params, registry), one)
    problems = []
    for row in rows:
        first = jobs.get(_job(row.actor, row.params, registry)) if row.origin == Origin.USER else None
        if first is not None and not row.also_scheduled and _will_be_due(row, now):
            problems.append(
                f"database, schedules.schedule_id={row.schedule_id!r}: this user's schedule runs {row.actor} with the "
                f"same arguments as schedule {first.declaration.schedule_id} at {first.place}: pause or delete one of "
                f"them, or say why there are two: callboard schedules edit {row.schedule_id} --also-scheduled WHY"
            )
    return problems


def _will_be_due(row: Schedule, now: datetime) -> bool:
    if not row.enabled or row.next_run_at is None or row.removed_at is not None or row.error is not None:
        return False
    try:
        trigger = declarations.checked_trigger(row.trigger, row.time_zone, row.start_at, row.end_at)
    except InvalidSchedule:
        return False  # why: it cannot run.
    return trigger.next_after(now) is not None


def elsewhere(found: Found, declared: Sequence[Declared], registry: Registry) -> list[str]:
    """What schedulers outside this system run, a line each; with the declaration of the same actor if there is one."""
    return [f"{hit.place}: {_words(hit, declared, registry)}" for hit in found.hits] + found.problems


def _words(hit: Hit, declared: Sequence[Declared], registry: Registry) -> str:
    what = f"{hit.kind} {hit.name!r}"
    if hit.has_empty_mark:
        return f"{what} is marked as scheduled outside Callboard without a reason: write it: {MARK}"
    actors = list(dict.fromkeys(_actors_in(hit.about, registry)))
    for one in declared:
        actor = registry.find(one.declaration.actor)
        if actor is not None and actor.actor_name in actors:
            return (f"{what} runs {actor.actor_name}, which schedule {one.declaration.schedule_id} at {one.place} runs "
                    f"too: remove one of them, or mark this one: {MARK}")  # fmt: skip
    job = f" (it seems to run {actors[0]})" if actors else ""
    return f"{what} is scheduled outside Callboard{job}: move it to periodic/timetable.py, or mark it: {MARK}"


def _actors_in(text: str, registry: Registry) -> Iterator[str]:
    for word in _WORD.findall(text):
        if found := registry.find(word.rstrip(".")):
            yield found.actor_name


def _job(actor_name: str, params: Mapping[str, Any], registry: Registry) -> str:
    """What makes two jobs the same, as text."""
    actor = registry.find(actor_name)
    named: Any = params
    if actor is not None:
        try:
            bound = signature_of(function_of(actor)).bind(**validate(function_of(actor), params))
            bound.apply_defaults()
            named = bound.arguments
        except (InvalidTask, TypeError):  # why: said by the agenda; two that are wrong alike are the same job.
            named = params
    try:
        return json.dumps([actor.actor_name if actor else actor_name, named], sort_keys=True, default=repr)
    except (TypeError, ValueError):  # why: names that are no text; said as above.
        return repr((actor_name, named))


def _lines_of(file: Path) -> dict[str, list[int]]:
    """Schedule → the lines of the calls that declare it."""
    lines: dict[str, list[int]] = {}
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Call):
            given = node.args[:1] + [one.value for one in node.keywords if one.arg == "schedule_id"]
            for one in given:
                if isinstance(one, ast.Constant) and isinstance(one.value, str):
                    lines.setdefault(one.value, []).append(node.lineno)
    return {name: sorted(at) for name, at in lines.items()}
