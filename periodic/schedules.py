"""What people do with schedules: add, list, edit, pause, run now, look ahead and back; for REST and CLI too.

Each change is one transaction that holds the schedule's row, so that it and a claim come one after the other; the
scheduler sees it at its next wake-up, within a second.

Must not: know the web or the terminal.
"""

import builtins
import difflib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from models import database, direct, schedule, task_moves
from models.schedule import Origin, RunOutcome, Schedule, ScheduleRun
from models.schedule_claim import Run
from models.task import TERMINAL
from models.triggers import preview as due_times
from periodic import run as one_run
from periodic.declaration import COLUMNS, WHEN, Checked, Declaration, checked, checked_trigger
from periodic.run import Sending
from periodic.synchronise import definition_of, set_due
from periodic.view import as_dict, with_secrets
from workers import callboard
from workers.errors import InvalidSchedule, ScheduleRefused, UnknownSchedule
from workers.ledger import outbox

__all__ = [
    "add",
    "add_as",
    "count",
    "delete",
    "edit",
    "get",
    "list",
    "pause",
    "preview",
    "reset",
    "resume",
    "run",
    "runs",
]

PREVIEW_MAX: Final = 1_000
RUNS_MAX: Final = 1_000
NEAR_AMONG: Final = 2_000
"""Among so many ids a mistyped one's neighbours are looked for."""


def add(
    actor: str,
    trigger: str,
    id: str,  # why: the name that the interface has in spec/schedules.md.
    *,
    max_retries: int = 3,
    time_limit_s: int = 300,
    params: Mapping[str, Any] | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Add a schedule.

    Args:
        actor: canonical name or alias.
        trigger: its kind: `interval`, `cron`, `crontab` or `date`.
        id: letters, digits and `._:-`, at most 100.
        max_retries, time_limit_s: of each run.
        params: named arguments of each run.
        fields: of the trigger (`hour=9`, `minutes=5`, `expression="0 9 * * *"`, `run_date=…`), and what else a
            `Declaration` has (`time_zone=`, `misfire=`, `overlap=` …).

    Returns:
        The schedule, as `get` gives it.

    Raises:
        InvalidSchedule: the field, what was expected, what came; also if the id is taken.
        DatabaseError: nothing was added.
    """
    known = {name: fields.pop(name) for name in COLUMNS if name in fields}
    said = {"kind": trigger, **fields}
    return add_as(actor, said, id, params=params or {}, max_retries=max_retries, time_limit_s=time_limit_s, **known)


def add_as(actor: str, trigger: Mapping[str, Any], id: str, **columns: Any) -> dict[str, Any]:  # why: as above.
    """As `add`, the trigger said as a mapping with `kind`, and by column what else a `Declaration` has."""
    found = _checked(Declaration(schedule_id=id, actor=actor, trigger=trigger, **columns))
    now = datetime.now(UTC)
    taken = InvalidSchedule(f"id: there is a schedule {id!r} already: edit it, or choose another id", field="id")
    try:
        _insert(id, found, now, taken)
    except IntegrityError:
        raise taken from None  # why: another has added it since we looked.
    return get(id)


def _insert(id: str, found: Checked, now: datetime, taken: InvalidSchedule) -> None:  # why: as above.
    with database.writing() as session:
        if schedule.find(session, id) is not None:
            raise taken
        most = callboard.settings.schedules_max
        if schedule.count(session) >= most:
            raise InvalidSchedule(f"there are {most} schedules, which is the most (CALLBOARD_SCHEDULES_MAX): "
                                  "delete some", field="id")  # fmt: skip
        row = Schedule(schedule_id=id, origin=Origin.USER, created_at=now, updated_at=now, **found.values)
        row.next_run_at = _first_due(found, now)
        session.add(row)


def list(  # noqa: A001  # why: as for `id`.
    *, limit: int | None = None, offset: int = 0
) -> builtins.list[dict[str, Any]]:
    """Schedules in the order of their ids; see periodic.view. limit: at most so many after `offset`; None: all."""
    with database.reading() as session:
        return [as_dict(row, status) for row, status in schedule.with_status(session, limit=limit, offset=offset)]


def count() -> int:
    """How many schedules there are."""
    with database.reading() as session:
        return schedule.count(session)


def get(schedule_id: str) -> dict[str, Any]:
    """One schedule; see periodic.view. Raises UnknownSchedule."""
    with database.reading() as session:
        found = schedule.with_status(session, only=schedule_id)
        if not found:
            raise _unknown(session, schedule_id)
        return as_dict(*found[0])


def edit(schedule_id: str, **changes: Any) -> dict[str, Any]:
    """Change columns of a schedule. Of a declared one they become overrides, which the timetable does not change back.

    Args:
        changes: by column (see `Declaration`); `trigger` is a mapping with `kind` and the trigger's fields.

    Returns:
        The schedule after it.

    Raises:
        UnknownSchedule, InvalidSchedule: nothing was changed.
    """
    unknown = sorted(set(changes) - set(COLUMNS))
    if unknown:
        near = difflib.get_close_matches(unknown[0], COLUMNS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(COLUMNS)}"
        raise InvalidSchedule(f"{unknown[0]}: a schedule has no such field: {hint}", field=unknown[0])
    now = datetime.now(UTC)
    with database.writing() as session:
        row = _find(session, schedule_id)
        if "params" in changes:
            changes["params"] = with_secrets(changes["params"], row.params)
        found = _checked(definition_of(row, **changes))
        for name in changes:
            setattr(row, name, found.values[name])
        _note_overrides(row)
        row.updated_at = now
        if WHEN & changes.keys():
            _first_due(found, now)
        set_due(
            row, callboard.registry, now, anew=bool(WHEN & changes.keys()) or (row.enabled and "enabled" in changes)
        )
    return get(schedule_id)


def pause(schedule_id: str) -> dict[str, Any]:
    """Nothing is sent until `resume`. A task that was sent already goes on. Raises UnknownSchedule."""
    return edit(schedule_id, enabled=False)


def resume(schedule_id: str) -> dict[str, Any]:
    """It is due again from now on; what passed meanwhile was not missed. Raises UnknownSchedule, ScheduleRefused."""
    with database.reading() as session:
        row = _find(session, schedule_id, to_change=False)
    if row.removed_at is not None:
        raise ScheduleRefused(
            f"schedule {schedule_id} is not in the timetable any more: put its line back, or add one of your own"
        )
    if row.enabled:
        return get(schedule_id)
    return edit(schedule_id, enabled=True)


def reset(schedule_id: str) -> dict[str, Any]:
    """Take back what people changed of a declared schedule: it is as its line says.

    Raises:
        UnknownSchedule: there is none.
        ScheduleRefused: it is not declared.
    """
    now = datetime.now(UTC)
    with database.writing() as session:
        row = _find(session, schedule_id)
        if row.declared is None:
            raise ScheduleRefused(f"schedule {schedule_id} is not declared in the timetable: no line says how it was")
        for name in row.overridden:
            value = row.declared[name]
            is_time = name in ("start_at", "end_at") and value is not None
            setattr(row, name, datetime.fromisoformat(value) if is_time else value)
        row.overridden, row.updated_at = [], now
        set_due(row, callboard.registry, now, anew=True)
    return get(schedule_id)


def delete(schedule_id: str) -> None:
    """Remove a schedule that a person added, or that is not in the timetable any more. Its runs and tasks stay.

    Raises:
        UnknownSchedule: there is none.
        ScheduleRefused: it is declared.
    """
    with database.writing() as session:
        row = _find(session, schedule_id)
        if row.origin == Origin.DECLARED and row.removed_at is None:
            raise ScheduleRefused(
                f"schedule {schedule_id} is declared in periodic/timetable.py: pause it, or remove its line"
            )
        session.delete(row)


def run(schedule_id: str, *, by: str = "application", force: bool = False) -> str:
    """Send a task of this schedule now, besides its due times, also if it is paused.

    Args:
        by: who asks, for the run's reason.
        force: even if its overlap policy is `skip` and the run before is unfinished.

    Returns:
        The task's id.

    Raises:
        UnknownSchedule, InvalidSchedule: nothing was sent.
        ScheduleRefused: the run before is unfinished.
    """
    now = datetime.now(UTC)
    with database.writing() as session:
        row = _find(session, schedule_id)
        found = _checked(definition_of(row)).values
        previous = None if row.last_task_id is None else task_moves.standing(direct.Within(session), [row.last_task_id])
        is_unfinished = any(standing.status not in TERMINAL for standing in (previous or {}).values())
        if is_unfinished and row.overlap == "skip" and not force:
            raise ScheduleRefused(
                f"the run before, {row.last_task_id}, is unfinished: cancel it, wait for it, or run this with force"
            )
        task = one_run.task_of(
            callboard, callboard.registry.resolve(row.actor), found["params"], now=now, schedule_id=schedule_id,
            priority=row.priority, max_retries=row.max_retries, time_limit_s=row.time_limit_s,
        )  # fmt: skip
        session.flush()
        asked_for = Run(now, RunOutcome.SENT, reason=f"run now, by {by}")
        cancels = row.last_task_id if is_unfinished and row.overlap == "cancel_running" else None
        sending = Sending(schedule_id, asked_for, task, cancels, because=f"it is run anew by {by}")
        one_run.write(direct.Within(session), [sending], now=now)
    outbox.publish(callboard.broker, [task.task_id])
    return task.task_id


def runs(schedule_id: str, *, limit: int = 50, before: datetime | None = None) -> builtins.list[dict[str, Any]]:
    """What became of a schedule's due times, newest first: the columns of `ScheduleRun`, and `task_status`.

    Args:
        limit: 1–1000.
        before: only due times before this one, to page on.

    Raises:
        UnknownSchedule: there is none of this id, nor was there.
    """
    if not 1 <= limit <= RUNS_MAX:
        raise InvalidSchedule(f"limit: expected 1–{RUNS_MAX}, got {limit}", field="limit")
    with database.reading() as session:
        found = schedule.runs(session, schedule_id, limit=limit, before=before)
        if not found and schedule.find(session, schedule_id) is None:
            raise _unknown(session, schedule_id)
        return [
            {**{name: getattr(one, name) for name in ScheduleRun.model_fields}, "task_status": status}
            for one, status in found
        ]


def preview(
    trigger: str | Mapping[str, Any],
    *,
    time_zone: str = "UTC",
    start_at: datetime | str | None = None,
    end_at: datetime | str | None = None,
    count: int = 5,
    after: datetime | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """A trigger in words, and when it is due next.

    Args:
        trigger: its kind, and its fields by name, as in `add`; or a mapping with `kind` and the fields.
        count: 1–1000 times; fewer come if it ends before.
        after: aware; by default now.

    Returns:
        {"words": text, "next": [aware UTC, …]}

    Raises:
        InvalidSchedule: the field, what was expected, what came.
    """
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= PREVIEW_MAX:
        raise InvalidSchedule(f"count: expected 1–{PREVIEW_MAX}, got {count!r:.50}", field="count")
    said = {"kind": trigger, **fields} if isinstance(trigger, str) else {**trigger, **fields}
    found = checked_trigger(said, time_zone, start_at, end_at)
    return {"words": found.in_words(), "next": due_times(found, after or datetime.now(UTC), count)}


def _first_due(found: Checked, now: datetime) -> datetime:
    """When it is due first. Raises InvalidSchedule if that is never."""
    due_at = found.trigger.next_after(now)
    if due_at is None:
        raise InvalidSchedule(
            f"trigger: {found.trigger.in_words()} will never be due from now on: expected a time that is to come",
            field="trigger",
        )
    return due_at


def _checked(declared: Declaration) -> Checked:
    return checked(declared, callboard.registry, params_max_bytes=callboard.settings.params_max_bytes)


def _note_overrides(row: Schedule) -> None:
    """Name the columns in which a declared schedule differs from its line."""
    if row.declared is not None:
        line = row.declared
        row.overridden = [name for name in COLUMNS if _plain(getattr(row, name)) != line.get(name)]


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _find(session: Session, schedule_id: str, *, to_change: bool = True) -> Schedule:
    row = schedule.find(session, schedule_id, to_change=to_change)
    if row is None:
        raise _unknown(session, schedule_id)
    return row


def _unknown(session: Session, schedule_id: str) -> UnknownSchedule:
    known = schedule.ids(session, limit=NEAR_AMONG)
    near = difflib.get_close_matches(schedule_id[:200], known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "see `callboard schedules list`"
    return UnknownSchedule(f"there is no schedule {schedule_id[:200]!r}: {hint}")
