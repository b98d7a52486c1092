"""The tree of errors. Its two branches below `TaskError` decide about retries.

    CallboardError
    ├── SettingsError             a setting has a wrong value; nothing was started
    ├── StartRefused              the servers around a worker are not fit for production mode; nothing was started
    ├── SendError                 a send() that raised: there is neither a row that will run nor a message
    │   ├── InvalidTask           unknown actor, parameters, priority …: sending it again cannot help
    │   ├── LedgerUnavailable     the database did not take the row
    │   └── OutcomeUnknown        neither can be said; the message names the task id
    ├── UnknownQueue              no actor of this code uses a queue of this name
    ├── TaskRefused               it cannot be done with this task as it stands
    ├── ScheduleError             what was asked of a schedule was not done
    │   ├── InvalidSchedule       a field is wrong; the message says what was expected
    │   ├── UnknownSchedule       there is no schedule of this id
    │   └── ScheduleRefused       it cannot be done with this schedule as it stands
    └── TaskError                 what a task raises about itself
        ├── PermanentError        the same again would fail again: never retried
        │   ├── LockHeld          another task has the lock that this one needs, and its actor says if_held="fail"
        │   └── ResultNotStorable what the function returned is not JSON or too big
        ├── TransientError        may succeed later: retried as the actor's policy says
        └── ChildDied             the child process of an isolated task ended without saying how it went

    Interrupt                     raised in a task from outside; no Exception: `except Exception` lets it through
    ├── TimeLimitExceeded         it ran longer than its time limit
    ├── Cancelled                 someone cancelled it; never retried
    ├── LockLost                  the lock that it runs under is another's by now
    └── (Shutdown)                Dramatiq's: the worker stops, for actors with notify_shutdown

    Retry                         Dramatiq's: raise Retry(delay=milliseconds) to be tried again then. It uses up a retry

A Redis that is away is no error of sending: the row is kept, and the relay sends it when Redis is back. Who asks the
bus itself (its depth, a pause) gets `workers.broker.BusUnavailable`, BusFull or BusRefused.

Any other exception of a task is retried like a TransientError. Each message says what was expected, what came, and
what to do. Errors of sending derive from Dramatiq's MiddlewareError, because that is the only kind that a
`before_enqueue` hook can raise without its being logged and swallowed (spec/traps.md 2).
"""

from typing import Self

from dramatiq.errors import Retry
from dramatiq.middleware import Interrupt, MiddlewareError
from dramatiq.middleware import TimeLimitExceeded as _TimeLimitExceeded

from models.database import DatabaseError

__all__ = [
    "CallboardError",
    "Cancelled",
    "ChildDied",
    "Interrupt",
    "InvalidSchedule",
    "InvalidTask",
    "LedgerUnavailable",
    "LockHeld",
    "LockLost",
    "OutcomeUnknown",
    "PermanentError",
    "ResultNotStorable",
    "Retry",
    "ScheduleError",
    "ScheduleRefused",
    "SendError",
    "SettingsError",
    "TaskError",
    "TaskRefused",
    "TimeLimitExceeded",
    "TransientError",
    "UnknownActor",
    "UnknownQueue",
    "UnknownSchedule",
]


class CallboardError(Exception):
    """Everything that Callboard raises on purpose."""


class SettingsError(CallboardError):
    """One or more settings are wrong; the message has a line for each."""


class StartRefused(CallboardError):
    """The start checks found something in production mode; the message lists all of it."""


class SendError(CallboardError, MiddlewareError):
    """A task was not accepted."""


class InvalidTask(SendError):
    """The request itself is wrong.

    Args:
        message: what was expected, what came, what to do.
        field: the name of the part that is wrong, for interfaces that point at it.
    """

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field


class UnknownActor(InvalidTask):
    """No actor has this name; the message proposes the nearest ones."""


class LedgerUnavailable(SendError):
    """The database did not take the row; nothing was sent."""

    @classmethod
    def of(cls, error: DatabaseError, done: str) -> Self:
        """What to say where an action on tasks that are there failed with it.

        Args:
            done: what was to become of them, in a word: "cancelled".
        """
        if error.may_go_on:
            return cls(f"what was to be {done} may be so, or become so: ask again, which does no harm: {error}")
        return cls(f"nothing was {done}: {error}")


class OutcomeUnknown(SendError):
    """The database's answer to the commit was lost, and it cannot be asked, or may not have done it yet.

    Args:
        task_id: the id under which the task may or may not exist.
    """

    def __init__(self, task_id: str) -> None:
        super().__init__(
            f"task {task_id} may or may not have been accepted: the database did not answer, and may do it yet. Once "
            f"it is back, look the task up with `callboard tasks show {task_id}`, or send the same message again with "
            "`workers.tasks.send_many([message])`: it is accepted once"
        )
        self.task_id = task_id


class UnknownQueue(CallboardError):
    """No actor of this code uses a queue of this name; the message proposes the nearest ones."""


class TaskRefused(CallboardError):
    """It cannot be done with this task as it stands; the message says why and what to do."""


class ScheduleError(CallboardError):
    """What was asked of a schedule was not done."""


class InvalidSchedule(ScheduleError):
    """A field of a schedule is wrong.

    Args:
        message: the field, what was expected, what came.
        field: its name, for interfaces that point at it.
    """

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field


class UnknownSchedule(ScheduleError):
    """There is no schedule of this id; the message proposes the nearest ones."""


class ScheduleRefused(ScheduleError):
    """It cannot be done with this schedule as it stands; the message says why and what to do."""


class TaskError(CallboardError):
    """Raised inside a task about its own work."""


class PermanentError(TaskError):
    """The same again would fail again; the task fails at once."""


class TransientError(TaskError):
    """May succeed later; the task is retried as its actor's policy says."""


class LockHeld(PermanentError, MiddlewareError):
    """Another task has the lock; a MiddlewareError because a hook raises it."""


class ResultNotStorable(PermanentError):
    """The function returned what JSON cannot hold, or too much of it; the message says what and the mend."""


class ChildDied(TaskError):
    """The child process of an isolated task ended by itself, without a result or an exception.

    Args:
        how: what is known, for people.
        signal_number: that killed it; None if it exited.
        exit_code: with which it exited; None if it was killed.
    """

    def __init__(self, how: str, *, signal_number: int | None = None, exit_code: int | None = None) -> None:
        super().__init__(how)
        self.signal_number = signal_number
        self.exit_code = exit_code


class LockLost(Interrupt):
    """The lock that the task ran under could not be renewed in time, and may be another's: it must not go on."""

    def __init__(self, *_said: object) -> None:
        super().__init__(
            "the lock that this task ran under was lost: it could not be renewed within its ttl_s, and another may "
            "have it. Was the worker frozen, or Redis away? What it wrote last may be repeated"
        )


class TimeLimitExceeded(_TimeLimitExceeded):
    """The task ran longer than its time limit."""

    def __init__(self, said: str = "the task ran longer than its time limit") -> None:
        super().__init__(said)


class Cancelled(Interrupt):
    """The task was cancelled while it ran."""

    def __init__(self, said: str = "the task was cancelled while it ran") -> None:
        super().__init__(said)
