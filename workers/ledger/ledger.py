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

Whether a message may run is decided by the claim (models.task_moves), whatever the bus delivers. A commit whose answer
was lost is repeated: a claim that this worker holds already stands, and an outcome that is on record is this attempt's.
"""

import contextlib
import itertools
import logging
import random
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from dramatiq import Message
from dramatiq.middleware import SkipMessage
from msgspec.structs import replace
from sqlalchemy.exc import DataError

from models import database, task_moves
from models.task import AttemptOutcome, Task
from models.task_moves import Claim, Failure, NotYet, Refusal
from workers.broker import Parcel, Settlement, Verdict
from workers.errors import InvalidTask, LedgerUnavailable, OutcomeUnknown, PermanentError
from workers.ledger.presence import Presence
from workers.params import NotPlain, plain

ENVELOPE = "callboard"
"""Message option: the version of our envelope. It marks a message whose row has been written."""
ENVELOPE_VERSION = 1

_FIRST_BACKOFF_S = 0.1
_MAX_BACKOFF_S = 2.0
_ASK_AGAIN_MS = 2_000
"""A message that cannot be decided now (its task runs elsewhere, its actor is unknown here) comes back after this."""

_logger = logging.getLogger(__name__)
T = TypeVar("T")


Delivery = tuple[str, str, int]
"""Message id, owner and number of one handing-out by the bus. The same task may be delivered twice to one process."""


@dataclass(frozen=True)
class Running:
    """An attempt that runs in this process."""

    delivery: Delivery
    claim: Claim

    @property
    def task_id(self) -> str:
        """The task's id."""
        return self.delivery[0]


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
        self._ended: dict[Delivery, Ended] = {}
        self._refused: dict[Delivery, tuple[Verdict, int | None]] = {}
        self._running: dict[Delivery, Running] = {}

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

    def claim(self, message: Parcel, adopt: Callable[[], Task]) -> Running | Refusal | NotYet:
        """Start the message's task, or say why not. Waits while the database is down.

        Args:
            adopt: makes the row of a message that was sent by plain Dramatiq and so has none.

        Raises:
            Stopping: the process stops; the message goes back to its place.
            InvalidTask, DataError: it can never run; it goes to the dead letters.
            Exception: anything unforeseen; it is put off, and nothing is lost.
        """
        delivery = _delivery_of(message)
        tries = itertools.count()
        try:
            claimed = self._until_committed(lambda: self._claim_once(message, adopt, again=next(tries) > 0))
        except Stopping:
            self._refused[delivery] = (Verdict.RELEASE, None)
            raise
        except (InvalidTask, DataError):
            self._refused[delivery] = (Verdict.DEAD, None)
            raise
        except Exception:  # why: whatever it is, the message is put off; it must neither run unclaimed nor be lost
            self._refused[delivery] = (Verdict.DEFER, _ASK_AGAIN_MS)
            raise
        if not isinstance(claimed, Claim):
            self._refused[delivery] = _answer_to(claimed)
            return claimed
        message.options["attempt"] = claimed.attempt + 1  # why: should it be sent again, this is what it is to start.
        self._running[delivery] = Running(delivery, claimed)
        return self._running[delivery]

    def _claim_once(self, message: Parcel, adopt: Callable[[], Task], *, again: bool) -> Claim | Refusal | NotYet:
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
                again=again,
            )

    def record(self, running: Running, *, result: Any = None, exception: BaseException | None = None) -> None:
        """Keep what an attempt came to until its message is settled."""
        text = None if exception is None else "".join(traceback.format_exception(exception, limit=-30))
        self._ended[running.delivery] = Ended(running, result, exception, text)

    def outcome(self, settlement: Settlement) -> Settlement:
        """Commit what became of a message; blocks until it is committed.

        Args:
            settlement: what the bus would do with the delivery, going by Dramatiq's flags.

        Returns:
            What it is to do.
        """
        delivery = (settlement.message_id, settlement.owner, settlement.fence)
        refused = self._refused.pop(delivery, None)
        if refused is not None:
            return replace(settlement, verdict=refused[0], delay_ms=refused[1])
        running = self._running.pop(delivery, None)
        ended = self._ended.pop(delivery, None)
        if running is None:
            return settlement  # why: it never started, and was decided about by the bus alone.
        if ended is None:
            return self._cut_short(running, settlement)
        move, verdict = self._decide(ended, settlement)
        task_id, attempt = ended.running.task_id, ended.running.claim.attempt
        try:
            held = self._until_committed(move) or self._until_committed(lambda: _is_recorded(task_id, attempt))
        except Stopping:
            return replace(settlement, verdict=Verdict.RELEASE, delay_ms=None)
        if not held:
            _logger.warning(
                "the outcome of attempt %d of task %s came too late: a later one has the row", attempt, task_id
            )
            return replace(settlement, verdict=Verdict.ACK, delay_ms=None)
        return replace(settlement, verdict=verdict)

    def _cut_short(self, running: Running, settlement: Settlement) -> Settlement:
        """An interrupt ended the attempt before any hook could record it: the task is to be started again."""
        _logger.error("attempt %d of task %s ended unrecorded; it starts again", running.claim.attempt, running.task_id)

        def move() -> bool:
            with database.writing() as session:
                return task_moves.hand_back(
                    session, running.task_id, attempt=running.claim.attempt, now=datetime.now(UTC)
                )

        with contextlib.suppress(Stopping):
            self._until_committed(move)
        return replace(settlement, verdict=Verdict.RELEASE, delay_ms=None)

    def hand_back(self) -> None:
        """The process ends while attempts run: their rows are pending again. Their messages are on the bus already.

        In this order, because a crash in between leaves a running row of a dead worker, whose message may start it; the
        other way round the message would have to wait for its lease.
        """
        for running in list(self._running.values()):
            try:
                with database.writing() as session:
                    task_moves.hand_back(session, running.task_id, attempt=running.claim.attempt, now=datetime.now(UTC))
            except database.DatabaseError as error:
                _logger.warning("task %s was not handed back: %s", running.task_id, error)

    def _decide(self, ended: Ended, settlement: Settlement) -> tuple[Callable[[], bool], Verdict]:
        """The move that an ended attempt makes, and what the bus is to do once it is committed."""
        task_id, claim, exception = ended.running.task_id, ended.running.claim, ended.exception
        if exception is None:
            try:
                result = plain(ended.result, what="the result", max_bytes=self._result_max_bytes)
            except NotPlain as error:
                failure = Failure(type(error).__name__, str(error))
                return self._failing(task_id, claim, "result not storable", failure), Verdict.DEAD
            return self._completing(task_id, claim, result), Verdict.ACK
        if isinstance(exception, SkipMessage):
            return self._skipping(task_id, claim, str(exception)), Verdict.ACK
        failure = Failure(_name_of(exception), str(exception), ended.traceback)
        if settlement.verdict is Verdict.RETRY:
            return self._retrying(task_id, claim, settlement.delay_ms or 0, failure), Verdict.RETRY
        return self._failing(task_id, claim, _reason(exception), failure), Verdict.DEAD

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
    def _skipping(task_id: str, claim: Claim, reason: str) -> Callable[[], bool]:
        def move() -> bool:
            with database.writing() as session:
                return task_moves.skip(session, task_id, attempt=claim.attempt, reason=reason, now=datetime.now(UTC))

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


def _delivery_of(message: Parcel) -> Delivery:
    return message.message_id, message.delivery.owner, message.delivery.fence


def _is_recorded(task_id: str, attempt: int) -> bool:
    """Whether this attempt's own outcome is on record: its commit's answer was lost, and the move found it done."""
    with database.reading() as session:
        recorded = task_moves.outcome_of(session, task_id, attempt)
    return recorded not in (None, AttemptOutcome.LOST, AttemptOutcome.SHUT_DOWN)


def _answer_to(refusal: Refusal | NotYet) -> tuple[Verdict, int | None]:
    """What the bus is to do with a message that may not start its task now, and after how many milliseconds."""
    if isinstance(refusal, NotYet):
        wait_ms = (refusal.eta - datetime.now(UTC)).total_seconds() * 1000
        return Verdict.DEFER, max(1, round(wait_ms))
    return (Verdict.DEFER, _ASK_AGAIN_MS) if refusal is Refusal.RUNNING else (Verdict.ACK, None)


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
