"""Where the next page of a list begins, as text for callers: opaque, bounded, and good for one filter and order only.

A cursor that was altered, cut or taken from another list is refused by its checksum. That is a guard against mistakes
and not a secret: whoever forges one chooses a place in a list that he may read, and each value of it is checked and
bound, never written into a statement.

Must not: run a query.
"""

import base64
import hashlib
import json
from typing import Any, Final, NamedTuple

from models.task_filter import TaskFilter

MAX_CHARS: Final = 600
_SUM_BYTES: Final = 9
_ID_MAX_CHARS: Final = 64


class InvalidQuery(ValueError):
    """A list that cannot be: the message says what was expected. field: what is wrong."""

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field


class Place(NamedTuple):
    """After which row the next page begins. value, top_id, now_us: of an order by value only: the row's value, the
    newest id of the window, and the moment up to which running tasks are measured (Unix microseconds)."""

    last_id: str
    value: int = 0
    top_id: str = ""
    now_us: int = 0


def write(place: Place, wanted: TaskFilter, sort: str) -> str:
    """The place as a cursor of this list."""
    body = json.dumps(list(place)).encode()
    return base64.urlsafe_b64encode(_sum(body, wanted, sort) + body).decode().rstrip("=")


def read(cursor: str, wanted: TaskFilter, sort: str) -> Place:
    """The place that a cursor of this list says; raises InvalidQuery for any other text."""
    try:
        if len(cursor) > MAX_CHARS:
            raise ValueError("too long")
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        body = raw[_SUM_BYTES:]
        if raw[:_SUM_BYTES] != _sum(body, wanted, sort):
            raise ValueError("another list's")
        return _checked(json.loads(body))
    except (ValueError, RecursionError):
        raise InvalidQuery(
            "cursor: expected the next_cursor of the page before, with the same filters and sort: leave it out to "
            "begin anew",
            field="cursor",
        ) from None


def _checked(found: Any) -> Place:
    match found:
        case [str() as last_id, int() as value, str() as top_id, int() as now_us] if (
            max(len(last_id), len(top_id)) <= _ID_MAX_CHARS and abs(value) < 2**53 and 0 <= now_us < 2**53
        ):
            return Place(last_id, value, top_id, now_us)
    raise ValueError("no place")


def _sum(body: bytes, wanted: TaskFilter, sort: str) -> bytes:
    said = f"{sort}\n{sorted(wanted.given().items())!r}\n".encode("utf-8", "backslashreplace")
    return hashlib.blake2b(said + body, digest_size=_SUM_BYTES, person=b"callboard cursor").digest()
