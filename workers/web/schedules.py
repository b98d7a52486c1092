"""The routes of recurring jobs. Each calls `periodic.schedules`, which checks all that a shape cannot."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from models.schedule import RunOutcome
from models.task import TaskStatus
from models.text import clean_text
from periodic import schedules
from periodic.schedules import PREVIEW_MAX, RUNS_MAX
from workers.web.auth import LOCAL, Caller, Role, needs
from workers.web.problems import AsciiJson, described
from workers.web.shapes import Moment, Name

PAGE_MAX = 1_000
_READ, _OPERATE, _ADMIN = ([needs(role)] for role in (Role.READ, Role.OPERATE, Role.ADMIN))

_Id = Annotated[
    str, Path(description="The schedule's id."), AfterValidator(lambda schedule_id: clean_text(schedule_id, 200))
]
_Trigger = Annotated[
    dict[str, Any],
    Field(
        max_length=20,
        description="Its `kind` (interval, cron, crontab or date) and that kind's fields.",
        examples=[
            {"kind": "crontab", "expression": "10,50 9 * * *"},
            {"kind": "cron", "hour": 9, "day_of_week": "mon-fri"},
            {"kind": "interval", "minutes": 5},
            {"kind": "date", "run_date": "2026-12-24 18:00:00"},
        ],
    ),
]
_Text = Annotated[str, Field(max_length=200)]
_Whole = Annotated[int, Field(strict=True)]
_EXAMPLE: JsonDict = {
    "id": "nightly-check",
    "actor": "health.check_system",
    "trigger": {"kind": "crontab", "expression": "0 2 * * *"},
    "time_zone": "Europe/Berlin",
}


class ScheduleEdit(BaseModel):
    """What is to be changed; what is left out stays. Null empties start_at, end_at or priority."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"trigger": {"kind": "interval", "minutes": 10}, "priority": 7}}
    )

    actor: Name = ""
    trigger: _Trigger = {}
    params: dict[str, Any] = {}
    name: _Text = ""
    time_zone: _Text = "UTC"
    start_at: _Text | None = None
    """ISO 8601, with its offset."""
    end_at: _Text | None = None
    enabled: Annotated[bool, Field(strict=True)] = True
    priority: _Whole | None = None
    max_retries: _Whole = 3
    time_limit_s: _Whole = 300
    misfire: _Text = "run_once"
    misfire_grace_s: _Whole = 60
    catch_up_max: _Whole = 100
    overlap: _Text = "skip"
    jitter_s: _Whole = 0


class ScheduleRequest(ScheduleEdit):
    """A recurring job; what is left out has the defaults that are shown."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": _EXAMPLE})

    id: _Text
    actor: Name
    trigger: _Trigger


class PreviewRequest(BaseModel):
    """A trigger to look at."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"trigger": {"kind": "crontab", "expression": "10,50 9 * * *"}, "time_zone": "Europe/Berlin"}
        },
    )

    trigger: _Trigger
    time_zone: _Text = "UTC"
    start_at: _Text | None = None
    end_at: _Text | None = None
    count: Annotated[int, Field(ge=1, le=PREVIEW_MAX, strict=True)] = 5
    after: Moment | None = None
    """By default now."""


class Preview(BaseModel):
    """A trigger in words, and when it is due next."""

    words: str
    next: list[datetime]


class ScheduleRow(BaseModel):
    """A recurring job."""

    id: str
    name: str
    words: str | None
    """The trigger in words; null with an `error`."""
    actor: str
    params: dict[str, Any]
    trigger: dict[str, Any]
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
    last_run_at: datetime | None
    last_task_id: str | None
    last_status: TaskStatus | None
    next_run_at: datetime | None
    run_count: int
    error: str | None
    """Why it cannot run."""
    created_at: datetime | None
    updated_at: datetime | None


class SchedulePage(BaseModel):
    """A page of schedules, in the order of their ids."""

    schedules: list[ScheduleRow]
    total_count: int
    limit: int
    offset: int


class RunRow(BaseModel):
    """What became of a due time, or of a row of them that was skipped at once."""

    schedule_id: str
    due_at: datetime
    due_until: datetime | None
    due_count: int | None
    outcome: RunOutcome
    reason: str | None
    task_id: str | None
    task_status: TaskStatus | None
    lateness_ms: int


class RunAnswer(BaseModel):
    """The task that was sent."""

    schedule_id: str
    task_id: str


def create_schedule_router() -> APIRouter:
    """The routes below /api/schedules."""
    router = APIRouter(
        prefix="/api/schedules",
        tags=["schedules"],
        default_response_class=AsciiJson,
        responses=described(_422="Unprocessable content", _503="Unavailable"),
    )
    sent = described(_400="Bad request", _413="Too large")
    one, refusable = described(_404="Not found"), described(_404="Not found", _409="Conflict")

    @router.get("", dependencies=_READ)
    def list_schedules(
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 100, offset: Annotated[int, Query(ge=0, le=10**6)] = 0
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
        limit: Annotated[int, Query(ge=1, le=RUNS_MAX)] = 50,
        before: Annotated[Moment | None, Query(description="Only due times before this one, to page on.")] = None,
    ) -> list[RunRow]:
        """What became of its due times, newest first."""
        return [RunRow(**row) for row in schedules.runs(schedule_id, limit=limit, before=before)]

    return router
