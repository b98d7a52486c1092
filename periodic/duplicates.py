"""One job, one scheduler: who schedules a job twice is told both places (spec/schedules.md).

A job is an actor with its arguments, as they are after aliases are resolved and defaults filled in. It is scheduled
twice if
  - two declarations have it, and the second does not say `also_scheduled='why'` (enabled or not: people enable them);
  - a declaration has it and a user's row, which is enabled, unless the declaration says so;
  - it is run by a scheduler outside this system: `periodic.elsewhere` finds those, and each is a failure even where no
    declaration has its job, because its runs have no row.

Pure but for `place_of` and `user_rows`: nothing here is changed or sent.
"""

import ast
import inspect
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlmodel import Session, col, select

from models.schedule import Schedule
from periodic import timetable as default_timetable
from periodic.elsewhere.found import MARK, Found, Hit
from periodic.timetable import Declaration
from workers.errors import InvalidTask
from workers.params import signature_of, validate
from workers.registry import Registry, function_of

USER = "user"
"""Origin of a row that a person added."""
_WORD = re.compile(r"[A-Za-z_][\w.]*")


@dataclass(frozen=True)
class Declared:
    """A declaration and where it stands: `periodic/timetable.py:36`."""

    declaration: Declaration
    place: str

    @property
    def why(self) -> str | None:
        """Why its job is scheduled elsewhere too; None if it does not say."""
        return getattr(self.declaration, "also_scheduled", None) or None


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
        at = lines.get(one.schedule_id, [])
        # why: of two with one name, the first stands first; a declaration that is made in a loop has no line of its own
        line = at.pop(0) if len(at) > 1 else at[0] if at else None
        found.append(Declared(one, f"{shown}:{line}" if line else str(shown)))
    return found


def among(declared: Sequence[Declared], registry: Registry) -> list[str]:
    """What declarations schedule twice, a line each, with both places and the mend."""
    problems: list[str] = []
    names: dict[str, Declared] = {}
    jobs: dict[str, Declared] = {}
    for one in declared:
        schedule_id = one.declaration.schedule_id
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


def with_rows(declared: Sequence[Declared], rows: Iterable[Schedule], registry: Registry) -> list[str]:
    """What users' rows run that a declaration runs already, a line each."""
    jobs = {_job(one.declaration.actor, one.declaration.params, registry): one for one in reversed(declared)}
    problems = []
    for row in rows:
        first = jobs.get(_job(row.actor, row.params, registry))
        if row.enabled and first is not None and not first.why:
            problems.append(
                f"database, schedules.schedule_id={row.schedule_id!r}: this user's schedule runs {row.actor} with the "
                f"same arguments as schedule {first.declaration.schedule_id} at {first.place}: pause or delete one of "
                "them, or say also_scheduled='why' in the declaration"
            )
    return problems


def user_rows(session: Session) -> list[Schedule]:
    """The schedules that people added and that are enabled, by name."""
    statement = select(Schedule).where(col(Schedule.origin) == USER, col(Schedule.enabled))
    return list(session.exec(statement.order_by(col(Schedule.schedule_id))))


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
    return json.dumps([actor.actor_name if actor else actor_name, named], sort_keys=True, default=repr)


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
