"""Results as Dramatiq hands them out (`message.get_result`, `group.wait`, `group.completed`, `pipeline.get_result`),
read from the ledger: every task's outcome is there already, so nothing is stored a second time.

    no row yet, pending, running    missing: ResultMissing, or waited for
    completed                       what the function returned, as JSON gives it back
    failed, cancelled               ResultFailure, with the error's type and message
    skipped                         None, as in stock Dramatiq
    result pruned by retention      missing

A retry does not end a task: `get_result(block=True)` waits for its last attempt.
"""

from typing import TYPE_CHECKING, Any

import dramatiq
from dramatiq import Message
from dramatiq.results import ResultBackend, ResultFailure
from dramatiq.results import Results as StockResults
from dramatiq.results.backend import Missing

from models import database
from models.task import TERMINAL, TaskStatus

if TYPE_CHECKING:
    from models.task import Task


class LedgerResults(ResultBackend):
    """Reads outcomes of tasks. Each look raises DatabaseError if the database is away."""

    def build_message_key(self, message: Message[Any]) -> str:
        """The task's id."""
        return message.message_id

    def _get(self, message_key: str) -> Any:
        from models import task_query  # why: SQLAlchemy takes 18 MB, and few workers ask for a result.

        with database.reading() as session:
            task = task_query.get(session, message_key)
        if task is None or task.status not in TERMINAL or task.result_pruned_at is not None:
            return Missing
        return task

    def unwrap_result(self, res: "Task") -> Any:
        """What the function returned. Raises ResultFailure."""
        if res.status == TaskStatus.COMPLETED:
            return res.result
        reason = res.reason or ""
        if res.status == TaskStatus.CANCELLED and reason.startswith("skipped: "):
            return None
        if res.status == TaskStatus.CANCELLED:
            raise ResultFailure(f"the task was cancelled {reason}", "Cancelled", reason)
        name, said = res.error_type or "", res.error_message or reason
        raise ResultFailure(f"actor raised {name}: {said}", name, said)


class Results(StockResults):
    """Where Dramatiq looks for the backend. `store_results` and `result_ttl` of actors are taken and mean nothing: the
    ledger keeps all results for as long as CALLBOARD_RESULT_RETENTION_DAYS says."""

    def __init__(self) -> None:
        super().__init__(backend=LedgerResults())  # type: ignore[no-untyped-call]  # Dramatiq's  # type: ignore[no-untyped-call]  # Dramatiq's

    after_process_message = dramatiq.Middleware.after_process_message
    after_skip_message = dramatiq.Middleware.after_skip_message
    after_nack = dramatiq.Middleware.after_nack
