"""The ledger of one process: it turns what Dramatiq's hooks and the bus tell it into moves of rows.

A message's way through a worker, and the commit at each step:

    before_enqueue          accept   row pending                     committed before the bus sees the message
    before_process_message  claim    row running, attempt + 1        committed before the function starts
    after_process_message   record   nothing; the result or exception is kept in memory
    acknowledgement         outcome  row completed/failed/pending    committed before the bus forgets the message

Why the outcome is not written in `after_process_message`: Dramatiq logs and swallows what is raised there and then
acknowledges (spec/traps.md 2). The acknowledgement is ours.

With the database down: accept raises LedgerUnavailable and nothing is sent; claim waits, so nothing new starts and no
attempt is used up; outcome waits, holding its thread and its message, until it is committed. A worker that is told to
stop meanwhile leaves the message leased; it comes back and runs again.

Whether a message may run is decided by the claim (models.task_moves), whatever the bus delivers.
"""

import logging
import random
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from dramatiq import Message
from dramatiq.broker import MessageProxy

from models import database, task_moves
from models.task import Task
from models.task_moves import Claim, Failure, Refusal
from workers.broker import Settlement, Verdict
from workers.errors import LedgerUnavailable, OutcomeUnknown, PermanentError
from workers.ledger.presence import Presence
from workers.params import NotPlain, plain

ENVELOPE = "callboard"
"""Message option: the version of our envelope. It marks a message whose row has been written."""
ENVELOPE_VERSION = 1

_FIRST_BACKOFF_S = 0.1
_MAX_BACKOFF_S = 2.0
_ASK_AGAIN_MS = 5_000
"""A message that cannot be decided now (its task runs elsewhere, its actor is unknown here) comes back after this."""

_logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Running:
    """An attempt that runs in this process."""

    task_id: str
    claim: Claim


@dataclass(frozen=True)
class Ended:
    """What an attempt came to, in memory until `outcome` commits it."""

    running: Running
    result: Any = None
    exception: BaseException | None = None
    traceback: str | None = None


class Stopping(Exception):
    """The process stops before the database came back."""


class Ledger:
    """Moves rows for this process.

    Args:
        heartbeat_s: of this process's presence.
        threads: of this process.
        result_max_bytes: bound of a result as JSON.
    """

    def __init__(self, *, heartbeat_s: float, threads: int, result_max_bytes: int) -> None:
        self.presence = Presence(heartbeat_s=heartbeat_s, threads=threads)
        self.stopping = threading.Event()
        self._result_max_bytes = result_max_bytes
        self._ended: dict[str, Ended] = {}
        self._refused: dict[str, Verdict] = {}

    def accept(self, task: Task) -> bool:
        """Commit a new row; False if it is there already. Raises LedgerUnavailable with nothing written."""
        try:
            with database.writing() as session:
                return task_moves.accept(session, task)
        except database.DatabaseError as error:
            raise LedgerUnavailable(f"nothing was sent: {error}") from error

    def withdraw(self, task_id: str) -> bool:
        """Take back a row whose message the bus did not take; False if a worker has started it.

        Raises:
            OutcomeUnknown: the database went away as well.
        """
        try:
            with database.writing() as session:
                return task_moves.withdraw(session, task_id)
        except database.DatabaseError as error:
            raise OutcomeUnknown(task_id) from error

    def claim(self, message: MessageProxy, adopt: Callable[[], Task]) -> Running | Refusal:
        """Start the message's task, or say why not. Waits while the database is down.

        Args:
            adopt: makes the row of a message that was sent by plain Dramatiq and so has none.

        Raises:
            Stopping: the process stops; the message was released.
        """
        try:
            claimed = self._until_committed(lambda: self._claim_once(message, adopt))
        except Stopping:
            self._refused[message.message_id] = Verdict.RELEASE
            raise
        if isinstance(claimed, Refusal):
            busy = claimed is Refusal.RUNNING
            self._refused[message.message_id] = Verdict.DEFER if busy else Verdict.ACK
            return claimed
        message.options["attempt"] = claimed.attempt + 1  # why: should it be sent again, this is what it is to start.
        return Running(message.message_id, claimed)

    def _claim_once(self, message: MessageProxy, adopt: Callable[[], Task]) -> Claim | Refusal:
        now = datetime.now(UTC)
        with database.writing() as session:
            if ENVELOPE not in message.options:
                task_moves.accept(session, adopt())
            return task_moves.claim(
                session,
                message.message_id,
                message_attempt=message.options.get("attempt", 1),
                worker_id=self.presence.worker_id,
                now=now,
                alive_since=self.presence.alive_since(now),
            )

    def record(self, running: Running, *, result: Any, exception: BaseException | None) -> None:
        """Keep what an attempt came to until its message is settled."""
        text = None if exception is None else "".join(traceback.format_exception(exception, limit=-30))
        self._ended[running.task_id] = Ended(running, result, exception, text)

    def outcome(self, settlement: Settlement) -> Settlement:
        """Commit what became of a message; blocks until it is committed.

        Args:
            settlement: what the bus would do with the delivery, going by Dramatiq's flags.

        Returns:
            What it is to do.
        """
        refused = self._refused.pop(settlement.message_id, None)
        if refused is not None:
            delay_ms = _ASK_AGAIN_MS if refused is Verdict.DEFER else None
            return replace(settlement, verdict=refused, delay_ms=delay_ms)
        ended = self._ended.pop(settlement.message_id, None)
        if ended is None:
            return settlement  # why: it never started, and was decided about by the bus alone.
        try:
            committed, verdict = self._commit(ended, settlement)
        except Stopping:
            return replace(settlement, verdict=Verdict.RELEASE, delay_ms=None)
        if not committed:
            _logger.warning("the outcome of attempt %d of task %s came too late: a later attempt has the row",
                            ended.running.claim.attempt, ended.running.task_id)  # fmt: skip
            return replace(settlement, verdict=Verdict.ACK, delay_ms=None)
        return replace(settlement, verdict=verdict)

    def _commit(self, ended: Ended, settlement: Settlement) -> tuple[bool, Verdict]:
        """Write the outcome; whether this attempt still held the row, and what the bus is to do if so."""
        task_id, claim = ended.running.task_id, ended.running.claim
        if ended.exception is None:
            try:
                result = plain(ended.result, what="the result", max_bytes=self._result_max_bytes)
            except NotPlain as error:
                failure = Failure(type(error).__name__, str(error))
                return self._until_committed(self._failing(task_id, claim, "result not storable", failure)), Verdict.DEAD
            return self._until_committed(self._completing(task_id, claim, result)), Verdict.ACK
        failure = Failure(_name_of(ended.exception), str(ended.exception), ended.traceback)
        if settlement.verdict is Verdict.RETRY:
            move = self._retrying(task_id, claim, settlement.delay_ms or 0, failure)
            return self._until_committed(move), Verdict.RETRY
        return self._until_committed(self._failing(task_id, claim, _reason(ended.exception), failure)), Verdict.DEAD

    @staticmethod
    def _completing(task_id: str, claim: Claim, result: Any) -> Callable[[], bool]:
        def move() -> bool:
            with database.writing() as session:
                return task_moves.complete(
                    session, task_id, attempt=claim.attempt, result=result, now=datetime.now(UTC)
                )

        return move

    @staticmethod
    def _failing(task_id: str, claim: Claim, reason: str, failure: Failure) -> Callable[[], bool]:
        def move() -> bool:
            with database.writing() as session:
                return task_moves.fail(
                    session, task_id, attempt=claim.attempt, reason=reason, failure=failure, now=datetime.now(UTC)
                )

        return move

    @staticmethod
    def _retrying(task_id: str, claim: Claim, delay_ms: int, failure: Failure) -> Callable[[], bool]:
        def move() -> bool:
            now = datetime.now(UTC)
            eta = now + timedelta(milliseconds=delay_ms)
            with database.writing() as session:
                return task_moves.retry(session, task_id, attempt=claim.attempt, eta=eta, failure=failure, now=now)

        return move

    def _until_committed(self, move: Callable[[], T]) -> T:
        backoff_s = _FIRST_BACKOFF_S
        while True:
            try:
                return move()
            except database.DatabaseError as error:
                _logger.warning("the ledger cannot write (%s); again in %.1f s", error, backoff_s)
                if self.stopping.wait(backoff_s * random.uniform(0.5, 1)):
                    raise Stopping from error
                backoff_s = min(backoff_s * 2, _MAX_BACKOFF_S)


def _name_of(exception: BaseException) -> str:
    return type(exception).__name__


def _reason(exception: BaseException) -> str:
    """Why a task that raised this is not tried again, in the words of spec/runtime.md."""
    if _name_of(exception) == "TimeLimitExceeded":
        return "time limit"
    return "not retryable" if isinstance(exception, PermanentError) else "retries exhausted"


def message_of(task: Task) -> Message[Any]:
    """The message that a row stands for, to be published again: same id, parameters and options."""
    return Message(
        queue_name=task.queue,
        actor_name=task.task_name,
        args=tuple(task.params.get("args", ())),
        kwargs=dict(task.params.get("kwargs", {})),
        options={**task.options, "attempt": task.attempt + 1},
        message_id=task.task_id,
        message_timestamp=int(task.created_at.timestamp() * 1000),
    )
