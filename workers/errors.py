"""The tree of errors. Its two branches below `TaskError` decide about retries.

    CallboardError
    ├── SettingsError             a setting has a wrong value; nothing was started
    ├── StartRefused              the servers around a worker are not fit for production mode; nothing was started
    ├── SendError                 a send() that raised: there is neither a row that will run nor a message
    │   ├── InvalidTask           unknown actor, parameters, priority …: sending it again cannot help
    │   ├── LedgerUnavailable     the database did not take the row
    │   ├── BusUnavailable        Redis did not take the message; the row was taken back
    │   └── OutcomeUnknown        neither can be said; the message names the task id
    └── TaskError                 what a task raises about itself
        ├── PermanentError        the same again would fail again: never retried
        └── TransientError        may succeed later: retried as the actor's policy says

Any other exception of a task is retried like a TransientError. Each message says what was expected, what came, and
what to do. Errors of sending derive from Dramatiq's MiddlewareError, because that is the only kind that a
`before_enqueue` hook can raise without its being logged and swallowed (spec/traps.md 2).
"""

from dramatiq.middleware import MiddlewareError


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


class BusUnavailable(SendError):
    """Redis did not take the message; the row was taken back."""


class OutcomeUnknown(SendError):
    """Redis's answer was lost and the database cannot be asked.

    Args:
        task_id: the id under which the task may or may not exist.
    """

    def __init__(self, task_id: str) -> None:
        super().__init__(
            f"task {task_id} may or may not have been accepted: the bus did not answer and the database cannot be "
            f"asked. Look it up with `callboard tasks show {task_id}` once the database is back"
        )
        self.task_id = task_id


class TaskError(CallboardError):
    """Raised inside a task about its own work."""


class PermanentError(TaskError):
    """The same again would fail again; the task fails at once."""


class TransientError(TaskError):
    """May succeed later; the task is retried as its actor's policy says."""
