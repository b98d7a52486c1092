"""Status: keeps the row of each task true, through Dramatiq's hooks. The moves themselves are the ledger's.

    before_enqueue            the row is written; an error here reaches the sender and nothing is sent
    before_process_message    the attempt begins; a message that may not run is skipped
    after_process_message     result or exception is recorded; the ledger commits it when the message is settled
    after_skip_message        the same, of an attempt that was skipped

Dramatiq fires the enqueue hooks again for a retry and for a delayed message whose time has come (spec/traps.md 5): such
a message carries our envelope, and its row stands already.
"""

import json
import logging
import sys
import threading
from collections.abc import Callable, Mapping
from contextvars import Token
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import dramatiq
from dramatiq import Message
from dramatiq.broker import Broker, MessageProxy
from dramatiq.middleware import SkipMessage

from models.task_moves import NewTask
from workers.broker import Parcel, Verdict
from workers.errors import Cancelled, InvalidTask
from workers.ledger.attempt import ATTEMPT, CHECK, ENVELOPE, ENVELOPE_VERSION, Running, check_id
from workers.ledger.bus import HasOwner, LedgerBroker
from workers.ledger.ledger import Ledger
from workers.ledger.scribe import Stopping
from workers.ledger.upkeep import Upkeep
from workers.options import check_priority
from workers.params import NotPlain, QuickCheck, bind, check_values, options_text, plain_text
from workers.registry import default_priority_of, function_of, type_of
from workers.runner import correlation, current, tracing
from workers.runner.window import windows

_logger = logging.getLogger(__name__)
_NOT_KEPT = frozenset({"eta", ATTEMPT, CHECK, "retries", "traceback", "requeue_timestamp"})
"""Message options that belong to one delivery, not to the task."""


class _Sender(NamedTuple):
    """What every row of an actor has in common."""

    name: str
    task_type: str | None
    queue: str
    priority: int
    max_retries: int
    function: Callable[..., Any]
    quick: QuickCheck
    plain_options: str
    """The options of a row whose message was sent with none."""


class Status(dramatiq.Middleware):
    """See the module's docstring.

    Args:
        ledger: of this process.
        params_max_bytes: bound of a task's parameters as JSON.
        max_retries: for actors that do not say.
        shutdown_timeout_s: how long a stopping worker may take; its ledger may take most of that for a database that
            is down.
        make_upkeep: (who does it, what ends a task that runs here) → this process's upkeep; anew for each worker.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        params_max_bytes: int,
        max_retries: int,
        shutdown_timeout_s: float,
        make_upkeep: Callable[[str, Callable[[str], object]], Upkeep],
    ) -> None:
        self._ledger = ledger
        ledger.adopt = self.adopt
        ledger.row_of = self.row_of
        self._senders: dict[str, _Sender] = {}
        self._params_max_bytes = params_max_bytes
        self._max_retries = max_retries
        self._patience_s = max(0.5, shutdown_timeout_s - 3)
        self._local = threading.local()
        self._make_upkeep = make_upkeep
        self._upkeep: Upkeep | None = None
        self._sink: current.Sink | None = None

    def before_worker_boot(self, broker: Broker, worker: dramatiq.Worker) -> None:
        """The process is alive from here on."""
        assert isinstance(broker, LedgerBroker)
        self._ledger.presence.start(lambda: worker.consumer_whitelist or broker.get_declared_queues())
        self._ledger.scribe.start(broker)
        self._sink = current.report_to(self._ledger.scribe)
        self._upkeep = self._make_upkeep(
            self._ledger.presence.worker_id, lambda task_id: windows.interrupt(task_id, Cancelled)
        )
        self._upkeep.start()

    def after_worker_shutdown(self, broker: Broker, worker: dramatiq.Worker) -> None:
        """The process is gone; what it still runs goes back, and may start elsewhere at once."""
        assert isinstance(broker, LedgerBroker)
        if self._upkeep is not None:
            self._upkeep.stop()
        broker.hand_back_running()
        self._ledger.scribe.stop(self._patience_s)
        self._ledger.presence.stop()
        if self._sink is not None:
            current.report_to(self._sink)

    def before_enqueue(self, broker: Broker, message: Message[Any], delay: int | None) -> None:
        """Write the row of a new message. Raises SendError; then nothing is sent."""
        if ENVELOPE in message.options:
            return
        assert isinstance(broker, LedgerBroker)
        task = self.row_of(broker, message, delay_ms=delay, now=datetime.now(UTC), sent=broker.is_bus_up)
        accepted = self._ledger.accept([task])
        if accepted.owners:
            raise HasOwner(accepted.owners[task.task_id])
        message.options[ENVELOPE] = ENVELOPE_VERSION
        if not accepted.are_new:
            message.options[CHECK] = True  # why: its row was there, so that another copy of it may have run.

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Begin the attempt. Raises SkipMessage if the message may not run, for whatever reason."""
        if not isinstance(message, Parcel) or not isinstance(broker, LedgerBroker):
            raise SkipMessage("the message did not come from the bus")
        try:
            begun = self._ledger.begin(message, broker.generation)
        except Stopping as error:
            raise SkipMessage("the worker stops before the database is back") from error
        except Exception as error:
            # why: any other exception Dramatiq would log, and then run the actor untracked.
            _logger.exception("message %s does not run", message.message_id[:100])
            raise SkipMessage(f"it cannot be claimed: {error}") from error
        if not isinstance(begun, Running):
            _logger.info("message %s does not run: %s", message.message_id, begun.why)
            if begun.verdict is Verdict.RETRY:
                broker.send_again(message)
            raise SkipMessage(begun.why)
        self._local.running = begun
        self._local.token = current.enter(
            current.CurrentTask(
                id=begun.task_id,
                actor=message.actor_name,
                attempt=begun.attempt,
                retry_count=begun.retry_count,
                correlation_id=begun.correlation_id or begun.task_id,
                alone=begun.suspicion is not None and begun.suspicion.runs_alone,
                message=message,
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
        running.ended(value=result, exception=exception)
        self._leave()

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        """Record that the attempt was skipped after its claim: by a later middleware, or by the actor itself."""
        running: Running | None = getattr(self._local, "running", None)
        if running is None:
            return
        skipped = sys.exc_info()[1]  # why: Dramatiq calls this hook while it handles the exception.
        running.ended(exception=skipped or SkipMessage("without a reason"))
        self._leave()

    def _leave(self) -> None:
        self._local.running = None
        token: Token[current.CurrentTask | None] = self._local.token
        current.leave(token)

    def row_of(
        self,
        broker: Broker,
        message: Message[Any] | MessageProxy,
        *,
        delay_ms: int | None,
        now: datetime,
        sent: bool = True,
    ) -> NewTask:
        """The row of a message.

        Args:
            now: aware UTC; when it is accepted.
            sent: whether its message is put on the bus right after; False leaves that to the relay.

        Raises:
            InvalidTask: its parameters or options are not allowed.
        """
        sender = self._senders.get(message.actor_name) or self._sender(broker, message.actor_name)
        options = message.options
        check_id(message.message_id)
        params = sender.quick.text(message.args, message.kwargs, max_bytes=self._params_max_bytes)
        if params is None:
            named = bind(sender.function, message.args, message.kwargs)
            params = self._params(named, message)
            check_values(sender.function, named)
        running, for_caller, span = current.running_task(), correlation.current(), tracing.current()
        if running is None and not options and for_caller is None and span is None:
            # why: what nearly every send is. The rest of this method says the same of it, at twice the cost.
            options["priority"] = sender.priority
            return NewTask(
                task_id=message.message_id,
                task_name=sender.name,
                task_type=sender.task_type,
                queue=sender.queue,
                priority=sender.priority,
                params=params,
                options=sender.plain_options,
                max_retries=sender.max_retries,
                correlation_id=message.message_id,
                eta=None if delay_ms is None else now + timedelta(milliseconds=delay_ms),
                created_at=now,
                enqueued_at=now if sent else None,
            )
        running = running or current.CurrentTask()
        priority = check_priority(options.setdefault("priority", sender.priority))
        group_id = options.get("group_completion_uuid")
        correlation_id = options.get("correlation_id") or running.correlation_id or for_caller or group_id
        if correlation_id is not None:
            options["correlation_id"] = correlation_id
        if span is not None:
            options.setdefault(tracing.TRACEPARENT, span)
        kept = {name: value for name, value in options.items() if name not in _NOT_KEPT}
        kept[ENVELOPE] = ENVELOPE_VERSION
        unique_for_s = options.get("unique_for")
        return NewTask(
            task_id=message.message_id,
            task_name=sender.name,
            task_type=sender.task_type,
            queue=sender.queue,
            priority=priority,
            params=params,
            options=options_text(kept),
            tags=json.dumps(options["tags"]) if "tags" in options else "[]",
            max_retries=options.get("max_retries", sender.max_retries),
            correlation_id=correlation_id or message.message_id,
            parent_id=running.id,
            group_id=group_id,
            schedule_id=options.get("schedule_id"),
            idempotency_key=options.get("idempotency_key"),
            unique_until=None if unique_for_s is None else now + timedelta(seconds=unique_for_s),
            eta=None if delay_ms is None else now + timedelta(milliseconds=delay_ms),
            created_at=now,
            enqueued_at=now if sent else None,
        )

    def _sender(self, broker: Broker, name: str) -> "_Sender":
        actor = broker.get_actor(name)
        function = function_of(actor)
        priority = check_priority(default_priority_of(actor))
        made = _Sender(
            actor.actor_name,
            type_of(actor),
            actor.queue_name,
            priority,
            actor.options.get("max_retries", self._max_retries),
            function,
            QuickCheck(function),
            options_text({"priority": priority, ENVELOPE: ENVELOPE_VERSION}),
        )
        self._senders[name] = made
        return made

    def adopt(self, message: Parcel | Message[Any]) -> NewTask:
        """The row of a message that came without one: sent by plain Dramatiq, or the database is older than the bus."""
        return self.row_of(dramatiq.get_broker(), message, delay_ms=None, now=datetime.now(UTC))

    def _params(self, named: Mapping[str, Any], message: Message[Any] | MessageProxy) -> str:
        whole = {"args": message.args, "kwargs": message.kwargs}
        try:
            return plain_text(whole, what="the parameters together", max_bytes=self._params_max_bytes)
        except NotPlain as error:
            for name, value in named.items():
                try:
                    plain_text(value, what=f"parameter {name!r}", max_bytes=self._params_max_bytes)
                except NotPlain as guilty:
                    raise InvalidTask(f"params.{name}: {guilty}", field=f"params.{name}") from None
            raise InvalidTask(f"params: {error}", field="params") from None
