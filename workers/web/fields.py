"""What the shapes of requests and answers are made of: their common class, and the types of their fields.

Each type takes exactly what its JSON Schema says, so that the OpenAPI document is true: what it allows is not refused
for its form, and what it does not allow is. (pydantic by itself would take `true` for 1 and a number for a time, and
refuse 5.0, which is a whole number in JSON.)

Must not: name a route or a table.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Query
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.json_schema import WithJsonSchema

from models.task import MAX_PRIORITY, MIN_PRIORITY


class Shape(BaseModel):
    """A request or an answer; the strings below its fields are their descriptions."""

    model_config = ConfigDict(use_attribute_docstrings=True)


def shapes(of: type[Shape] = Shape) -> Iterator[type[Shape]]:
    """Every shape that there is."""
    for shape in of.__subclasses__():
        yield shape
        yield from shapes(shape)


def example(**fields: Any) -> ConfigDict:
    """The configuration of a shape that is shown by this example."""
    return ConfigDict(json_schema_extra={"examples": [fields]})


def request(**fields: Any) -> ConfigDict:
    """The same of a body that somebody sends: a field that it does not have is refused, for it may be misspelt."""
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [fields]})


def changes(*, least: int = 0, **fields: Any) -> ConfigDict:
    """The same of a body that changes something; no defaults are shown, because what is left out stays as it is.

    Args:
        least: so many fields have to be given.
        fields: an example.
    """

    def shown(schema: dict[str, Any]) -> None:
        for field in schema["properties"].values():
            field.pop("default", None)
        schema |= {"examples": [fields], "minProperties": least}

    return ConfigDict(extra="forbid", json_schema_extra=shown)


def _as_json_counts(given: object) -> object:
    return int(given) if isinstance(given, float) and given.is_integer() else given


WHOLE = BeforeValidator(_as_json_counts)
"""In a body: 5.0 is a whole number as well. It goes behind `Field(strict=True, …)`, or the bounds are not shown."""
Whole = Annotated[int, Field(strict=True), WHOLE]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]
Priority = Annotated[int, Field(strict=True, ge=MIN_PRIORITY, le=MAX_PRIORITY), WHOLE]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Text = Annotated[str, Field(max_length=200)]


def up_to(most: int) -> Any:
    """The `limit` of a list."""
    return Query(ge=1, le=most, description=f"At most so many, 1–{most}.")


OFFSET: Any = Query(ge=0, le=10**9, description="So many are passed over.")
"""Of a list."""

SINCE: Any = Query(description="Then or later.")
UNTIL: Any = Query(description="Before then.")

_WRITTEN = r"^(197[1-9]|19[89]\d|[2-8]\d{3})-\d{2}-\d{2}[Tt ]"
_YEARS = (1971, 8999)
"""Those before and after are not every clock's, nor every database's, and leave no room for an offset."""


def _is_written_out(given: object) -> object:
    """Refuse a bare number, which pydantic would take for seconds since 1970 and the document does not offer."""
    if not isinstance(given, datetime) and not (isinstance(given, str) and re.match(r"\d{4}-\d{2}-\d{2}[Tt ]", given)):
        raise ValueError("expected a time with its offset, as 2026-12-01T00:00:00+01:00")
    return given


def _in_our_times(moment: datetime) -> datetime:
    if not _YEARS[0] <= moment.year <= _YEARS[1]:
        raise ValueError(f"expected a time from {_YEARS[0]} to {_YEARS[1]}, got {moment.year}")
    return moment.astimezone(UTC)


Moment = Annotated[
    AwareDatetime,
    BeforeValidator(_is_written_out),
    AfterValidator(_in_our_times),
    WithJsonSchema(
        {"type": "string", "format": "date-time", "pattern": _WRITTEN, "examples": ["2026-12-01T00:00:00+01:00"]}
    ),
]
"""A time with its offset, as UTC. Of a request; those in answers are plain datetimes."""
