"""Filters, pages, counts and their bounds. The indexes that serve them: test_plans."""

from itertools import product

import pytest

from models import database, direct, task_moves, task_notes, task_query
from models.task import TaskStatus, TaskType
from models.task_notes import LogLine
from models.task_query import MAX_OFFSET, MAX_PAGE, TaskFilter
from tests.models.rows import NOW, accepted, running

PENDING, RUNNING, COMPLETED, FAILED, CANCELLED = TaskStatus
ROWS = [
    (name, task_type, status)
    for name, task_type in (("email.a", "email"), ("email.b", "email"), ("media.c", "media"), ("plain", None))
    for status in (PENDING, CANCELLED)
]


@pytest.fixture
def stored(empty_tables: str) -> list[str]:
    """The ids of a row for each of ROWS, in the order of their making."""
    ids = []
    for number, (name, task_type, status) in enumerate(ROWS):
        task_id = accepted(task_id=f"task-{number}", task_name=name, task_type=task_type)
        if status is CANCELLED:
            with direct.transaction() as to:
                task_moves.cancel(to, task_id, reason="by test", now=NOW)
        ids.append(task_id)
    return ids


def test_each_filter_finds_its_rows_newest_first_and_counts_as_many(stored: list[str]) -> None:
    filters = product((None, *TaskStatus), (None, TaskType.EMAIL, TaskType.JOB), (None, "email.a", "nobody"))
    for status, task_type, name in filters:
        expected = [
            task_id
            for task_id, (its_name, its_type, its_status) in zip(stored, ROWS, strict=True)
            if status in (None, its_status) and task_type in (None, its_type) and name in (None, its_name)
        ]
        wanted = TaskFilter(status=status, task_type=task_type, task_name=name)

        with database.reading() as session:
            found = [task.task_id for task in task_query.page(session, wanted)]
            count = task_query.count(session, wanted)

        assert (found, count) == (expected[::-1], len(expected)), wanted


def test_pages_follow_one_another_without_gap_or_repetition(stored: list[str]) -> None:
    with database.reading() as session:
        pages = [task_query.page(session, TaskFilter(), limit=3, offset=offset) for offset in (0, 3, 6, 9)]

    assert [len(page) for page in pages] == [3, 3, 2, 0]
    assert [task.task_id for page in pages for task in page] == stored[::-1]


def test_the_largest_page_and_offset_are_answered(stored: list[str]) -> None:
    with database.reading() as session:
        assert task_query.page(session, TaskFilter(), limit=MAX_PAGE, offset=MAX_OFFSET) == []


@pytest.mark.parametrize(
    ("bounds", "mend"),
    [
        ({"limit": 0}, "limit: expected 1–1000, got 0"),
        ({"limit": 1001}, "limit: expected 1–1000, got 1001"),
        ({"limit": -1}, "limit: expected 1–1000, got -1"),
        ({"limit": 10**9}, "limit: expected 1–1000"),
        ({"offset": -1}, "offset: expected 0–9223372036854775807, got -1"),
        ({"offset": 2**63}, "offset: expected 0–9223372036854775807"),
    ],
)
@pytest.mark.usefixtures("any_database")
def test_a_page_out_of_bounds_is_refused_naming_the_bound(bounds: dict[str, int], mend: str) -> None:
    with database.reading() as session, pytest.raises(ValueError, match=mend):
        task_query.page(session, TaskFilter(), **bounds)


@pytest.mark.parametrize("hostile", ["\x00", "\ud800", "' OR 1=1--", "%", "_", "x" * 100_000, ""])
@pytest.mark.usefixtures("any_database")
def test_text_that_no_row_can_hold_finds_nothing(hostile: str) -> None:
    accepted()

    with database.reading() as session:
        assert task_query.get(session, hostile) is None
        assert task_query.attempts(session, hostile) == []
        assert task_query.logs(session, hostile) == []
        assert task_query.page(session, TaskFilter(task_name=hostile)) == []
        assert task_query.count(session, TaskFilter(task_name=hostile)) == 0


@pytest.mark.usefixtures("any_database")
def test_log_lines_can_be_followed() -> None:
    task_id = running()
    with direct.transaction() as to:
        task_notes.write(to, [LogLine(task_id, 1, "info", message, NOW) for message in ("one", "two", "three")])

    with database.reading() as session:
        first = task_query.logs(session, task_id)[0]
        assert first.id is not None
        assert [line.message for line in task_query.logs(session, task_id, after_id=first.id)] == ["two", "three"]


def test_an_empty_table_has_no_rows(empty_tables: str) -> None:
    with database.reading() as session:
        assert task_query.count(session, TaskFilter()) == 0
