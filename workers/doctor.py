"""Why is it not running? Everything that can keep a task, a schedule or a queue from running, looked at in turn.

First what readiness looks at (workers.readiness, within a bounded time); then, only if Redis and database answer, what
needs them: clocks and what else a worker looks at when it starts, queues (paused, served by nobody, too old), schedules
with an error or paused, failing upkeep; and at last the one thing that was asked about.

Must not: change anything; know the web or the terminal.
"""

import difflib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from models import database, system_query
from models.database import DatabaseError
from models.schedule import RunOutcome
from models.task import TERMINAL, TaskStatus
from periodic import schedules
from workers import callboard, chores, queues, readiness, start_checks, tasks
from workers.broker import BusFull, BusRefused, BusUnavailable
from workers.errors import InvalidTask, UnknownSchedule
from workers.settings import Risk
from workers.start_checks import Weight

OVERDUE_S: Final = 60.0
"""A schedule that is due for so long is not being looked after."""
BROKEN_MAX: Final = 20
_TIME: Final = "%Y-%m-%d %H:%M:%S UTC"
_PATIENT: Final = ("its time:", "its retry", "its turn")
"""What a task may wait for without anything being wrong."""


class State(StrEnum):
    """How a thing is. BAD: it keeps something from running, and the text says the mend. NOTE: it may matter."""

    OK = "ok"
    BAD = "bad"
    NOTE = "note"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Finding:
    """What was found of one thing."""

    name: str
    state: State
    said: str


def examine(about: str | None = None, *, now_s: Callable[[], float] = time.time) -> list[Finding]:
    """Look at everything that can keep things from running.

    Args:
        about: a task's id, a schedule's id or a queue's name, to be looked at closely.
        now_s: this host's clock, Unix seconds, for comparing it with those of the servers.

    Raises:
        InvalidTask: there is nothing of that name; its message proposes the nearest.
    """
    checks = readiness.check_all()
    found = [Finding(one.name, _state(ok=one.ok), one.detail) for one in checks]
    is_there = {one.name: one.ok for one in checks}
    if not is_there["database"]:
        asked = "all else" if about is None else f"{about[:100]!r}"
        return [*found, Finding("rest", State.UNKNOWN, f"{asked} can be looked at when the database answers")]
    if is_there["redis"]:
        found += [*_around(now_s), *_queues()]
    found += [*_schedules(), *_chores()]
    return found if about is None else [*found, *_closely(about, datetime.now(UTC))]


def _state(*, ok: bool | None) -> State:
    return State.UNKNOWN if ok is None else State.OK if ok else State.BAD


def _around(now_s: Callable[[], float]) -> Iterator[Finding]:
    """What the start checks find of the servers; a clock that is wrong makes things late in every mode."""
    settings = callboard.settings
    is_clock_right = True
    for one in start_checks.run(settings, callboard.broker.client, now_s=now_s):
        if one.weight is Weight.REFUSES:
            continue  # why: readiness has said it.
        is_clock = one.risk is Risk.CLOCK
        is_clock_right &= not is_clock
        yield Finding(
            "clock" if is_clock else "servers",
            State.BAD if is_clock or one.stops(settings.mode) else State.NOTE,
            one.text,
        )
    if is_clock_right:
        yield Finding("clock", State.OK, "the clocks of Redis and database agree with this machine's")


def _queues() -> Iterator[Finding]:
    try:
        rows = queues.list_queues()
    except (BusUnavailable, BusFull, BusRefused) as error:
        yield Finding("queues", State.UNKNOWN, str(error))
        return
    wrong = [Finding("queue", State.BAD, said) for row in rows for said in _wrong_with(row)]
    waiting = sum(row["waiting"] for row in rows)
    yield from wrong or [Finding("queues", State.OK, f"{waiting} waiting in {len(rows)} queues, none too long")]


def _wrong_with(row: dict[str, Any]) -> Iterator[str]:
    name, waiting = row["name"], row["waiting"]
    if row["paused"]:
        yield f"queue {name} is paused, {waiting} waiting: callboard queues resume {name}"
    if waiting and not row["workers"]:
        yield f"no live worker serves queue {name}, {waiting} waiting: start a worker with that queue"
    elif row["oldest_age_s"] > callboard.settings.health_queue_age_s:
        yield (f"the oldest of {waiting} waiting in queue {name} has waited {row['oldest_age_s']:.0f} s: start more "
               "workers, or look at what runs with `callboard workers list`")  # fmt: skip


def _schedules() -> Iterator[Finding]:
    with database.reading() as session:
        broken = system_query.broken_schedules(session, limit=BROKEN_MAX)
        paused = system_query.paused_schedules(session, limit=BROKEN_MAX)
    for row in broken:
        said = f"schedule {row.schedule_id} cannot run: {row.error}; mend it with `callboard schedules edit`"
        yield Finding("schedule", State.BAD, said)
    for schedule_id in paused:
        said = f"schedule {schedule_id} is paused: callboard schedules resume {schedule_id}"
        yield Finding("schedule", State.NOTE, said)


def _chores() -> Iterator[Finding]:
    for row in chores.list_chores():
        if row["error"] is not None:
            yield Finding("upkeep", State.BAD, f"the chore {row['name']} fails on {row['holder']}: {row['error']}")


# --- closely ---------------------------------------------------------------------------------------------------------


def _closely(about: str, now: datetime) -> list[Finding]:
    looks: list[Callable[[str, datetime], list[Finding]]] = [_task, _schedule, _queue]
    found = [finding for look in looks for finding in look(about, now)]
    if found:
        return found
    known = [*callboard.broker.get_declared_queues(), *(row["id"] for row in schedules.list())]
    near = difflib.get_close_matches(about[:100], known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "`callboard tasks`, `schedules` and `queues list` them"
    raise InvalidTask(f"there is no task, schedule or queue {about[:100]!r}: {hint}", field="about")


def _task(task_id: str, now: datetime) -> list[Finding]:
    task = tasks.get_task(task_id)
    if task is None:
        return []
    name = f"task {task_id} ({task.task_name})"
    if task.status in TERMINAL:
        why = "" if task.reason is None else f", {task.reason}"
        error = "" if task.error_type is None else f"; {task.error_type}: {task.error_message}"
        mend = f": callboard tasks retry {task_id}" if task.status == TaskStatus.FAILED else ""
        state = State.BAD if task.status == TaskStatus.FAILED else State.OK
        return [Finding("task", state, f"{name} is {task.status} since {task.completed_at:{_TIME}}{why}{error}{mend}")]
    if task.status == TaskStatus.RUNNING:
        with database.reading() as session:
            alive = system_query.workers(
                session, limit=1_000, offset=0, alive_since=callboard.ledger.presence.alive_since(now)
            )
        if any(one.worker_id == task.worker_id for one in alive):
            said = f"{name} runs since {task.started_at:{_TIME}} on {task.worker_id}, which is alive"
            return [Finding("task", State.OK, said)]
        said = f"{name} runs on {task.worker_id}, which is not alive: it runs again elsewhere within 30 s of its end"
        return [Finding("task", State.NOTE, said)]
    waits = tasks.waiting_on(task_id) or "nothing: it has just begun"
    state = State.NOTE if waits.startswith(_PATIENT) else State.BAD
    return [Finding("task", state, f"{name} waits for {waits}")]


def _schedule(schedule_id: str, now: datetime) -> list[Finding]:
    try:
        row = schedules.get(schedule_id)
    except UnknownSchedule:
        return []
    name, actor = f"schedule {schedule_id}", callboard.registry.find(row["actor"])
    found = [Finding("schedule", *_standing_of(name, row, now))]
    for run in schedules.runs(schedule_id, limit=1):
        if run["outcome"] == RunOutcome.SKIPPED_OVERLAP:
            said = f"{name}: its due time {run['due_at']:{_TIME}} was skipped, for the run before was unfinished"
            found.append(Finding("schedule", State.NOTE, said))
        elif run["task_id"] is not None and run["task_status"] not in (None, TaskStatus.COMPLETED):
            found += _task(run["task_id"], now)
    return found if actor is None else [*found, *_queue(actor.queue_name, now)]


def _standing_of(name: str, row: dict[str, Any], now: datetime) -> tuple[State, str]:
    """How a schedule stands, and what keeps it."""
    due: datetime | None = row["next_run_at"]
    if row["removed_at"] is not None:
        return (
            State.BAD,
            f"{name} is not in the timetable since {row['removed_at']:{_TIME}}: put its line back",
        )
    if row["error"] is not None:
        return State.BAD, f"{name} cannot run: {row['error']}; mend it with `callboard schedules edit {row['id']}`"
    if not row["enabled"]:
        return State.BAD, f"{name} is paused: callboard schedules resume {row['id']}"
    if due is None:
        return State.BAD, f"{name} ({row['words']}) will never be due again: give it another trigger, or a later end"
    if now - due > timedelta(seconds=OVERDUE_S):
        return (
            State.BAD,
            f"{name} is due since {due:{_TIME}} and was not sent: is a scheduler alive?",
        )
    return State.OK, f"{name} ({row['words']}) is due next at {due:{_TIME}}"


def _queue(name: str, _now: datetime) -> list[Finding]:
    if name not in callboard.broker.get_declared_queues():
        return []
    try:
        row = queues.get_queue(name)
    except (BusUnavailable, BusFull, BusRefused, DatabaseError) as error:
        return [Finding("queue", State.UNKNOWN, f"queue {name}: {error}")]
    wrong = [Finding("queue", State.BAD, said) for said in _wrong_with(row)]
    said = (f"queue {name}: {row['waiting']} wait, {row['delayed']} are delayed, {row['running']} run; "
            f"{row['workers']} live worker processes serve it")  # fmt: skip
    return [*wrong, Finding("queue", State.OK if row["workers"] else State.BAD, said)]
