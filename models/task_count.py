"""How many rows match: exact up to EXACT_UP_TO, an estimate above.

The index with the fewest candidates (models.task_walk) is followed for EXACT_UP_TO entries. If it ends before, the
matching rows among them are counted. Else PostgreSQL's planner is asked what it expects; SQLite has none to ask, and
the share of matches among the newest candidates is taken for that of all, the number of all from the table's first and
last row numbers.

Must not: change a row; read more than twice EXACT_UP_TO entries.
"""

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, literal, literal_column, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import ClauseElement, Executable
from sqlmodel import Session

from models.task_filter import TaskFilter
from models.task_tables import Task
from models.task_walk import WALK_ROWS, Walk

EXACT_UP_TO = 100_000
"""More candidates than this are counted by estimate."""


@dataclass(frozen=True)
class Count:
    """How many rows match."""

    number: int
    is_estimate: bool


class _Explain(Executable, ClauseElement):
    """EXPLAIN of a statement, its values bound as they are there."""

    inherit_cache = False

    def __init__(self, statement: Select[Any]) -> None:
        self.statement = statement


@compiles(_Explain)
def _write_explain(element: _Explain, compiler: Any, **options: Any) -> str:
    return "EXPLAIN (FORMAT JSON) " + str(compiler.process(element.statement, **options))


def counted(session: Session, wanted: TaskFilter) -> Count:
    """How many rows match, and whether that is an estimate."""
    walk = Walk(session, wanted, is_descending=True)
    if not walk.next_ids(None, 1, offset=EXACT_UP_TO):
        return Count(walk.count(), is_estimate=False)
    estimated = _expected(session, wanted) if walk.dialect == "postgresql" else _extrapolated(walk)
    return Count(max(estimated, EXACT_UP_TO + 1) if walk.is_whole else estimated, is_estimate=True)


def _expected(session: Session, wanted: TaskFilter) -> int:
    statement = select(literal(1)).select_from(Task).where(*wanted.conditions("postgresql"))
    found: Any = session.execute(_Explain(statement)).scalar_one()
    plan = json.loads(found) if isinstance(found, str) else found
    return int(plan[0]["Plan"]["Plan Rows"])


def _extrapolated(walk: Walk) -> int:
    """The matches among the newest candidates, times how much further the others reach than those."""
    newest, low = (walk.next_ids(None, 1, offset=offset)[0] for offset in (0, WALK_ROWS))
    oldest = Walk(walk.session, walk.wanted, is_descending=False, way=walk.way).next_ids(None, 1)[0]
    row: Any = literal_column("background_tasks._rowid_")
    first, last, end = (
        walk.session.execute(select(row).select_from(Task).where(walk.among([one]))).scalar_one()
        for one in (newest, low, oldest)
    )
    matches = walk.count(after_id=low)
    return int(matches * max(1.0, (first - end) / max(1, first - last)))
