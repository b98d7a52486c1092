"""Walks through an index: the ids of a filter's candidates, and which of them match. See models.task_query.

Must not: read more than it says; each query here is of bounded length, whatever the planner thinks.
"""

import json
import math
import time
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Text,
    and_,
    any_,
    cast,
    func,
    literal,
    not_,
    select,
    true,
    union_all,
)
from sqlmodel import Session, col

from models.columns import UtcDateTime
from models.task_cursor import Place
from models.task_filter import TaskFilter, Way
from models.task_tables import Task

WALK_ROWS: Final = 10_000
"""Candidates that are looked at for one page, at most."""
WALK_S: Final = 0.025
"""After this a page takes what it has found so far; at least one chunk was looked at by then."""
SORT_ROWS: Final = 5_000
"""Candidates that are sorted by a value, where they lie side by side; elsewhere SCATTERED_ROWS."""
SCATTERED_ROWS: Final = 2_000
_CHUNK: Final = 1_000
_key: Any = col(Task.task_id)


class Stretch(NamedTuple):
    """Some candidates that follow one another: their condition, the first and the last id (None: there is none, or of a
    last stretch, not known), and whether nothing follows."""

    where: list[ColumnElement[bool]]
    first_id: str | None
    last_id: str | None
    is_last: bool


class Tally(NamedTuple):
    """Candidates that were looked at, how many of them match, and whether these are all there are."""

    seen: int
    matching: int
    is_all: bool


class Found(NamedTuple):
    """Ids of a page, where the next one begins, whether the walk was given up, and what it saw on the way (None:
    nothing that could be counted)."""

    ids: list[str]
    after: Place | None
    is_partial: bool
    saw: Tally | None = None


class Walk:
    """A way through the candidates of a filter, in the order of their ids."""

    def __init__(self, session: Session, wanted: TaskFilter, *, is_descending: bool, way: Way | None = None) -> None:
        self.session = session
        self.wanted = wanted
        self.is_descending = is_descending
        self.dialect = session.get_bind().dialect.name
        newest_first = wanted.ranges(datetime.now(UTC))
        self._ranges = newest_first if is_descending else newest_first[::-1]
        self.way = way or self._choose(wanted.ways())
        self._order = _key.desc() if is_descending else _key
        self._looked_up = self.way.alternatives(wanted, self.dialect)
        self.is_whole = self.way.is_whole(wanted)
        self.rest = wanted.conditions(self.dialect, without=self.way.covers, indexed=False)

    def _choose(self, ways: list[Way]) -> Way:
        """The way with the fewest candidates, as far as a walk would go; of equals the first."""
        if len(ways) <= 2:
            return ways[0]
        fewest, best = SCATTERED_ROWS, ways[0]
        for way in ways[:-1]:
            looked_up = way.alternatives(self.wanted, self.dialect)[0]
            among = select(literal(1)).select_from(Task).where(*looked_up).limit(fewest).subquery()
            found: int = self.session.execute(select(func.count()).select_from(among)).scalar_one()
            if found < fewest:
                fewest, best = found, way
        return best

    def next_ids(self, after_id: str | None, limit: int, *, offset: int = 0, inclusive: bool = False) -> list[str]:
        """The next candidates. inclusive: `after_id` itself may be the first."""
        found: list[str] = []
        for within in self._withins():
            if after_id is not None:
                within.append(self.is_beyond(after_id, inclusive=inclusive))
            each = [select(_key.label("task_id")).where(*looked_up, *within) for looked_up in self._looked_up]
            statement: Any = each[0].order_by(self._order)
            if len(each) > 1:
                either = union_all(*each).subquery()
                statement = select(either.c.task_id)
                statement = statement.order_by(either.c.task_id.desc() if self.is_descending else either.c.task_id)
            found += self.session.execute(statement.limit(limit - len(found)).offset(offset)).scalars()
            if len(found) == limit:
                break
        return found

    def parts(self) -> list[list[ColumnElement[bool]]]:
        """The conditions of the candidates: those of the first part, then those of the next."""
        return [[*within, *looked_up] for within in self._withins() for looked_up in self._looked_up]

    def reach(self, most: int) -> int:
        """How many candidates there are, counted up to `most`."""
        found = 0
        for conditions in self.parts():
            entries = select(literal(1)).select_from(Task).where(*conditions)
            if not self.way.covers:
                entries = entries.order_by(self._order)  # why: without, PostgreSQL reads the table, dead rows and all.
            among = entries.limit(most - found).subquery()
            found += self.session.execute(select(func.count()).select_from(among)).scalar_one()
            if found >= most:
                break
        return found

    def tally(self, candidates: int, *, until_s: float) -> Tally:
        """Count those that the whole filter fits, newest first, in chunks. At least one is counted.

        Args:
            candidates: about how many there are.
            until_s: given up then (by `time.monotonic()`), or before if the pace so far will not do; inf: never.
        """
        seen, matching, began_s = 0, 0, time.monotonic()
        rows = _CHUNK if until_s < math.inf else candidates + 1
        for conditions in self.parts():
            after_id, is_last = None, False
            while not is_last:
                if seen and until_s < math.inf:
                    rows = _next_rows(seen, rows, candidates, began_s, until_s)
                    if rows == 0:
                        return Tally(seen, matching, is_all=False)
                beyond: list[ColumnElement[bool]] = [] if after_id is None else [self.is_beyond(after_id)]
                after_id = self._end_of([*conditions, *beyond], rows)
                is_last = after_id is None
                upto = [] if after_id is None else [not_(self.is_beyond(after_id))]
                fitting = func.count().filter(and_(true(), *self.rest))
                statement = select(func.count(), fitting).select_from(Task).where(*conditions, *beyond, *upto)
                counts = self.session.execute(statement).one()
                seen, matching = seen + counts[0], matching + counts[1]
        return Tally(seen, matching, is_all=True)

    def _end_of(self, conditions: list[ColumnElement[bool]], rows: int) -> str | None:
        """The id of the last of so many candidates; None if there are fewer."""
        statement = select(_key).where(*conditions).order_by(self._order).offset(rows - 1).limit(1)
        found: str | None = self.session.execute(statement).scalar()
        return found

    def _withins(self) -> list[list[ColumnElement[bool]]]:
        """The ranges of ids as conditions."""
        return [
            ([_key >= low] if low else []) + ([_key < before] if before is not None else [])
            for low, before in self._ranges
        ]

    def is_beyond(self, after_id: str, *, inclusive: bool = False) -> ColumnElement[bool]:
        """Whether a row comes after that id."""
        beyond: ColumnElement[bool]
        if inclusive:
            beyond = _key <= after_id if self.is_descending else _key >= after_id
        else:
            beyond = _key < after_id if self.is_descending else _key > after_id
        return beyond

    def stretch(self, after_id: str | None, rows: int, *, inclusive: bool = False) -> "Stretch":
        """The next so many candidates."""
        if self.way.field or len(self._ranges) > 1:
            ids = self.next_ids(after_id, rows, inclusive=inclusive)
            first_id, last_id = (ids[0], ids[-1]) if ids else (None, None)
            return Stretch([self.among(ids)], first_id, last_id, len(ids) < rows)
        # why: what the key leads to lies side by side, and its two ends say all.
        first = self.next_ids(after_id, 1, inclusive=inclusive)
        last = self.next_ids(after_id, 1, offset=rows - 1, inclusive=inclusive)
        within = self._withins()[0]
        within += [] if after_id is None else [self.is_beyond(after_id, inclusive=inclusive)]
        within += [not_(self.is_beyond(last[0]))] if last else []
        return Stretch(within, first[0] if first else None, last[0] if last else None, not last)

    def match(self, stretch: "Stretch") -> list[str]:
        """Those of the candidates that the whole filter fits."""
        statement = select(_key).where(*stretch.where, *self.rest).order_by(self._order)
        return list(self.session.execute(statement).scalars())

    def among(self, ids: list[str]) -> ColumnElement[bool]:
        """Whether a row's id is one of these."""
        found: ColumnElement[bool]
        if self.dialect == "postgresql":
            found = _key == any_(literal(ids, ARRAY(Text)))
        else:
            found = _key.in_(select(func.json_each(json.dumps(ids)).table_valued("value").c.value))
        return found


def _next_rows(seen: int, before: int, candidates: int, began_s: float, until_s: float) -> int:
    """How many candidates to count next: a part of what there is time for. 0: what is left cannot be counted in time,
    and enough was seen for an estimate."""
    now_s = time.monotonic()
    in_time = round(seen / max(now_s - began_s, 1e-6) * (until_s - now_s))
    if in_time <= 0 or (seen >= WALK_ROWS and in_time < candidates - seen):
        return 0
    return max(_CHUNK, min(4 * before, in_time // 2))


def by_id(walk: Walk, place: Place | None, limit: int, offset: int) -> Found:
    """A page in the order of ids."""
    after_id = None if place is None else place.last_id
    if walk.is_whole:
        ids = walk.next_ids(after_id, limit + 1, offset=offset)
        more = Place(ids[limit - 1]) if len(ids) > limit else None
        passed, is_all = offset + len(ids), place is None and more is None and (bool(ids) or not offset)
        return Found(ids[:limit], more, is_partial=False, saw=Tally(passed, passed, is_all=True) if is_all else None)
    matching: list[str] = []
    walked, chunk = 0, max(_CHUNK, limit)
    until_s = time.monotonic() + WALK_S
    while walked == 0 or (walked < WALK_ROWS and time.monotonic() < until_s):
        stretch = walk.stretch(after_id, chunk)
        matching += walk.match(stretch)
        walked, after_id = walked + chunk, stretch.last_id
        saw = Tally(walked, len(matching), is_all=stretch.is_last) if place is None else None
        if len(matching) > offset + limit:
            return Found(
                matching[offset : offset + limit], Place(matching[offset + limit - 1]), is_partial=False, saw=saw
            )
        if stretch.is_last:
            return Found(matching[offset:], None, is_partial=False, saw=saw)
    assert after_id is not None
    return Found(matching[offset:], Place(after_id), is_partial=True, saw=saw)


def by_value(walk: Walk, place: Place | None, limit: int, offset: int, what: str) -> Found:
    """A page in the order of a value, of the newest candidates."""
    newest = Walk(walk.session, walk.wanted, is_descending=True, way=walk.way)
    rows = SCATTERED_ROWS if walk.way.field else SORT_ROWS
    window = newest.stretch(None if place is None else place.top_id, rows, inclusive=True)
    if window.first_id is None:
        return Found([], None, is_partial=False, saw=Tally(0, 0, is_all=True))
    now_us = place.now_us if place is not None else round(datetime.now(UTC).timestamp() * 1e6)
    value: Any = _duration_ms(walk.dialect, now_us) if what == "duration" else col(Task.priority)
    conditions = [*window.where, *walk.rest]
    if place is not None:
        last = place.value
        beyond = value < last if walk.is_descending else value > last
        conditions.append(beyond | ((value == last) & walk.is_beyond(place.last_id)))
    order = (value.desc(), _key.desc()) if walk.is_descending else (value, _key)
    statement = select(_key, value, func.count().over()).where(*conditions).order_by(*order)
    found = walk.session.execute(statement.limit(limit + 1).offset(offset)).all()
    ids = [row[0] for row in found[:limit]]
    after = Place(ids[-1], int(found[limit - 1][1]), window.first_id, now_us) if len(found) > limit else None
    saw = (
        Tally(rows, found[0][2] if found else 0, is_all=window.is_last)
        if place is None and (found or not offset)
        else None
    )
    return Found(ids, after, is_partial=not window.is_last, saw=saw)


def _duration_ms(dialect: str, now_us: int) -> Any:
    """How long the last attempt took, or has run by then; -1 of a task that has not begun."""
    end: Any = func.coalesce(col(Task.completed_at), literal(datetime.fromtimestamp(now_us / 1e6, UTC), UtcDateTime))
    start: Any = col(Task.started_at)
    if dialect == "postgresql":
        took: Any = func.date_part("epoch", end) - func.date_part("epoch", start)
        took = func.round(took * 1000)
    else:
        took = func.round((func.julianday(end) - func.julianday(start)) * 86_400_000)
    return func.coalesce(cast(took, BigInteger), -1)
