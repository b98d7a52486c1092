"""The correlation id of whatever this process does for a caller outside: a request of the API, say.

A task that is sent meanwhile has it in its row, and so have the tasks that it sends in turn (workers.middleware.status
takes the running task's before this one); log lines name it. It belongs to the context (`contextvars`): other threads
and tasks of an event loop have their own, and a function that a framework runs in a thread for a request has the
request's.

Must not: know where ids come from (workers.web.correlation does).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from models.text import clean_text
from workers.errors import InvalidTask
from workers.options import CORRELATION_ID_MAX_CHARS

_ID: Final[ContextVar[str | None]] = ContextVar("callboard_correlation_id", default=None)


def current() -> str | None:
    """The id of what is being done, if it has one."""
    return _ID.get()


@contextmanager
def correlated(correlation_id: str | None) -> Iterator[None]:
    """Give what is sent and logged within the block this id; None: none of its own.

    Raises:
        InvalidTask: it is not storable text of at most CORRELATION_ID_MAX_CHARS characters.
    """
    most = CORRELATION_ID_MAX_CHARS
    if correlation_id is not None and (not correlation_id or correlation_id != clean_text(correlation_id, most)):
        said = f"correlation_id: expected storable text of 1–{most} characters, got {correlation_id!r:.120}"
        raise InvalidTask(said, field="correlation_id")
    reset = _ID.set(correlation_id)
    try:
        yield
    finally:
        _ID.reset(reset)
