"""Status: keeps the row of each task true, through Dramatiq's hooks. The moves themselves are the ledger's.

    before_enqueue            the row is written; an error here reaches the sender and nothing is sent
    before_process_message    the attempt is claimed; a message that may not run is skipped
    after_process_message     result or exception is recorded; the ledger commits it when the message is settled
    after_skip_message        the same, of an attempt that was skipped

Dramatiq fires the enqueue hooks again for a delayed message whose time has come (spec/traps.md 5): such a message
carries our envelope, and its row stands already.
"""

import logging
import sys
import threading
from collections.abc import Mapping
from contextvars import Token
from datetime import UTC, datetime, timedelta
from typing import Any

import dramatiq
from dramatiq import Message
from dramatiq.broker import Broker, MessageProxy
from dramatiq.middleware import SkipMessage

from models.task import Task, TaskStatus
from models.task_moves import Refusal
from workers.broker import Parcel
from workers.errors import InvalidTask
from workers.ledger.bus import LedgerBroker
from workers.ledger.ledger import ENVELOPE, ENVELOPE_VERSION, Ledger, Running, Stopping
from workers.params import NotPlain, bind, check_values, plain
from workers.registry import check_priority, default_priority_of, function_of, type_of
from workers.runner import current

_logger = logging.getLogger(__name__)
_NOT_KEPT = frozenset({"eta", "attempt", "retries", "traceback", "requeue_timestamp"})
"""Message options that belong to one delivery, not to the task."""


class Status(dramatiq.Middleware):
    """See the module's docstring.

    Args:
        ledger: of this process.
        params_max_bytes: bound of a task's parameters as JSON.
        max_retries: for actors that do not say.
        shutdown_timeout_s: how long a stopping worker may take; the ledger gives up waiting for a database that is
            down shortly before.
    """

    def __init__(self, ledger: Ledger, *, params_max_bytes: int, max_retries: int, shutdown_timeout_s: float) -> None:
        self._ledger = ledger
        self._params_max_bytes = params_max_bytes
        self._max_retries = max_retries
        self._patience_s = max(0.5, shutdown_timeout_s - 3)
        self._local = threading.local()

    def before_worker_boot(self, broker: Broker, worker: dramatiq.Worker) -> None:
        """The process is alive from here on."""
        self._ledger.stopping.clear()
        self._ledger.presence.start()

    def before_worker_shutdown(self, broker: Broker, worker: dramatiq.Worker) -> None:
        """Give what waits for a broken database or bus a last while."""
        timer = threading.Timer(self._patience_s, self._ledger.stopping.set)
        timer.daemon = True
        timer.start()

    def after_worker_shutdown(self, broker: Broker, worker: dramatiq.Worker) -> None:
        """The process is gone; what it still runs goes back, and may start elsewhere at once."""
        self._ledger.stopping.set()
        if isinstance(broker, LedgerBroker):
            broker.hand_back_running()
        self._ledger.hand_back()
        self._ledger.presence.stop()

    def before_enqueue(self, broker: Broker, message: Message[Any], delay: int | None) -> None:
        """Write the row of a new message. Raises SendError; then nothing is sent."""
        if ENVELOPE in message.options:
            return
        task = self._row_of(broker, message, delay_ms=delay)
        message.options[ENVELOPE] = ENVELOPE_VERSION
        task.options = {name: value for name, value in message.options.items() if name not in _NOT_KEPT}
        self._ledger.accept(task)

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Claim the attempt. Raises SkipMessage if the message may not run, for whatever reason."""
        if not isinstance(message, Parcel):
            raise SkipMessage("the message did not come from the bus")
        try:
            claimed = self._ledger.claim(message, lambda: self._row_of(broker, message, delay_ms=None))
        except Stopping as error:
            raise SkipMessage("the worker stops before the database is back") from error
        except Exception as error:
            # why: any other exception Dramatiq would log, and then run the actor untracked.
            _logger.exception("message %s does not run", message.message_id[:100])
            raise SkipMessage(f"it cannot be claimed: {error}") from error
        if not isinstance(claimed, Running):
            why = claimed.value if isinstance(claimed, Refusal) else f"its retry is due at {claimed.eta}"
            _logger.info("message %s does not run: %s", message.message_id, why)
            raise SkipMessage(why)
        self._local.running = claimed
        self._local.token = current.enter(
            current.CurrentTask(
                id=claimed.task_id,
                attempt=claimed.claim.attempt,
                retry_count=claimed.claim.retry_count,
                correlation_id=claimed.claim.correlation_id,
            )
        )

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Record what came of the attempt."""
        running: Running | None = getattr(self._local, "running", None)
        if running is None:
            return
        self._ledger.record(running, result=result, exception=exception)
        self._leave()

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        """Record that the attempt was skipped after its claim: by a later middleware, or by the actor itself."""
        running: Running | None = getattr(self._local, "running", None)
        if running is None:
            return
        skipped = sys.exc_info()[1]  # why: Dramatiq calls this hook while it handles the exception.
        self._ledger.record(running, exception=skipped or SkipMessage("without a reason"))
        self._leave()

    def _leave(self) -> None:
        self._local.running = None
        token: Token[current.CurrentTask | None] = self._local.token
        current.leave(token)

    def _row_of(self, broker: Broker, message: Message[Any] | MessageProxy, *, delay_ms: int | None) -> Task:
        actor = broker.get_actor(message.actor_name)
        options = message.options
        now = datetime.now(UTC)
        function = function_of(actor)
        named = bind(function, message.args, message.kwargs)
        self._check_plain(named)
        check_values(function, named)
        return Task(
            task_id=message.message_id,
            task_name=actor.actor_name,
            task_type=type_of(actor),
            queue=actor.queue_name,
            priority=check_priority(options.setdefault("priority", default_priority_of(actor))),
            status=TaskStatus.PENDING,
            params=plain({"args": list(message.args), "kwargs": message.kwargs}, what="params", max_bytes=2**40),
            max_retries=options.get("max_retries", actor.options.get("max_retries", self._max_retries)),
            correlation_id=options.get("correlation_id") or current.current_task().correlation_id,
            parent_id=current.current_task().id,
            group_id=options.get("group_completion_uuid"),
            schedule_id=options.get("schedule_id"),
            tags=list(options.get("tags", ())),
            eta=None if delay_ms is None else now + timedelta(milliseconds=delay_ms),
            created_at=now,
            enqueued_at=now,
        )

    def _check_plain(self, named: Mapping[str, Any]) -> None:
        for name, value in named.items():
            try:
                plain(value, what=f"parameter {name!r}", max_bytes=self._params_max_bytes)
            except NotPlain as error:
                raise InvalidTask(f"params.{name}: {error}", field=f"params.{name}") from None
        try:
            plain(dict(named), what="the parameters together", max_bytes=self._params_max_bytes)
        except NotPlain as error:
            raise InvalidTask(f"params: {error}", field="params") from None
