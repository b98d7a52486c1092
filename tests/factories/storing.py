"""Storing a row."""

from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlmodel import SQLModel

from models import database

Row = TypeVar("Row", bound=SQLModel)

NOW = datetime.now(UTC).replace(second=0, microsecond=0)
"""The minute in which the tests began: actors go by the clock, so what is overdue must be overdue by it."""


def store(table: type[Row], defaults: dict[str, Any], changes: dict[str, Any]) -> Row:
    """Store a row of these defaults with the test's changes, and return it; a name that is no column is an error."""
    unknown = changes.keys() - table.model_fields.keys()
    assert not unknown, f"{table.__name__} has no {', '.join(sorted(unknown))}"
    row = table(**(defaults | changes))
    with database.writing() as session:
        session.add(row)
    return row


def id_of(number: int | None) -> int:
    """The id of a row that was stored."""
    assert number is not None
    return number


def store_links(table: type[SQLModel], owner: dict[str, int], people: tuple[int, ...]) -> None:
    """Store a row of a table that ties people to an owner."""
    with database.writing() as session:
        session.add_all([table(**owner, person_id=person_id) for person_id in people])
