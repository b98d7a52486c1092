"""Each query of a large table is served by an index, and each index by a query (spec/traps.md 22).

Stock behaviour: a table without these indexes is read and sorted as a whole; an `OFFSET` reads all that it passes over.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, inspect
from sqlmodel import Session

from models import (
    database,
    direct,
    health_moves,
    retention,
    system_query,
    task_count,
    task_cursor,
    task_feed,
    task_notes,
    task_query,
    task_upkeep,
)
from models.direct import Direct
from models.task import TaskStatus, TaskType
from models.task_cursor import Place
from models.task_query import TaskFilter
from tests import databases
from tests.models import crowd
from tests.models.conftest import fresh_postgres

ROWS = 30_000
FIRST = datetime(2026, 10, 1, tzinfo=UTC)
LAST = FIRST + timedelta(days=40)
MIDDLE_ID = crowd.task_id(FIRST + timedelta(days=20), 0)
PENDING, FAILED, COMPLETED = TaskStatus.PENDING, TaskStatus.FAILED, TaskStatus.COMPLETED
KEY = {"sqlite": "sqlite_autoindex_background_tasks_1", "postgresql": "background_tasks_pkey"}
ATTEMPTS_KEY = {"sqlite": "PRIMARY KEY", "postgresql": "task_attempts_pkey"}
OTHERS = "ix_background_tasks_not_completed"
TYPE, NAME = "ix_background_tasks_type_task_id", "ix_background_tasks_name_task_id"
UNSENT, CANCEL = "ix_background_tasks_unpublished", "ix_background_tasks_cancel_requested"
GROUP = "ix_background_tasks_group_id"
CORRELATION, PARENT = "ix_background_tasks_correlation", "ix_background_tasks_parent"
SCHEDULE, TAGGED = "ix_background_tasks_schedule", "ix_background_tasks_tagged"
ENDED = "ix_background_tasks_completed_at"
UNWANTED = ("Seq Scan on background_tasks", "Seq Scan on task_", "Sort", "TEMP B-TREE")
LOGS, HELD = "ix_task_logs_task_id", "ix_idempotency_keys_task_id"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def crowded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database with enough rows for its planner to care, bound; which kind it is."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('crowd') / 'crowd.db'}"
    else:
        url = fresh_postgres(request.getfixturevalue("postgres_url"))
    databases.migrated(url)
    with databases.bound(url):
        crowd.fill(ROWS, first=FIRST, last=LAST)
        with direct.transaction() as to:
            to.run("UPDATE background_tasks SET enqueued_at = NULL WHERE task_name = 'crowd.n0' AND status = 'pending'")
            crowd.settle(to)
        yield request.param


class Explaining:
    """A connection that notes the plan of what it is asked to run."""

    def __init__(self, to: Direct) -> None:
        self._to = to
        self.dialect = to.dialect
        self.plans: list[str] = []

    def run(self, sql: str, arguments: Any = ()) -> list[tuple[Any, ...]]:
        self.plans.append(_plan(self._to.run(_explain(self.dialect) + sql, arguments)))
        return self._to.run(sql, arguments)

    def run_counted(self, sql: str, arguments: Any = ()) -> int:
        self.plans.append(_plan(self._to.run(_explain(self.dialect) + sql, arguments)))
        return self._to.run_counted(sql, arguments)

    def atomic(self) -> Any:
        return self._to.atomic()


def _explain(dialect: str) -> str:
    return "EXPLAIN QUERY PLAN " if dialect == "sqlite" else "EXPLAIN "


def _plan(rows: list[tuple[Any, ...]]) -> str:
    return "\n".join(str(row[-1]) for row in rows)


@contextmanager
def explained(session: Session) -> Iterator[list[str]]:
    """The plans of what a session sends meanwhile."""
    plans: list[str] = []
    asking = False

    def note(connection: Any, _cursor: object, statement: str, parameters: Any, *_rest: object) -> None:
        nonlocal asking
        if asking or statement.startswith("EXPLAIN"):
            return  # why the second: a count asks the planner, too.
        asking = True
        dialect = session.get_bind().dialect.name
        plans.append(
            _plan([tuple(row) for row in connection.exec_driver_sql(_explain(dialect) + statement, parameters)])
        )
        asking = False

    event.listen(database.engine(), "before_cursor_execute", note)
    try:
        yield plans
    finally:
        event.remove(database.engine(), "before_cursor_execute", note)


def served(plan: str, index: str) -> bool:
    """Whether a plan uses this index, reads no table of tasks as a whole, and sorts nothing."""
    scans = [line for line in plan.splitlines() if line.strip().startswith("SCAN") and " USING " not in line]
    scans = [line for line in scans if "json_each" not in line and "SCAN anon_" not in line]
    return index in plan and not scans and not any(word in plan for word in UNWANTED)


def _count_members(to: Direct) -> tuple[str, tuple[str, ...]]:
    """What `task_groups.complete` counts."""
    sql = "SELECT count(*) FROM background_tasks AS t WHERE t.group_id = ? AND t.status = 'completed'"
    return sql if to.dialect == "sqlite" else sql.replace("?", "%s"), ("a-group",)


def _beyond(wanted: TaskFilter) -> Callable[[Session], object]:
    """A page from the middle on."""
    return lambda session: task_query.search(
        session, wanted, cursor=task_cursor.write(Place(MIDDLE_ID), wanted, "-created_at")
    )


ASKED: dict[str, tuple[Callable[[Session], object], str | dict[str, str]]] = {
    "page of all": (lambda s: task_query.page(s, TaskFilter()), KEY),
    "page before an id": (_beyond(TaskFilter()), KEY),
    "page of completed": (lambda s: task_query.page(s, TaskFilter(status=COMPLETED)), KEY),
    "page of a status": (lambda s: task_query.page(s, TaskFilter(status=FAILED)), OTHERS),
    "page of a status before": (_beyond(TaskFilter(status=FAILED)), OTHERS),
    "page of a rare type": (lambda s: task_query.page(s, TaskFilter(task_type=TaskType(crowd.RARE_TYPE))), TYPE),
    "page of a name": (lambda s: task_query.page(s, TaskFilter(task_name="crowd.n3")), NAME),
    "page of a name before": (_beyond(TaskFilter(task_name="crowd.n3")), NAME),
    "page of a correlation": (lambda s: task_query.page(s, TaskFilter(correlation_id="c")), CORRELATION),
    "page of a parent": (lambda s: task_query.page(s, TaskFilter(parent_id="p")), PARENT),
    "page of a schedule": (lambda s: task_query.page(s, TaskFilter(schedule_id="s")), SCHEDULE),
    "page of a tag": (lambda s: task_query.page(s, TaskFilter(tag="t")), TAGGED),
    "page of a queue": (lambda s: task_query.page(s, TaskFilter(queue="q")), KEY),
    "page of a queue before": (_beyond(TaskFilter(queue="q")), KEY),
    "page of a time": (lambda s: task_query.page(s, TaskFilter(since=FIRST, until=LAST)), KEY),
    "page of a status and a queue": (lambda s: task_query.page(s, TaskFilter(status=FAILED, queue="q")), OTHERS),
    "page of a status and a text": (lambda s: task_query.page(s, TaskFilter(status=FAILED, q="x")), OTHERS),
    "page of an unknown name": (lambda s: task_query.page(s, TaskFilter(task_name="nobody")), NAME),
    "page and count of a queue": (lambda s: task_query.search_and_count(s, TaskFilter(queue="q3"), limit=1), KEY),
    "page and count of a status and a queue": (
        lambda s: task_query.search_and_count(s, TaskFilter(status=FAILED, queue="q3"), limit=1), OTHERS),
    "page and count of a tag": (lambda s: task_query.search_and_count(s, TaskFilter(tag="t"), limit=1), TAGGED),
    "count of a tag": (lambda s: task_query.counted(s, TaskFilter(tag="t")), TAGGED),
    "count of a queue": (lambda s: task_query.counted(s, TaskFilter(queue="q")), KEY),
    "count of a status": (lambda s: task_query.count(s, TaskFilter(status=FAILED)), OTHERS),
    "count of a name": (lambda s: task_query.count(s, TaskFilter(task_name="crowd.n3")), NAME),
    "one": (lambda s: task_query.get(s, MIDDLE_ID), KEY),
    "what was sent lately": (lambda s: task_feed.sent_since(s, LAST - timedelta(hours=1), limit=500), KEY),
    "what ended lately": (lambda s: task_feed.ended_since(s, LAST - timedelta(hours=1), limit=500), ENDED),
    "what runs": (lambda s: task_feed.running(s, limit=500), OTHERS),
    "what a purge takes": (lambda s: system_query.to_purge(s, "email", limit=1_000), OTHERS),
    "attempts": (lambda s: task_query.attempts(s, MIDDLE_ID), ATTEMPTS_KEY),
    "log lines": (lambda s: task_query.logs(s, MIDDLE_ID, after_id=5), LOGS),
}  # fmt: skip
UPKEEP: dict[str, tuple[Callable[[Direct], object], list[str | dict[str, str]]]] = {
    "relay": (lambda to: task_upkeep.unsent(to, before=LAST, limit=100), [UNSENT]),
    "sweep": (lambda to: task_upkeep.sent(to, before=LAST, after_id=MIDDLE_ID, limit=100), [OTHERS]),
    "rescue": (lambda to: task_upkeep.orphans(to, alive_since=LAST, limit=100), [OTHERS]),
    "strays": (lambda to: task_upkeep.running_on(to, "w", before=LAST, limit=100), [OTHERS]),
    "cancel": (task_upkeep.cancel_requested, [CANCEL]),
    "oldest that waits": (health_moves.oldest_waiting_since, [OTHERS]),
    "members of a group": (lambda to: to.run(*_count_members(to)), [GROUP]),
    "notes": (
        lambda to: task_notes.write(to, [task_notes.LogLine(MIDDLE_ID, 1, "info", "x", LAST)]), [LOGS],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("ask", "index"), ASKED.values(), ids=ASKED.keys())
def test_a_question_of_people_is_served_by_an_index(
    crowded: str, ask: Callable[[Session], object], index: str | dict[str, str]
) -> None:
    """Trap 22."""
    with database.reading() as session, explained(session) as plans:
        ask(session)

    name = index if isinstance(index, str) else index[crowded]
    # why the second: of two alternatives that promise few rows PostgreSQL sorts what the indexes of both gave.
    assert any(served(plan, name) or (name == CORRELATION and name in plan) for plan in plans), plans
    for plan in plans:
        assert "Seq Scan on background_tasks" not in plan, plan
        assert "SCAN background_tasks\n" not in plan + "\n", plan


@pytest.mark.parametrize(("ask", "indexes"), UPKEEP.values(), ids=UPKEEP.keys())
def test_a_question_of_upkeep_is_served_by_an_index(
    crowded: str, ask: Callable[[Direct], object], indexes: list[str | dict[str, str]]
) -> None:
    with direct.transaction() as connection:
        to = Explaining(connection)
        ask(to)

    for index in indexes:
        assert served(to.plans[0], index if isinstance(index, str) else index[crowded]), to.plans[0]


def test_retention_finds_what_it_looks_for_by_keys(crowded: str) -> None:
    """Trap 22: a row's age is in its key, so no index on a time is needed."""
    ids = [crowd.task_id(FIRST, number) for number in range(20)]
    walk = retention._Walk(timedelta(days=30), retention._ENDED, retention.delete)
    with direct.reading() as connection:
        pages = Explaining(connection)
        walk._page(pages, "", retention.id_at(LAST), LAST)
    with direct.transaction() as connection:
        to = Explaining(connection)
        retention.delete(to, ids, FIRST - timedelta(days=1), LAST)

    assert served(pages.plans[0], KEY[crowded]), pages.plans[0]
    for plan, index in zip(to.plans, (KEY[crowded], ATTEMPTS_KEY[crowded], LOGS, HELD), strict=False):
        assert served(plan, index) or crowded == "postgresql", plan
    if crowded == "postgresql":
        # why either: where next to nothing is old enough, the few that are may be fewer than those that were named.
        assert KEY[crowded] in to.plans[0] or ENDED in to.plans[0]
        assert ATTEMPTS_KEY[crowded] in to.plans[0]
        assert "Seq Scan on background_tasks" not in to.plans[0]
        assert "Seq Scan on task_attempts" not in to.plans[0]


def test_there_is_no_index_that_serves_nothing(crowded: str) -> None:
    indexes = {one["name"] for one in inspect(database.engine()).get_indexes("background_tasks")}

    assert indexes == {OTHERS, TYPE, NAME, UNSENT, CANCEL, GROUP, CORRELATION, PARENT, SCHEDULE, TAGGED, ENDED}


def test_pages_by_id_follow_one_another_without_gap_or_repetition(crowded: str) -> None:
    wanted = TaskFilter(status=FAILED)
    with database.reading() as session:
        by_offset = [row.task_id for at in (0, 100, 200) for row in task_query.page(session, wanted, offset=at)]
        by_id: list[str] = []
        cursor: str | None = None
        while cursor is not None or not by_id:
            page = task_query.search(session, wanted, cursor=cursor)
            by_id += [row.task_id for row in page.rows]
            cursor = page.next_cursor
            if cursor is None:
                break

    assert by_id == by_offset
    assert len(by_id) == ROWS // 100


def test_a_count_is_right_or_close(crowded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    completed = ROWS - ROWS // 100 - 2 * (ROWS // 1000)
    with database.reading() as session:
        exact = [task_query.count(session, TaskFilter(status=status)) for status in (None, COMPLETED)]
        monkeypatch.setattr(task_count, "EXACT_UP_TO", 1_000)
        close = [task_query.count(session, TaskFilter(status=status)) for status in (None, COMPLETED)]

    assert exact == [ROWS, completed]
    assert close == [pytest.approx(ROWS, rel=0.1), pytest.approx(completed, rel=0.1)]
