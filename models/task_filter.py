"""Which tasks are meant: the filter, its conditions, and which index leads to its rows.

Every index used here ends with the task's id, so that its entries come in the order of the list. A filter is answered
by walking one of them (the way) and looking at the rows that it leads to (the rest of the conditions). The rest is
written so that no planner takes an index for it: a walk of known length must not become one of unknown length.

Must not: run a query.
"""

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, func, literal_column, or_
from sqlmodel import col

from models.retention import id_at
from models.task import TaskStatus, TaskType
from models.task_tables import Task
from models.text import clean_text

MAX_IDS: Final = 1_000
Q_MAX_CHARS: Final = 200
NOT_COMPLETED = literal_column("background_tasks.status") != literal_column("'completed'")
"""Word for word the condition of the index that holds what is not completed: SQLite uses it only then."""
HAS_CORRELATION = literal_column("background_tasks.correlation_id") != literal_column("background_tasks.task_id")
HAS_TAGS = literal_column("CAST(background_tasks.tags AS TEXT)") != literal_column("'[]'")
_ID_SLACK: Final = timedelta(days=1)
"""An id says when its task was made; the row may follow later (a child has its parent's time)."""
_ID_AHEAD: Final = timedelta(minutes=5)
"""How far the clock of a sender may run ahead of another's."""


@dataclass(frozen=True)
class TaskFilter:
    """Which tasks are meant; None leaves a field open, and all that are given must hold.

    status, task_type, task_name, queue, priority, correlation_id, parent_id, group_id, schedule_id: equal to that.
    tag: one of the task's tags is that.
    q: 1–200 characters that occur, in whatever case, in id, name, correlation id, reason or error. Not in parameters or
        results, which may hold what not everybody is to see.
    since, until: created at `since` or later, before `until` (aware). A task whose id is a day older than that, and a
        foreign id (no UUIDv7), may be missing.
    ids: one of these, at most 1,000.
    """

    status: TaskStatus | None = None
    task_type: TaskType | None = None
    task_name: str | None = None
    queue: str | None = None
    priority: int | None = None
    tag: str | None = None
    correlation_id: str | None = None
    q: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    ids: tuple[str, ...] | None = None
    parent_id: str | None = None
    group_id: str | None = None
    schedule_id: str | None = None

    def given(self) -> dict[str, Any]:
        """The fields that are not open."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in named.items() if value is not None}

    def conditions(
        self, dialect: str, *, without: Collection[str] = (), indexed: bool = True
    ) -> list[ColumnElement[bool]]:
        """The filter as SQL conditions, all of which must hold.

        Args:
            without: fields to leave out.
            indexed: False writes them so that no index serves them.
        """
        found: list[ColumnElement[bool]] = []
        for name, value in self.given().items():
            if name in without:
                continue
            special = _SPECIAL.get(name)
            if special is not None:
                found.append(special(value, dialect))
            elif isinstance(value, str):
                column = getattr(Task, name)
                found.append((column if indexed else column.op("||")("")) == storable(value))
            else:
                found.append(getattr(Task, name) == value)
            if name == "status" and value != TaskStatus.COMPLETED and indexed:
                found.append(NOT_COMPLETED)
        return found

    def ways(self) -> list["Way"]:
        """The indexes that lead to its rows; the last is the key, which leads to all."""
        given = self.given()
        ways = [way for way in _WAYS if way.field in given]
        if given.get("status") == TaskStatus.COMPLETED:
            ways = [way for way in ways if way.field != "status"]
        return [*ways, _BY_KEY]

    def ranges(self, now: datetime) -> list[tuple[str, str | None]]:
        """Between which ids its rows are, newest first: (from, before). A foreign id looks like one of the future."""
        low = "" if self.since is None else id_at(self.since - _ID_SLACK)
        if self.until is None:
            return [(low, None)]
        return [(id_at(now + _ID_SLACK), None), (low, id_at(min(self.until, now) + _ID_AHEAD))]


@dataclass(frozen=True)
class Way:
    """An index that leads to rows. field: whose value it looks up. covers: what it answers by itself. extra: the
    condition of a partial index."""

    field: str
    covers: frozenset[str] = frozenset()
    extra: Any = None

    def alternatives(self, wanted: TaskFilter, dialect: str) -> list[list[ColumnElement[bool]]]:
        """What is looked up: the rows of the first conditions, and those of the second where there are any."""
        others = [name for name in wanted.given() if name not in self.covers]
        found = wanted.conditions(dialect, without=others)
        if self.extra is None:
            return [found]
        if self.field == "correlation_id":
            # why: most tasks' correlation id is their own id, and those stay out of the index.
            own = col(Task.task_id) == storable(wanted.correlation_id or "")
            return [[*found, self.extra], [own, col(Task.correlation_id).op("||")("") == col(Task.task_id)]]
        return [[*found, self.extra]]

    def is_whole(self, wanted: TaskFilter) -> bool:
        """Whether it answers all of the filter."""
        return self.covers >= wanted.given().keys()


def _by(field: str, extra: Any = None) -> Way:
    return Way(field, frozenset({field}), extra)


_BY_KEY: Final = Way("")
_WAYS: Final = (
    _by("ids"),
    _by("correlation_id", HAS_CORRELATION),
    _by("parent_id"),
    _by("group_id"),
    _by("schedule_id"),
    _by("status"),
    _by("task_name"),
    _by("task_type"),
    Way("tag", extra=HAS_TAGS),
)


def storable(asked: str) -> str:
    """Text to compare with: PostgreSQL raises for NUL and lone surrogates, which no row can hold anyway."""
    return clean_text(asked, 1_000)


def _in_ids(ids: tuple[str, ...], dialect: str) -> ColumnElement[bool]:
    return col(Task.task_id).in_([storable(one) for one in ids[:MAX_IDS]])


def _has_tag(tag: str, dialect: str) -> ColumnElement[bool]:
    """Looked for in the JSON text: a quote that follows a bracket or a comma begins a text of the list, as one inside
    of a text has a backslash before it."""
    position = func.strpos if dialect == "postgresql" else func.instr
    text: Any = literal_column("CAST(background_tasks.tags AS TEXT)")
    written = json.dumps(storable(tag))
    return and_(HAS_TAGS, or_(*(position(text, before + written) > 0 for before in ("[", ", ", ","))))


def _says(q: str, _dialect: str) -> ColumnElement[bool]:
    columns = (Task.task_id, Task.task_name, Task.correlation_id, Task.reason, Task.error_type, Task.error_message)
    return or_(*(col(column).icontains(storable(q)[:Q_MAX_CHARS], autoescape=True) for column in columns))


def _utc(at: datetime) -> datetime:
    return at.astimezone(UTC)


_SPECIAL: Final[dict[str, Callable[[Any, str], ColumnElement[bool]]]] = {
    "ids": _in_ids,
    "tag": _has_tag,
    "q": _says,
    "since": lambda at, _dialect: col(Task.created_at) >= _utc(at),
    "until": lambda at, _dialect: col(Task.created_at) < _utc(at),
}
