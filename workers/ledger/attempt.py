"""An attempt as a worker process has it: a delivered message that runs, has run, or may not.

Its message options say what the bus cannot know: whether its row stands (our envelope), and whether another copy of it
may have run.

Must not: ask the database.
"""

import traceback
from datetime import datetime
from typing import Any, Final

import msgspec

from workers.broker import Generation, Parcel, Settlement, Verdict
from workers.errors import InvalidTask
from workers.ledger.poison import Suspicion

ENVELOPE: Final = "callboard"
"""Message option: the version of our envelope. It marks a message whose row has been written."""
ENVELOPE_VERSION: Final = 1
CHECK: Final = "check"
"""Message option: another copy of this message may have run; ask the row."""
ATTEMPT: Final = "attempt"
"""Message option: number of the last attempt that was made when it was sent."""
TASK_ID_MAX_CHARS: Final = 64

Delivery = tuple[str, str, int, int]
"""Message id, owner, number and claim of one handing-out by the bus. The same task may be delivered twice to one
process, even under one number: the bus lost its data."""


class Running(msgspec.Struct, eq=False):
    """An attempt that runs in this process, or has run and is not settled yet.

    has_ended: what it came to is known: `value`, or `exception` and its `traceback`.
    """

    message: Parcel
    delivery: Delivery
    started_at: datetime
    retry_count: int
    correlation_id: str | None
    suspicion: Suspicion | None = None
    has_ended: bool = False
    value: Any = None
    exception: BaseException | None = None
    traceback: str | None = None

    def ended(self, *, value: Any = None, exception: BaseException | None = None) -> None:
        """It has come to this."""
        if exception is not None:
            self.exception, self.traceback = exception, _traceback_of(exception)
        self.value = value
        self.has_ended = True

    @property
    def task_id(self) -> str:
        """The task's id."""
        return self.message.message_id

    @property
    def attempt(self) -> int:
        """Its number: that of the delivery."""
        return self.message.delivery.fence


class Refused(msgspec.Struct, frozen=True):
    """A message may not start its task: why, and what the bus is to do with it."""

    why: str
    verdict: Verdict = Verdict.ACK
    delay_ms: int | None = None


def check_id(task_id: str) -> None:
    """Raise InvalidTask for a message id that no row can have."""
    if len(task_id) > TASK_ID_MAX_CHARS or not task_id.isprintable():
        raise InvalidTask(f"task_id: expected at most {TASK_ID_MAX_CHARS} printable characters", field="task_id")


def must_ask(message: Parcel, generation: Generation) -> bool:
    """Whether this message may have run before, whatever the bus says of it."""
    if message.delivery.fence > 1 or ENVELOPE not in message.options:
        return True
    return not message.vouched and may_be_old(message, generation)


def may_be_old(message: Parcel, generation: Generation) -> bool:
    """Whether another copy of it may have been there."""
    return CHECK in message.options or generation.number == 0 or message.arrived_us <= generation.since_us


def delivery_of(message: Parcel) -> Delivery:
    """Which handing-out it is."""
    at = message.delivery
    return at.message_id, at.owner, at.fence, at.claim


def decided(settlement: Settlement, verdict: Verdict, *, delay_ms: int | None = None) -> Settlement:
    """The settlement with another verdict; what belongs to the old one only is left out."""
    if verdict is settlement.verdict and delay_ms is None:
        return settlement
    return msgspec.structs.replace(settlement, verdict=verdict, delay_ms=delay_ms, due_ms=None, record=b"")


def _traceback_of(exception: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(exception, limit=-30))
    except Exception as error:  # why: it asks the task's own classes for words, notes and causes.
        return f"{type(exception).__name__}: its traceback cannot be shown ({type(error).__name__})"
