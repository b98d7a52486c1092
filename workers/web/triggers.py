"""The forms of a trigger, for the OpenAPI document; what one says is checked where the CLI's is too (models.triggers).

Must not: refuse anything. A wrong trigger gets the words of models.triggers, which say the mend.
"""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, GetJsonSchemaHandler, TypeAdapter
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from models.triggers import MAX_INTERVAL_S
from models.triggers.crontab import MAX_EXPRESSION_CHARS
from models.triggers.date import MAX_DATE_CHARS
from workers.web.fields import Shape, request

_DAY_S = 24 * 3600
_Field = Annotated[int, Field(ge=0, le=9_999)] | Annotated[str, Field(min_length=1, max_length=100)]
"""Of cron."""


class CrontabTrigger(Shape):
    """When a crontab line would run."""

    model_config = request(kind="crontab", expression="10,50 9 * * *")

    kind: Literal["crontab"]
    expression: Annotated[str, Field(min_length=1, max_length=MAX_EXPRESSION_CHARS)]
    """minute hour day-of-month month day-of-week; or an alias such as `@daily`."""


class CronTrigger(Shape):
    """When all fields match; finer ones than those given are at their least, so hour=9 is 09:00:00."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [
        {"kind": "cron", "hour": 9, "day_of_week": "mon-fri"}
    ], "minProperties": 2})  # fmt: skip

    kind: Literal["cron"]
    year: _Field | None = None
    """A whole number, or text: `*`, `*/n`, `a`, `a-b`, `a-b/n`, and lists of these with commas."""
    month: _Field | None = None
    """Also jan … dec."""
    day: _Field | None = None
    week: _Field | None = None
    """Of ISO 8601."""
    day_of_week: _Field | None = None
    """mon … sun; as numbers 0 and 7 are Sunday."""
    hour: _Field | None = None
    minute: _Field | None = None
    second: _Field | None = None


class IntervalTrigger(Shape):
    """Every sum of these in elapsed time, a second to 366 days in all."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [
        {"kind": "interval", "minutes": 5}
    ], "minProperties": 2})  # fmt: skip

    kind: Literal["interval"]
    weeks: Annotated[int, Field(ge=0, le=MAX_INTERVAL_S // (7 * _DAY_S))] = 0
    days: Annotated[int, Field(ge=0, le=MAX_INTERVAL_S // _DAY_S)] = 0
    hours: Annotated[int, Field(ge=0, le=MAX_INTERVAL_S // 3600)] = 0
    minutes: Annotated[int, Field(ge=0, le=MAX_INTERVAL_S // 60)] = 0
    seconds: Annotated[int, Field(ge=0, le=MAX_INTERVAL_S)] = 0


class DateTrigger(Shape):
    """Once."""

    model_config = request(kind="date", run_date="2026-12-24 18:00:00")

    kind: Literal["date"]
    run_date: Annotated[str, Field(min_length=10, max_length=MAX_DATE_CHARS)]
    """In the schedule's zone; or with an offset, `2026-12-24T18:00:00+01:00`."""


_FORMS: TypeAdapter[Any] = TypeAdapter(
    Annotated[CrontabTrigger | CronTrigger | IntervalTrigger | DateTrigger, Field(discriminator="kind")]
)


class _Documented:
    """Shows a mapping as one of the forms."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(_FORMS.core_schema)


Trigger = Annotated[dict[str, Any], Field(max_length=20), _Documented()]
"""A trigger as somebody says it: its `kind`, and that kind's fields."""
