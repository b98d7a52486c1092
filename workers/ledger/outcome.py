"""What an attempt came to means a status for its row, and a verdict for the bus: here both are decided together.

    returned                    completed            ACK
    … what cannot be stored     failed               DEAD
    raised Cancelled            cancelled            ACK
    raised SkipMessage          cancelled, skipped   ACK
    raised, is to be retried    pending, from eta    RETRY    the policy's decision (middleware Retries)
    raised, is not              failed               DEAD
    its own process died        pending or poison    RETRY or DEAD
    cut short                   pending, or failed if it must not run twice

Must not: write anything.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import msgspec
from dramatiq import Message, MessageProxy
from dramatiq.middleware import SkipMessage

from models.redaction import redact_text
from models.task import AttemptOutcome, FailureReason, TaskStatus
from models.task_moves import End
from models.text import words_of
from workers.broker import Parcel, Settlement, Verdict
from workers.errors import Cancelled, ChildDied, PermanentError, ResultNotStorable
from workers.ledger.attempt import Running
from workers.ledger.poison import NO_SUSPICION
from workers.ledger.presence import Presence
from workers.params import NotPlain, plain_text


class Owner(Protocol):
    """What is asked of the ledger of this process.

    fails_when_lost: whether a task of this name must not run twice. secrets_of: the secret values among a message's
    arguments.
    """

    presence: Presence
    fails_when_lost: Callable[[str], bool]
    secrets_of: Callable[[Message[Any] | MessageProxy], frozenset[str]]


class Outcomes:
    """Decides for one process. result_max_bytes: bound of a result as JSON."""

    def __init__(self, owner: Owner, *, result_max_bytes: int) -> None:
        self._owner = owner
        self._result_max_bytes = result_max_bytes

    def decide(self, running: Running, settlement: Settlement) -> tuple[End, Verdict]:
        """Where an ended attempt takes its row, and what the bus is to do once that is committed."""
        exception = running.exception
        if exception is None:
            try:
                text = plain_text(running.value, what="the result", max_bytes=self._result_max_bytes)
            except NotPlain as error:
                reason, name = FailureReason.RESULT_NOT_STORABLE, ResultNotStorable.__name__
                return self.failing(running, reason, name, str(error)), Verdict.DEAD
            return self._ending(running, TaskStatus.COMPLETED, AttemptOutcome.COMPLETED, result=text), Verdict.ACK
        name, said = type(exception).__name__, words_of(exception)
        if isinstance(exception, Cancelled):
            return self._ending(running, TaskStatus.CANCELLED, AttemptOutcome.CANCELLED), Verdict.ACK
        if isinstance(exception, ChildDied):
            return self._decide_crash(running, said)
        if isinstance(exception, SkipMessage):
            end = self._ending(running, TaskStatus.CANCELLED, AttemptOutcome.SKIPPED, reason=f"skipped: {said}")
            return end, Verdict.ACK
        if settlement.verdict is Verdict.RETRY:
            now = datetime.now(UTC)
            eta = now + timedelta(milliseconds=settlement.delay_ms or 0)
            retry = self._ending(
                running, TaskStatus.PENDING, AttemptOutcome.RETRIED, error_type=name, error_message=said,
                traceback=running.traceback, eta=eta, retried=True, finished_at=now,
            )  # fmt: skip
            return retry, Verdict.RETRY
        return self.failing(running, _reason(exception, running.message), name, said, running.traceback), Verdict.DEAD

    def _decide_crash(self, running: Running, said: str) -> tuple[End, Verdict]:
        """It ran alone, and what died was its own process."""
        suspicion = running.suspicion or NO_SUSPICION
        end = self._ending(
            running, TaskStatus.PENDING, AttemptOutcome.CRASHED, error_type="ChildDied", error_message=said
        )
        if suspicion.is_convicted_by_one_more:
            failed = {"status": TaskStatus.FAILED, "reason": FailureReason.POISON}
            return msgspec.structs.replace(end, **failed), Verdict.DEAD
        if self._owner.fails_when_lost(running.message.actor_name):
            failed = {"status": TaskStatus.FAILED, "reason": FailureReason.WORKER_LOST}
            return msgspec.structs.replace(end, **failed), Verdict.DEAD
        return end, Verdict.RETRY

    def failing(self, running: Running, reason: str, name: str, said: str, text: str | None = None) -> End:
        """It fails for good, because of an error of this name and these words; `text` is its traceback."""
        return self._ending(
            running, TaskStatus.FAILED, AttemptOutcome.FAILED, reason=reason, error_type=name, error_message=said,
            traceback=text,
        )  # fmt: skip

    def _ending(self, running: Running, status: TaskStatus, outcome: AttemptOutcome, **details: Any) -> End:
        details.setdefault("finished_at", datetime.now(UTC))
        could_start_us, waited_s = running.message.arrived_us, None
        if could_start_us:
            # why not below 0: one is the server's clock, the other this host's.
            waited_s = max(0.0, running.started_at.timestamp() - could_start_us / 1e6)
        if outcome is not AttemptOutcome.COMPLETED:
            hidden = self._owner.secrets_of(running.message)
            for name in ("reason", "error_message", "traceback"):
                if hidden and isinstance(details.get(name), str):
                    details[name] = redact_text(details[name], hidden)
        return End(
            waited_s=waited_s,
            task_id=running.task_id,
            attempt=running.attempt,
            worker_id=self._owner.presence.worker_id,
            started_at=running.started_at,
            status=status,
            outcome=outcome,
            **details,
        )

    def cut_short(self, running: Running) -> tuple[End, Verdict]:
        """An attempt that began and whose end nobody knows: another follows, unless it must not run twice."""
        if self._owner.fails_when_lost(running.message.actor_name):
            failed = self._ending(
                running, TaskStatus.FAILED, AttemptOutcome.SHUT_DOWN, reason=FailureReason.WORKER_LOST
            )
            return failed, Verdict.DEAD
        return self._ending(running, TaskStatus.PENDING, AttemptOutcome.SHUT_DOWN), Verdict.RETRY


def _reason(exception: BaseException, message: Parcel) -> FailureReason:
    """Why a task that raised this is not tried again."""
    if type(exception).__name__ == "TimeLimitExceeded":
        return FailureReason.TIME_LIMIT
    if isinstance(exception, ResultNotStorable):
        return FailureReason.RESULT_NOT_STORABLE
    is_permanent = isinstance(exception, PermanentError) or message.is_not_retryable
    return FailureReason.NOT_RETRYABLE if is_permanent else FailureReason.RETRIES_EXHAUSTED
