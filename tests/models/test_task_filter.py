"""Every filter finds its rows and no others, alone and together, in every order, page by page."""

import json
from datetime import timedelta
from itertools import combinations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models import database, direct, task_count, task_cursor, task_query, task_walk
from models.task import AttemptOutcome, TaskStatus, TaskType
from models.task_query import Count, InvalidQuery, TaskFilter
from tests.models.rows import NOW, accepted, end, start
from tests.scale import FULL

HOUR = timedelta(hours=1)
ROWS = 24


def the_id(number: int) -> str:
    """An id that says when its row was made: an hour each."""
    unix_ms = round((NOW + number * HOUR).timestamp() * 1000)
    return f"{unix_ms >> 16:08x}-{unix_ms & 0xFFFF:04x}-7000-8000-{number:012x}"


@pytest.fixture
def stored(empty_tables: str) -> list[str]:
    """The ids of rows of which each number that divides 24 says something else."""
    for number in range(ROWS):
        accepted(
            task_id=the_id(number),
            created_at=NOW + number * HOUR,
            task_name="email.b" if number % 2 else "email.a",
            task_type="email" if number % 3 else "report",
            queue="slow" if number % 4 == 0 else "fast",
            priority=1 + number % 5,
            tags=json.dumps(["odd"] if number % 2 else ['a "quoted" one', "100%"]),
            correlation_id="c-1" if number % 6 == 0 else the_id(number),
            parent_id=the_id(0) if number % 8 == 1 else None,
            group_id="g-1" if number % 6 == 5 else None,
            schedule_id="nightly" if number % 12 == 7 else None,
        )
        if number % 3 == 0:
            assert start(the_id(number))
        if number % 6 == 0:
            took = timedelta(seconds=number)
            assert end(the_id(number), status=TaskStatus.FAILED, outcome=AttemptOutcome.FAILED, reason="x",
                       error_type="OSError", error_message=f"100% of disk_{number} is full",
                       finished_at=NOW + took)  # fmt: skip
    return [the_id(number) for number in range(ROWS)]


SINGLE: list[tuple[TaskFilter, set[int]]] = [
    (TaskFilter(status=TaskStatus.PENDING), {n for n in range(ROWS) if n % 3}),
    (TaskFilter(status=TaskStatus.FAILED), {0, 6, 12, 18}),
    (TaskFilter(status=TaskStatus.COMPLETED), set()),
    (TaskFilter(task_name="email.a"), set(range(0, ROWS, 2))),
    (TaskFilter(task_type=TaskType.REPORT), set(range(0, ROWS, 3))),
    (TaskFilter(queue="slow"), set(range(0, ROWS, 4))),
    (TaskFilter(priority=5), {4, 9, 14, 19}),
    (TaskFilter(tag="odd"), set(range(1, ROWS, 2))),
    (TaskFilter(tag='a "quoted" one'), set(range(0, ROWS, 2))),
    (TaskFilter(tag="quoted"), set()),
    (TaskFilter(tag="OD"), set()),
    (TaskFilter(correlation_id="c-1"), {0, 6, 12, 18}),
    (TaskFilter(correlation_id=the_id(5)), {5}),
    (TaskFilter(parent_id=the_id(0)), {1, 9, 17}),
    (TaskFilter(group_id="g-1"), {5, 11, 17, 23}),
    (TaskFilter(schedule_id="nightly"), {7, 19}),
    (TaskFilter(q="DISK_1"), {12, 18}),
    (TaskFilter(q="0% of"), {0, 6, 12, 18}),
    (TaskFilter(q="_"), {0, 6, 12, 18}),
    (TaskFilter(q="mail.b"), set(range(1, ROWS, 2))),
    (TaskFilter(since=NOW + 20 * HOUR), {20, 21, 22, 23}),
    (TaskFilter(until=NOW + 2 * HOUR), {0, 1}),
    (TaskFilter(ids=(the_id(3), the_id(9), "nobody")), {3, 9}),
]


def found(wanted: TaskFilter, **options: object) -> list[str]:
    with database.reading() as session:
        return [one.task_id for one in task_query.search(session, wanted, **options).rows]  # type: ignore[arg-type]


PAIRS = [
    (TaskFilter(**one.given() | other.given()), its & others)
    for (one, its), (other, others) in combinations(SINGLE, 2)
    if not one.given().keys() & other.given().keys()
]


@pytest.mark.parametrize("sort", task_query.SORTS)
def test_each_filter_alone_and_each_two_together_find_just_their_rows(stored: list[str], sort: str) -> None:
    # why a part: an order has no more to do with one filter than with another; over all orders each has its turn.
    part = slice(None) if FULL else slice(list(task_query.SORTS).index(sort), None, len(task_query.SORTS))

    for wanted, numbers in [*SINGLE, *PAIRS][part]:
        with database.reading() as session:
            page, first_count = task_query.search_and_count(session, wanted, sort=sort)
            count = task_query.counted(session, wanted)
            assert task_query.search(session, wanted, sort=sort) == page
        assert {one.task_id for one in page.rows} == {the_id(n) for n in numbers}, wanted
        assert (page.next_cursor, page.is_partial) == (None, False)
        assert count == first_count == Count(len(numbers), is_estimate=False), wanted


def test_rows_come_in_the_order_that_was_asked_for(stored: list[str]) -> None:
    assert found(TaskFilter()) == stored[::-1]
    assert found(TaskFilter(), sort="created_at") == stored
    assert found(TaskFilter(status=TaskStatus.FAILED), sort="-duration") == [the_id(n) for n in (18, 12, 6, 0)]
    assert found(TaskFilter(status=TaskStatus.FAILED), sort="duration") == [the_id(n) for n in (0, 6, 12, 18)]
    by_priority = sorted(range(ROWS), key=lambda n: (-(1 + n % 5), -n))
    assert found(TaskFilter(), sort="-priority") == [the_id(n) for n in by_priority]


@pytest.mark.parametrize("sort", task_query.SORTS)
@pytest.mark.parametrize("wanted", [TaskFilter(), TaskFilter(queue="fast"), TaskFilter(correlation_id="c-1"),
                                    TaskFilter(until=NOW + 11 * HOUR)])  # fmt: skip
def test_pages_by_cursor_are_the_list_whatever_comes_meanwhile(
    stored: list[str], sort: str, wanted: TaskFilter
) -> None:
    whole = found(wanted, sort=sort)
    pages: list[str] = []
    cursor: str | None = None
    with database.reading() as session:
        while True:
            page = task_query.search(session, wanted, limit=3, sort=sort, cursor=cursor)
            pages += [one.task_id for one in page.rows]
            cursor = page.next_cursor
            if cursor is None:
                break
    newest = accepted(task_id=the_id(99), created_at=NOW + 99 * HOUR, queue="fast")

    assert pages == whole
    if sort.startswith("-"):
        first = task_cursor.write(task_cursor.Place(whole[0]), wanted, "-created_at")
        assert newest not in found(wanted, cursor=first)


@pytest.mark.parametrize("wanted", [TaskFilter(), TaskFilter(queue="fast")])
def test_offsets_page_as_well(stored: list[str], wanted: TaskFilter) -> None:
    whole = found(wanted)

    assert [one for at in range(0, ROWS, 5) for one in found(wanted, limit=5, offset=at)] == whole


def test_a_walk_that_is_given_up_says_so_and_goes_on_at_its_cursor(
    stored: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_walk, "_CHUNK", 3)
    monkeypatch.setattr(task_walk, "WALK_ROWS", 6)
    wanted, got, partial = TaskFilter(queue="slow", q="a"), [], 0
    cursor: str | None = None
    with database.reading() as session:
        while True:
            page = task_query.search(session, wanted, limit=2, cursor=cursor)
            got += [one.task_id for one in page.rows]
            partial += page.is_partial
            cursor = page.next_cursor
            if cursor is None:
                break
        everything = task_query.select_ids(session, wanted, limit=100)

    assert got == everything == [the_id(n) for n in range(20, -1, -4)]
    assert partial > 0


def test_an_order_by_value_covers_the_newest_and_says_so(stored: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_walk, "SORT_ROWS", 10)

    with database.reading() as session:
        page = task_query.search(session, TaskFilter(), sort="priority")

    assert page.is_partial
    assert {one.task_id for one in page.rows} == set(stored[-10:])


@pytest.mark.parametrize("offset", [0, 3, 10, 100])
@pytest.mark.parametrize("sort", ["-created_at", "created_at", "-priority"])
@pytest.mark.parametrize("wanted", [TaskFilter(), TaskFilter(queue="fast"), TaskFilter(until=NOW + 11 * HOUR)])
def test_a_page_that_is_not_the_last_is_counted_to_the_end(
    stored: list[str], wanted: TaskFilter, sort: str, offset: int
) -> None:
    with database.reading() as session:
        page, count = task_query.search_and_count(session, wanted, limit=3, offset=offset, sort=sort)

    whole = found(wanted, sort=sort)
    assert [one.task_id for one in page.rows] == whole[offset : offset + 3]
    assert count == Count(len(whole), is_estimate=False)


@pytest.fixture
def large(stored: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is stored, taken for a table that is too large to count."""
    for module, name, number in (
        (task_count, "EXACT_UP_TO", 10), (task_count, "ALWAYS_UP_TO", 6), (task_count, "_TELLING", 1),
        (task_count, "WALK_ROWS", 5), (task_walk, "WALK_ROWS", 5), (task_walk, "_CHUNK", 5),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, number)
    with direct.transaction() as to:
        to.run("ANALYZE")


@pytest.mark.usefixtures("large")
def test_a_count_above_the_bound_is_marked_as_an_estimate() -> None:
    with database.reading() as session:
        whole = task_query.counted(session, TaskFilter())
        some = task_query.counted(session, TaskFilter(queue="fast"))
        few = task_query.counted(session, TaskFilter(status=TaskStatus.FAILED))

    assert whole.is_estimate
    assert whole.number == pytest.approx(ROWS, abs=6)
    assert some == Count(18, is_estimate=True)
    assert few == Count(4, is_estimate=False)


@pytest.mark.usefixtures("large")
def test_without_time_a_count_is_an_estimate_from_the_newest_that_matched() -> None:
    with database.reading() as session:
        some = task_query.counted(session, TaskFilter(queue="fast"), within_s=0)
        few = task_query.counted(session, TaskFilter(status=TaskStatus.FAILED, queue="slow"), within_s=0)

    assert some.is_estimate
    assert some.number == pytest.approx(18, abs=8)
    assert few == Count(2, is_estimate=False), "so few candidates are counted whatever the time"


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("sort", ["-created_at", "created_at", "-priority"])
@pytest.mark.parametrize("wanted", [TaskFilter(queue="fast"), TaskFilter(queue="slow", q="a")])
def test_a_page_that_took_all_the_time_is_counted_by_what_it_saw(
    sort: str, wanted: TaskFilter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_query, "ABOUT_S", 0.0)
    monkeypatch.setattr(task_walk, "WALK_S", 0.0)
    monkeypatch.setattr(task_walk, "SORT_ROWS", 5)

    with database.reading() as session:
        page, count = task_query.search_and_count(session, wanted, limit=3, sort=sort)

    assert count.is_estimate
    assert len(page.rows) <= count.number <= ROWS


HOSTILE = ["", "x", "' OR 1=1--", "AAAA", "é", "\x00", "=" * 100, "A" * 601, "A" * 100_000]


@pytest.mark.parametrize("cursor", HOSTILE)
def test_a_text_that_is_no_cursor_is_refused_with_the_mend(stored: list[str], cursor: str) -> None:
    with pytest.raises(InvalidQuery, match="leave it out to begin anew") as caught:
        found(TaskFilter(), cursor=cursor)

    assert caught.value.field == "cursor"


def test_a_cursor_of_another_list_or_with_a_changed_letter_is_refused(stored: list[str]) -> None:
    with database.reading() as session:
        cursor = task_query.search(session, TaskFilter(), limit=2).next_cursor
    assert cursor is not None
    changed = cursor[:-3] + ("A" if cursor[-3] != "A" else "B") + cursor[-2:]

    for wanted, sort, text in ((TaskFilter(queue="fast"), "-created_at", cursor), (TaskFilter(), "created_at", cursor),
                               (TaskFilter(), "-created_at", changed)):  # fmt: skip
        with pytest.raises(InvalidQuery, match="same filters and sort"):
            found(wanted, sort=sort, cursor=text)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=220))
def test_any_text_is_looked_for_as_it_is(shared_sqlite_bound: str, text: str) -> None:
    with database.reading() as session:
        for name in ("task_name", "queue", "tag", "correlation_id", "q", "parent_id", "group_id", "schedule_id"):
            task_query.search(session, TaskFilter(**{name: text}))
            task_query.counted(session, TaskFilter(**{name: text}))


@pytest.mark.parametrize("hostile", ["\x00", "\ud800", "' OR 1=1--", "%", "\\", "x" * 10_000, ""])
def test_hostile_text_finds_nothing_that_does_not_hold_it(stored: list[str], hostile: str) -> None:
    for name in ("task_name", "queue", "tag", "correlation_id", "parent_id", "group_id", "schedule_id"):
        assert found(TaskFilter(**{name: hostile})) == []  # type: ignore[arg-type]
    assert found(TaskFilter(ids=(hostile,))) == []
    assert set(found(TaskFilter(q=hostile))) <= (
        {the_id(n) for n in (0, 6, 12, 18)} if hostile == "%" else set(stored) if hostile == "" else set()
    )


@pytest.mark.parametrize("sort", ["id;drop", "", "created_at desc", "-"])
def test_an_order_that_is_none_is_refused(stored: list[str], sort: str) -> None:
    with pytest.raises(InvalidQuery, match="sort: expected one of created_at"):
        found(TaskFilter(), sort=sort)
