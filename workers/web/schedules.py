"""The routes of recurring jobs. Each calls `periodic.schedules`, which checks all that a shape cannot."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import AfterValidator, Field
from pydantic.json_schema import WithJsonSchema

from models.schedule import Misfire, Overlap, RunOutcome
from models.task import TaskStatus
from models.text import clean_text
from periodic import schedules
from periodic.declaration import BOUNDS, ID_MAX_CHARS, ID_PATTERN
from periodic.schedules import PREVIEW_MAX, RUNS_MAX
from workers.web.auth import LOCAL, Caller, Role, needs
from workers.web.fields import (
    OFFSET,
    WHOLE,
    Flag,
    Moment,
    Name,
    Priority,
    Shape,
    Text,
    changes,
    example,
    request,
    up_to,
)
from workers.web.problems import described
from workers.web.route import make_router
from workers.web.triggers import Trigger

PAGE_MAX = 1_000
_READ, _OPERATE, _ADMIN = ([needs(role)] for role in (Role.READ, Role.OPERATE, Role.ADMIN))

_Id = Annotated[
    str, Path(description="The schedule's id."), AfterValidator(lambda schedule_id: clean_text(schedule_id, 200))
]
_Time = Annotated[str, Field(max_length=200, examples=["2026-12-24T18:00:00+01:00"])]
_SCHEDULE: dict[str, Any] = {
    "id": "nightly-check", "name": "nightly-check", "words": "at 02:00 (Europe/Berlin)", "actor": "health.check_system",
    "params": {}, "trigger": {"kind": "crontab", "expression": "0 2 * * *"}, "time_zone": "Europe/Berlin",
    "start_at": None, "end_at": None, "enabled": True, "priority": None, "max_retries": 3, "time_limit_s": 300,
    "misfire": "run_once", "misfire_grace_s": 60, "catch_up_max": 100, "overlap": "skip", "jitter_s": 0,
    "origin": "user", "declared": None, "overridden": [], "removed_at": None, "last_run_at": "2026-11-22T01:00:00.004Z",
    "last_task_id": "019a9f3c-1a2b-7000-8000-00000000002a", "last_status": "completed",
    "next_run_at": "2026-11-23T01:00:00Z", "run_count": 12, "error": None, "created_at": "2026-11-10T08:00:00Z",
    "updated_at": "2026-11-10T08:00:00Z",
}  # fmt: skip
_RUN: dict[str, Any] = {
    "schedule_id": "nightly-check", "due_at": "2026-11-22T01:00:00Z", "due_until": None, "due_count": 1,
    "outcome": "sent", "reason": None, "task_id": "019a9f3c-1a2b-7000-8000-00000000002a", "task_status": "completed",
    "lateness_ms": 4,
}  # fmt: skip


_ID_FORM = WithJsonSchema({"type": "string", "minLength": 1, "maxLength": ID_MAX_CHARS, "pattern": f"^{ID_PATTERN}$"})
"""Shown only: what is wrong of an id is said by who adds the schedule, with better words than a pattern."""


def _bounds(name: str) -> Any:
    least, most = BOUNDS[name]
    return Field(strict=True, ge=least, le=most)


class ScheduleEdit(Shape):
    """What is to be changed; what is left out stays."""

    model_config = changes(trigger={"kind": "interval", "minutes": 10}, priority=7)

    actor: Name = ""
    """Canonical name or alias of what is run."""
    trigger: Annotated[Trigger, Field(default_factory=dict)]
    params: Annotated[dict[str, Any], Field(default_factory=dict)]
    """Named arguments of each run. Stars in the place of a secret keep it."""
    name: Text = ""
    """For people; by default the id."""
    time_zone: Text = "UTC"
    """IANA name, in which the trigger's fields are meant."""
    start_at: _Time | None = None
    """Never due before; ISO 8601, with its offset."""
    end_at: _Time | None = None
    """Never due after."""
    enabled: Flag = True
    priority: Priority | None = None
    """1–10, higher first; null: the actor's."""
    max_retries: Annotated[int, _bounds("max_retries"), WHOLE] = 3
    time_limit_s: Annotated[int, _bounds("time_limit_s"), WHOLE] = 300
    misfire: Misfire = Misfire.RUN_ONCE
    """What becomes of due times at which no scheduler was awake: left out, one run for all, or a run each."""
    misfire_grace_s: Annotated[int, _bounds("misfire_grace_s"), WHOLE] = 60
    """So late a run still counts as on time."""
    catch_up_max: Annotated[int, _bounds("catch_up_max"), WHOLE] = 100
    """How many missed times `run_all` makes up for."""
    overlap: Overlap = Overlap.SKIP
    """What becomes of a due time while the run before is unfinished."""
    jitter_s: Annotated[int, _bounds("jitter_s"), WHOLE] = 0
    """Each run starts up to so much later than it is due."""


class ScheduleRequest(ScheduleEdit):
    """A recurring job; what is left out has the defaults that are shown."""

    model_config = request(
        id="nightly-check",
        actor="health.check_system",
        trigger={"kind": "crontab", "expression": "0 2 * * *"},
        time_zone="Europe/Berlin",
    )

    id: Annotated[Text, _ID_FORM]
    """Letters, digits and `._:-`."""
    actor: Name
    trigger: Trigger


class PreviewRequest(Shape):
    """A trigger to look at."""

    model_config = request(trigger={"kind": "crontab", "expression": "10,50 9 * * *"}, time_zone="Europe/Berlin")

    trigger: Trigger
    time_zone: Text = "UTC"
    start_at: _Time | None = None
    end_at: _Time | None = None
    count: Annotated[int, Field(strict=True, ge=1, le=PREVIEW_MAX), WHOLE] = 5
    after: Moment | None = None
    """By default now."""


class Preview(Shape):
    """A trigger in words, and when it is due next."""

    model_config = example(words="at 09:10 and 09:50 (Europe/Berlin)", next=["2026-11-23T08:10:00Z"])

    words: str
    next: list[datetime]


class ScheduleRow(Shape):
    """A recurring job."""

    model_config = example(**_SCHEDULE)

    id: str
    name: str
    words: str | None
    """The trigger in words; null with an `error`."""
    actor: str
    params: dict[str, Any]
    """Secrets as stars."""
    trigger: dict[str, Any]
    """As in a request."""
    time_zone: str
    start_at: datetime | None
    end_at: datetime | None
    enabled: bool
    priority: int | None
    max_retries: int
    time_limit_s: int
    misfire: str
    misfire_grace_s: int
    catch_up_max: int
    overlap: str
    jitter_s: int
    origin: str
    """`declared` in the timetable, or added by a `user`."""
    declared: dict[str, Any] | None
    """What the timetable's line says."""
    overridden: list[str]
    """What people have changed of the line."""
    removed_at: datetime | None
    """Since when the timetable has no such line."""
    last_run_at: datetime | None
    last_task_id: str | None
    last_status: TaskStatus | None
    next_run_at: datetime | None
    run_count: int
    error: str | None
    """Why it cannot run."""
    created_at: datetime | None
    updated_at: datetime | None


class SchedulePage(Shape):
    """A page of schedules, in the order of their ids."""

    model_config = example(schedules=[_SCHEDULE], total_count=1, limit=100, offset=0)

    schedules: list[ScheduleRow]
    total_count: int
    limit: int
    offset: int


class RunRow(Shape):
    """What became of a due time, or of a row of them that was skipped at once."""

    model_config = example(**_RUN)

    schedule_id: str
    due_at: datetime
    due_until: datetime | None
    """The last of several that were skipped at once."""
    due_count: int | None
    """How many they are; null if they are too many to be counted."""
    outcome: RunOutcome
    reason: str | None
    task_id: str | None
    task_status: TaskStatus | None
    lateness_ms: int
    """From the due time to its claim."""


class RunAnswer(Shape):
    """The task that was sent."""

    model_config = example(schedule_id="nightly-check", task_id="019a9f3c-1a2b-7000-8000-00000000002a")

    schedule_id: str
    task_id: str


def create_schedule_router() -> APIRouter:
    """The routes below /api/schedules."""
    router = make_router("schedules")
    sent = described(400, 413)
    one, refusable = described(404), described(404, 409)

    @router.get("", name="list", dependencies=_READ)
    def list_schedules(
        limit: Annotated[int, up_to(PAGE_MAX)] = 100, offset: Annotated[int, OFFSET] = 0
    ) -> SchedulePage:
        """Schedules, in the order of their ids."""
        rows = [ScheduleRow(**row) for row in schedules.list(limit=limit, offset=offset)]
        return SchedulePage(schedules=rows, total_count=schedules.count(), limit=limit, offset=offset)

    @router.post("", dependencies=_ADMIN, status_code=201, responses=sent)
    def add(request: ScheduleRequest) -> ScheduleRow:
        """Add a schedule; it takes effect within a second."""
        trigger = dict(request.trigger)
        said = request.model_dump(exclude={"id", "actor", "trigger"}, exclude_unset=True)
        return ScheduleRow(**schedules.add_as(request.actor, trigger, request.id, **said))

    @router.post("/preview", dependencies=_READ, responses=sent)
    def preview(request: PreviewRequest) -> Preview:
        """Say a trigger in words, and its next times. Changes nothing."""
        return Preview(**schedules.preview(**dict(request)))

    @router.get("/{schedule_id}", dependencies=_READ, responses=one)
    def show(schedule_id: _Id) -> ScheduleRow:
        """One schedule."""
        return ScheduleRow(**schedules.get(schedule_id))

    @router.patch("/{schedule_id}", dependencies=_ADMIN, responses=sent | one)
    def edit(schedule_id: _Id, request: ScheduleEdit) -> ScheduleRow:
        """Change a schedule; what is changed of a declared one stays so until `reset`."""
        return ScheduleRow(**schedules.edit(schedule_id, **request.model_dump(exclude_unset=True)))

    @router.delete("/{schedule_id}", dependencies=_ADMIN, status_code=204, responses=refusable)
    def delete(schedule_id: _Id) -> None:
        """Remove a schedule that a person added. Its runs and tasks stay on record."""
        schedules.delete(schedule_id)

    @router.post("/{schedule_id}/pause", dependencies=_OPERATE, responses=one)
    def pause(schedule_id: _Id) -> ScheduleRow:
        """Send nothing until `resume`."""
        return ScheduleRow(**schedules.pause(schedule_id))

    @router.post("/{schedule_id}/resume", dependencies=_OPERATE, responses=refusable)
    def resume(schedule_id: _Id) -> ScheduleRow:
        """Make it due again, from now on."""
        return ScheduleRow(**schedules.resume(schedule_id))

    @router.post("/{schedule_id}/reset", dependencies=_ADMIN, responses=refusable)
    def reset(schedule_id: _Id) -> ScheduleRow:
        """Take back what people changed of a declared schedule."""
        return ScheduleRow(**schedules.reset(schedule_id))

    @router.post("/{schedule_id}/run", status_code=201, responses=refusable)
    def run(
        schedule_id: _Id,
        caller: Annotated[Caller, needs(Role.OPERATE)],
        force: Annotated[bool, Query(description="Even if the run before is unfinished.")] = False,
    ) -> RunAnswer:
        """Send a task of it now, besides its due times."""
        by = "API" if caller == LOCAL else caller.name
        return RunAnswer(schedule_id=schedule_id, task_id=schedules.run(schedule_id, by=by, force=force))

    @router.get("/{schedule_id}/runs", dependencies=_READ, responses=one)
    def runs(
        schedule_id: _Id,
        limit: Annotated[int, up_to(RUNS_MAX)] = 50,
        before: Annotated[Moment | None, Query(description="Only due times before this one, to page on.")] = None,
    ) -> list[RunRow]:
        """What became of its due times, newest first."""
        return [RunRow(**row) for row in schedules.runs(schedule_id, limit=limit, before=before)]

    return router
