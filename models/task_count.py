"""How many rows match: exact up to EXACT_UP_TO where that can be had in time, else an estimate that says so.

    reach      how many candidates there are (models.task_walk), looked at up to EXACT_UP_TO; PostgreSQL's planner is
               believed without a look where it expects SURELY times more
    tally      of these, chunk by chunk from the newest, those that the rest of the filter fits; given up as soon as the
               pace of the chunks so far says that the end is out of reach. Up to ALWAYS_UP_TO: never given up
    estimate   the share of matches among those that were looked at, of all candidates. Where hardly any matched,
               PostgreSQL's planner knows better; SQLite has none to ask

A count costs at most `within_s` and the chunk that was begun before, however long the table is.

Must not: change a row.
"""

import json
import math
import time
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, literal, literal_column, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import ClauseElement, Executable
from sqlmodel import Session

from models.task_filter import TaskFilter
from models.task_tables import Task
from models.task_walk import WALK_ROWS, Tally, Walk

EXACT_UP_TO = 100_000
"""A higher number is marked as an estimate."""
ALWAYS_UP_TO = 5_000
"""So many candidates are counted whatever the time: a small table's numbers are no estimates."""
PATIENT_S: Final = 1.0
"""How long a count may take that was asked for by itself."""
SURELY: Final = 4
_TELLING: Final = 20
"""With fewer matches than this in a sample, their share says little."""


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


def counted(session: Session, wanted: TaskFilter, *, within_s: float = PATIENT_S) -> Count:
    """How many rows match, and whether that is an estimate.

    Args:
        within_s: how long it may take to say exactly.
    """
    return count_along(Walk(session, wanted, is_descending=True), within_s=within_s)


def count_along(walk: Walk, *, within_s: float, saw: Tally | None = None) -> Count:
    """The same, of a walk that goes down.

    Args:
        saw: what is known already of its newest candidates.
    """
    until_s = time.monotonic() + within_s
    if saw is not None and saw.is_all:
        return _exactly(saw.matching)
    likely = sum(_planned(walk.session, part) for part in walk.parts()) if walk.dialect == "postgresql" else 0
    is_late = within_s <= 0 and saw is not None
    is_sure = likely > SURELY * (ALWAYS_UP_TO if is_late else EXACT_UP_TO)
    candidates = likely if is_sure else walk.reach(EXACT_UP_TO + 1)
    if candidates > EXACT_UP_TO:
        candidates = max(candidates, likely or _extrapolated(walk))
    if walk.is_whole:
        return _exactly(candidates)
    if candidates <= ALWAYS_UP_TO:
        tally = walk.tally(candidates, until_s=math.inf)
    elif is_late:
        assert saw is not None
        tally = saw
    else:
        tally = walk.tally(candidates, until_s=until_s)
    if tally.is_all:
        return _exactly(tally.matching)
    if tally.matching < _TELLING and walk.dialect == "postgresql":
        number = _planned(walk.session, walk.wanted.conditions(walk.dialect))
    else:
        number = round(tally.matching / tally.seen * candidates)
    return Count(max(tally.matching, min(number, candidates)), is_estimate=True)


def _exactly(number: int) -> Count:
    return Count(number, is_estimate=number > EXACT_UP_TO)


def _planned(session: Session, conditions: list[ColumnElement[bool]]) -> int:
    """How many rows PostgreSQL's planner expects."""
    statement = select(literal(1)).select_from(Task).where(*conditions)
    found: Any = session.execute(_Explain(statement)).scalar_one()
    plan = json.loads(found) if isinstance(found, str) else found
    return int(plan[0]["Plan"]["Plan Rows"])


def _extrapolated(walk: Walk) -> int:
    """The number of candidates on SQLite: how far all of them reach in the table, measured by the newest of them."""
    newest, low = (walk.next_ids(None, 1, offset=offset)[0] for offset in (0, WALK_ROWS))
    oldest = Walk(walk.session, walk.wanted, is_descending=False, way=walk.way).next_ids(None, 1)[0]
    row: Any = literal_column("background_tasks._rowid_")
    first, last, end = (
        walk.session.execute(select(row).select_from(Task).where(walk.among([one]))).scalar_one()
        for one in (newest, low, oldest)
    )
    reaches: float = (first - end) / max(1, first - last)
    return round(WALK_ROWS * max(1.0, reaches))
