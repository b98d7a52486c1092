"""Arrays for PostgreSQL: what is written in our own notation is read as it was."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.batch import array_of, columns_of

NOW = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)
# PostgreSQL's text holds neither NUL nor half a surrogate pair; who writes text takes them out (models.text).
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
awkward = st.text(st.sampled_from('\\"{},\n\t\b\f\r\x1b\x7f\u2028 nNuU0lLé🐘'))


def read_back(url: str, kind: str, values: list[Any]) -> list[Any]:
    """What the server makes of the array."""
    with psycopg.connect(url) as connection:
        row = connection.execute(f"SELECT %s::{kind}[]", [array_of(values)]).fetchone()
    assert row is not None
    return list(row[0])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.none() | texts | awkward | st.sampled_from(["", "null", "NULL", "{}"]), min_size=1))
def test_any_text_comes_back_as_it_was(shared_postgres: str, values: list[str | None]) -> None:
    assert read_back(shared_postgres, "text", values) == values


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("int", [0, -1, None, 2**31 - 1]),
        ("float8", [0.1, None, 1e-9, 12345678.25]),
        ("boolean", [True, None, False]),
        ("timestamptz", [NOW, None, NOW + timedelta(microseconds=1)]),
        ("json", [{"a": "\n\\"}, None, "x"]),
    ],
)
def test_other_values_come_back_as_they_were(shared_postgres: str, kind: str, values: list[Any]) -> None:
    given_values = [None if value is None else json.dumps(value) for value in values] if kind == "json" else values

    assert read_back(shared_postgres, kind, given_values) == values


def test_rows_become_one_array_a_column() -> None:
    assert columns_of([("a", 1), ("b", None)]) == ['{"a","b"}', "{1,null}"]
