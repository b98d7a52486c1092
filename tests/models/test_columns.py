"""What goes into a column comes out of it, the same on both databases."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import StatementError

from models import database
from models.text import clean_text
from tests.models.rows import new_task, row


def stored(**columns: Any) -> str:
    """The id of a row with these columns."""
    task = new_task(**columns)
    with database.writing() as session:
        session.add(task)
    return task.task_id


DOCUMENTS = {
    "NUL": "a\x00b",
    "a lone surrogate": "\ud800 and \udfff",
    "an emoji": "🧯",
    "a big integer": 2**200,
    "a small float": 5e-324,
    "an empty text": "",
    "a false value": False,
    "an empty object": {},
    "a text that is JSON": '{"a": 1}',
    "a key with NUL": {"\x00": 1},
    "nothing inside": [None],
}


@pytest.mark.usefixtures("any_database")
def test_a_time_comes_back_aware_and_in_utc() -> None:
    moment = datetime(2026, 3, 29, 3, 30, 0, 123456, tzinfo=timezone(timedelta(hours=2)))

    task_id = stored(eta=moment)

    found = row(task_id).eta
    assert found == moment
    assert found is not None
    assert found.tzinfo is UTC


@pytest.mark.usefixtures("any_database")
def test_a_naive_time_is_refused_with_the_mend() -> None:
    with pytest.raises(StatementError, match=r"add tzinfo=UTC"):
        stored(eta=datetime(2026, 1, 1))  # noqa: DTZ001 - that is the mistake


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS.keys())
@pytest.mark.usefixtures("any_database")
def test_a_document_comes_back_as_it_was(document: Any) -> None:
    task_id = stored(params={"value": document}, result=document)

    found = row(task_id)
    assert (found.params, found.result) == ({"value": document}, document)


@pytest.mark.usefixtures("any_database")
def test_a_document_of_any_depth_that_params_allow_is_kept() -> None:
    document: Any = "bottom"
    for _ in range(200):
        document = [document]

    task_id = stored(result=document)

    assert row(task_id).result == document


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.usefixtures("any_database")
def test_what_is_no_json_number_is_refused(value: float) -> None:
    with pytest.raises(StatementError, match="Out of range float values are not JSON compliant"):
        stored(result={"value": value})


@pytest.mark.usefixtures("any_database")
def test_no_result_is_null_in_sql_too() -> None:
    task_id = stored(result=None)

    with database.reading() as session:
        statement = text("SELECT result IS NULL FROM background_tasks WHERE task_id = :id")
        assert session.execute(statement, {"id": task_id}).scalar_one()


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(document=JSON_VALUES)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json_value_comes_back_as_it_was(any_database: str, document: Any) -> None:
    task = new_task(result=document)

    with database.writing() as session:
        session.add(task)

    assert row(task.task_id).result == document


@given(given_text=st.text(alphabet=st.characters(), max_size=80), max_chars=st.integers(0, 60))
@settings(max_examples=120, deadline=None)
def test_cleaned_text_is_storable_and_within_its_bound(given_text: str, max_chars: int) -> None:
    cleaned = clean_text(given_text, max_chars)

    assert len(cleaned) <= max_chars
    assert "\x00" not in cleaned
    assert cleaned.encode().decode() == cleaned


@pytest.mark.parametrize(
    ("given_text", "max_chars", "expected"),
    [
        ("plain", 5, "plain"),
        ("a\x00b", 20, "a\\u0000b"),
        ("\ud800", 20, "\\ud800"),
        ("0123456789abcdef", 10, "012… [cut]"),
        ("0123456789", 3, "… ["),
        ("ü🧯", 2, "ü🧯"),
    ],
)
def test_text_is_escaped_and_cut_with_a_mark(given_text: str, max_chars: int, expected: str) -> None:
    assert clean_text(given_text, max_chars) == expected
