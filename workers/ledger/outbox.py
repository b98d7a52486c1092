"""The outbox: sending inside a caller's own transaction. What is rolled back was never sent.

    joined    the row is written in the caller's transaction, `enqueued_at` empty
    committed the caller's outermost transaction; from here on the task will run, whatever dies
    taken     right after that, here: `enqueued_at` is set, by compare-and-set
    on the bus

A rollback, also of a savepoint, takes the row along: after the commit only rows that are really there are taken.
A crash between joined and committed: it never existed. Between committed and taken: the relay finds the row. Between
taken and on the bus: reconcile finds that the message is absent, as with any send. A bus that is down: to the relay.

The race with the relay: it reads rows that are older than GRACE_S, and sends only those that it read unsent. A row that
is taken here before it is that old has not been read by any relay, so its message is the only copy and runs unchecked.
An older one (the caller's transaction was long) may have been read by a relay that is sending it just now: both copies
ask the row before they start, and one is refused. (A relay whose host's clock is ahead by more than GRACE_S could read
earlier; such a skew is a health warning.)

On an `AsyncSession` what follows the commit is done in a thread, so that the event loop does not wait for Redis.

Must not: commit, roll back, or close a caller's session; raise anything into a commit that has succeeded.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from dramatiq import Message
from sqlalchemy import Engine, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, SessionTransaction, scoped_session

from models import database, direct, task_moves, task_upkeep
from models.database import DatabaseError
from workers.broker import BusFull, BusRefused, BusUnavailable
from workers.errors import InvalidTask
from workers.ledger.duplicate import duplicate_of
from workers.ledger.relay import BATCH, GRACE_S, message_of

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from workers.ledger.bus import LedgerBroker  # why: it sends through this module.

_KEY: Final = "callboard_outbox"
_SERVER: Final = "SELECT current_database(), pg_postmaster_start_time()::text"

_logger = logging.getLogger(__name__)
_proven: WeakKeyDictionary[Engine, str] = WeakKeyDictionary()


def send_in(
    broker: LedgerBroker,
    session: Session | scoped_session[Any] | AsyncSession,
    message: Message[Any],
    *,
    delay_ms: int | None = None,
) -> Message[Any] | Awaitable[Message[Any]]:
    """Send a message with the caller's transaction: it goes out when that commits.

    Args:
        session: on Callboard's own database; of an AsyncSession the result is to be awaited.

    Raises:
        InvalidTask: the message is wrong, or the session is on another database.
    """
    own = session() if isinstance(session, scoped_session) else session
    if isinstance(own, Session):
        return _join(broker, own, message, delay_ms, is_async=False)
    return own.run_sync(lambda inner: _join(broker, inner, message, delay_ms, is_async=True))


def _join(
    broker: LedgerBroker, session: Session, message: Message[Any], delay_ms: int | None, *, is_async: bool
) -> Message[Any]:
    row = broker.ledger.row_of(broker, message, delay_ms=delay_ms, now=datetime.now(UTC), sent=False)
    _check_database(session)
    to = _Within(session)
    if row.idempotency_key is None:
        task_moves.accept(to, [row])
    else:
        _, owner = task_moves.accept_unique(to, row)
        if owner != row.task_id:
            return duplicate_of(message, owner)
    waiting = session.info.get(_KEY)
    if waiting is None:
        waiting = session.info[_KEY] = _Waiting(broker)
        event.listen(session, "after_commit", waiting.committed)
        event.listen(session, "after_transaction_end", waiting.ended)
    waiting.is_async = is_async
    waiting.task_ids.append(row.task_id)
    return message


class _Waiting:
    """What one session has sent in its present transaction. Lives in `session.info`, and goes with the session."""

    def __init__(self, broker: LedgerBroker) -> None:
        self._broker = broker
        self.task_ids: list[str] = []
        self.is_async = False
        self._is_committed = False

    def committed(self, session: Session) -> None:
        """A savepoint or the whole has been committed."""
        self._is_committed = not session.in_nested_transaction()

    def ended(self, _session: Session, transaction: SessionTransaction) -> None:
        """A savepoint or the whole has ended, one way or the other; the connection has been given back."""
        if transaction.parent is not None:
            return
        task_ids, is_committed = self.task_ids, self._is_committed
        self.task_ids, self._is_committed = [], False
        if not (task_ids and is_committed):
            return
        if self.is_async:
            asyncio.get_running_loop().run_in_executor(None, publish, self._broker, task_ids)
        else:
            publish(self._broker, task_ids)


def publish(broker: LedgerBroker, task_ids: Sequence[str]) -> None:
    """Send those of these rows that are there and unsent. What cannot be sent now is the relay's. Raises nothing."""
    for first in range(0, len(task_ids), BATCH):
        if not broker.is_bus_up:
            return
        try:
            _publish(broker, task_ids[first : first + BATCH])
        except DatabaseError as error:
            _logger.warning("committed tasks are left to the relay: %s", error)
            return
        except Exception:  # why: the caller's commit has succeeded, and must not look as if it had not.
            _logger.exception("committed tasks are left to relay and reconcile")
            return


def _publish(broker: LedgerBroker, task_ids: Sequence[str]) -> None:
    at = datetime.now(UTC)
    with direct.transaction() as to:
        rows = task_upkeep.take_unsent(to, task_ids, at)
    if not rows:
        return
    young = at - timedelta(seconds=GRACE_S)
    messages = [message_of(row, checked=row.created_at <= young) for row in rows]
    try:
        broker.publish(messages, arrived_us=[round(row.created_at.timestamp() * 1e6) for row in rows])
    except (BusUnavailable, BusFull, BusRefused) as error:
        _logger.info("%d committed tasks are left to the relay: %s", len(rows), error)
        broker.ledger.leave_to_the_relay([row.task_id for row in rows])


class _Within(direct.Within):
    """As direct.Within, also for a driver that numbers its parameters (asyncpg)."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._is_numbered = session.get_bind().dialect.paramstyle == "numeric_dollar"

    def run(self, sql: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Execute; returns the rows."""
        return super().run(self._worded(sql), arguments)

    def run_counted(self, sql: str, arguments: Sequence[Any] = ()) -> int:
        """Execute; returns how many rows were changed."""
        return super().run_counted(self._worded(sql), arguments)

    def _worded(self, sql: str) -> str:
        if not self._is_numbered:
            return sql
        first, *rest = sql.split("%s")
        return first + "".join(f"${number}{part}" for number, part in enumerate(rest, start=1))


def _check_database(session: Session) -> None:
    """Raise InvalidTask unless the session is on Callboard's database; asked once for each engine of a caller's."""
    ours = database.engine()
    try:
        engine = session.get_bind().engine
    except SQLAlchemyError as error:
        raise InvalidTask(f"session: it is bound to no database: {error}", field="session") from error
    if engine is ours or _proven.get(engine) == database.bound_url():
        return
    if engine.dialect.name != ours.dialect.name or not _is_ours(_Within(session)):
        theirs = engine.url.render_as_string(hide_password=True)
        raise InvalidTask(
            f"session: expected one on Callboard's own database {database.describe()}, got one on {theirs}: set "
            "CALLBOARD_DATABASE_URL to it, or use send() after your commit",
            field="session",
        )
    _proven[engine] = database.bound_url()


def _is_ours(theirs: _Within) -> bool:
    path = database.sqlite_path()
    if path is not None:
        file = next((row[2] for row in theirs.run("PRAGMA database_list") if row[1] == "main"), "")
        return bool(file) and path.exists() and path.samefile(Path(file))
    with direct.transaction() as to:
        return to.run(_SERVER) == theirs.run(_SERVER)
