"""The audit log's pen: whoever acts says so here; interfaces open a sheet, and what is recorded on it is written when
the action has ended, with its outcome.

    REST   the application opens a sheet for every request whose method acts, so no route can forget: what a route does
           not `record` itself is recorded by the route's name. Recording within a request adds target and details.
    CLI    `callboard` opens one for every command; a command that acts calls `record`.
    else   (Python) `record` writes at once.

A crash between an action and its entry leaves the action without one; what the action itself wrote (a task's row, its
reason) is there. An entry that cannot be written is logged as a warning in its place: the action has happened by then,
and is not taken back. What failed because the database is away is logged so at once: the caller has waited for it once.

Must not: change or delete entries.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from models import database
from models.audit import MAX_PAGE, AuditEntry, AuditFilter, page
from models.database import DatabaseUnavailable
from models.redaction import redact, redact_text
from models.text import clean_text, words_of
from workers.errors import InvalidTask

logger = logging.getLogger(__name__)

DONE, REFUSED, FAILED = "done", "refused", "failed"


@dataclass
class _Entry:
    action: str
    target: str
    details: dict[str, Any]


@dataclass
class Sheet:
    """What is recorded between the beginning and the end of one request or command."""

    who: str
    from_address: str
    via: str
    entries: list[_Entry] = field(default_factory=list)

    def record(self, action: str, target: object = "", details: Mapping[str, Any] | None = None) -> None:
        """Add an entry, to be written later."""
        self.entries.append(_Entry(action, str(target), dict(details or {})))

    def write(self, outcome: str, *, failed: Exception | None = None, **more: Any) -> None:
        """Write the entries, all with this outcome. Raises nothing.

        Args:
            failed: what the action ended with, if it raised.
            more: joins the details.
        """
        chain = (failed, failed and failed.__cause__)
        away = next((one for one in chain if isinstance(one, DatabaseUnavailable)), None)
        for entry in self.entries:
            if away is None:
                _write(self.who, self.from_address, self.via, entry.action, entry.target, outcome, entry.details | more)
            else:
                _warn(self.who, self.from_address, entry.action, entry.target, outcome, away)


_SHEET: ContextVar[Sheet | None] = ContextVar("callboard_audit_sheet", default=None)


def record(
    action: str,
    target: object = "",
    *,
    who: str | None = None,
    from_address: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Say that somebody acts. Raises nothing.

    Args:
        action: as in `tasks.cancel`: what it is done to, and what is done.
        target: the id or name of what it is done to.
        who, from_address: by default those of the request or command within which it is called.
        details: plain values that matter, for instance `{"count": 5}`; secrets in them are redacted.
    """
    sheet = _SHEET.get()
    if sheet is None:
        _write(who or "application", from_address or "", "Python", action, str(target), DONE, dict(details or {}))
        return
    sheet.who, sheet.from_address = who or sheet.who, from_address or sheet.from_address
    sheet.record(action, target, details)


def identify(who: str) -> None:
    """Say who acts on the open sheet, if one is open."""
    sheet = _SHEET.get()
    if sheet is not None:
        sheet.who = who


def who() -> str | None:
    """Who acts on the open sheet; None without one."""
    sheet = _SHEET.get()
    return None if sheet is None else sheet.who


@contextmanager
def sheet_of(who: str, from_address: str, via: str) -> Iterator[Sheet]:
    """Open a sheet for the block; whoever opens it also calls its `write`."""
    sheet = Sheet(who, from_address, via)
    reset = _SHEET.set(sheet)
    try:
        yield sheet
    finally:
        _SHEET.reset(reset)


def entries(wanted: AuditFilter | None = None, *, limit: int = 100, before_id: int | None = None) -> list[AuditEntry]:
    """Entries, newest first.

    Args:
        limit: 1–1000.
        before_id: go on below this entry.

    Raises:
        InvalidTask: a limit out of bounds.
    """
    if not 1 <= limit <= MAX_PAGE:
        raise InvalidTask(f"limit: expected 1–{MAX_PAGE}, got {limit}", field="limit")
    with database.reading() as session:
        return page(session, wanted or AuditFilter(), limit=limit, before_id=before_id)


def _write(
    who: str, from_address: str, via: str, action: str, target: str, outcome: str, details: dict[str, Any]
) -> None:
    entry = AuditEntry(
        at=datetime.now(UTC),
        who=clean_text(who, 100),
        via=via,
        from_address=clean_text(from_address, 100),
        action=clean_text(action, 100),
        target=clean_text(redact_text(target), 200),
        outcome=outcome,
        details=redact(details),
    )
    try:
        with database.writing() as session:
            session.add(entry)
    except Exception as error:  # why: whatever it is, the action has happened and its answer must go out.
        _warn(who, from_address, action, target, outcome, error)


def _warn(who: str, from_address: str, action: str, target: str, outcome: str, error: Exception) -> None:
    logger.warning("audit: %s by %s from %s on %r (%s) could not be written: %s",
                   action, who, from_address, redact_text(target), outcome, words_of(error))  # fmt: skip
