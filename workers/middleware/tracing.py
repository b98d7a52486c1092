"""Tracing: each run of a task is a span of OpenTelemetry; see workers.runner.tracing."""

import threading
from typing import TYPE_CHECKING, Any

import dramatiq
from dramatiq import MessageProxy
from dramatiq.broker import Broker

from workers.runner import current, tracing

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider


class Tracing(dramatiq.Middleware):
    """Stands behind the status, so that a message that may not run has no span, and a span ends before its outcome is
    written."""

    def __init__(self) -> None:
        tracing.turn_on()
        self._local = threading.local()
        self._provider: TracerProvider | None = None

    def before_worker_boot(self, broker: Broker, worker: dramatiq.Worker) -> None:
        """Export: here, because threads of the main process would be lost in its workers."""
        self._provider = tracing.start_exporting()

    def after_worker_shutdown(self, broker: Broker, worker: dramatiq.Worker) -> None:
        """Send what is left; bounded by OTEL_BSP_EXPORT_TIMEOUT."""
        if self._provider is not None:
            self._provider.shutdown()

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Begin the span, and have what the function does be below it."""
        from opentelemetry import context, trace

        span = trace.get_tracer("callboard").start_span(
            f"process {message.actor_name}",
            context=tracing.context_of(message.options.get(tracing.TRACEPARENT)),
            kind=trace.SpanKind.CONSUMER,
            attributes={
                "messaging.system": "callboard",
                "messaging.operation.type": "process",
                "messaging.destination.name": message.queue_name,
                "messaging.message.id": message.message_id,
                "callboard.correlation_id": current.current_task().correlation_id or message.message_id,
                "callboard.attempt": current.current_task().attempt,
            },
        )
        self._local.span, self._local.token = span, context.attach(trace.set_span_in_context(span))

    def after_process_message(
        self, broker: Broker, message: MessageProxy, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        """End it; of an error it has the type, never the text."""
        from opentelemetry import context, trace

        span = getattr(self._local, "span", None)
        if span is None:
            return
        if exception is not None:
            span.set_status(trace.StatusCode.ERROR, type(exception).__name__)
            span.set_attribute("error.type", type(exception).__name__)
        context.detach(self._local.token)
        span.end()
        self._local.span = None

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        """End it as well: the actor, or a middleware behind this one, would not run it now."""
        span = getattr(self._local, "span", None)
        if span is not None:
            span.set_attribute("callboard.skipped", True)
        self.after_process_message(broker, message)
