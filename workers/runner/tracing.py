"""Traces by OpenTelemetry, an option (CALLBOARD_TRACES): a run is a span, below the span of whoever sent the task.

A send keeps the caller's span with the task (the option `traceparent`, W3C Trace Context), so a task that is sent again
from its row, retried or delayed is of the same trace, and what the function sends, or traces by itself, is below the
run. Where spans go OpenTelemetry's own variables say (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME, …).

A span has no parameters, results or texts of errors: secrets may be in them.

Must not: cost anything while the option is off; import the SDK before a process of ours exports.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from workers.errors import SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

TRACEPARENT: Final = "traceparent"
"""The option of a message, and the header of a request."""
MEND: Final = "CALLBOARD_TRACES is set and OpenTelemetry is not installed: pip install -e '.[traces]', or take it out"

_is_on = False


def turn_on() -> None:
    """From here on sends keep the caller's span. Raises SettingsError where OpenTelemetry is missing."""
    global _is_on
    try:
        import opentelemetry.sdk  # noqa: F401 - asked for early, so that the start says what is missing
    except ImportError:
        raise SettingsError(MEND) from None
    _is_on = True


def current() -> str | None:
    """The span of what is being done, as a `traceparent`; None: there is none, or traces are off."""
    if not _is_on:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get(TRACEPARENT)


@contextmanager
def continued(traceparent: str | None) -> Iterator[None]:
    """What is sent within the block is below this span of a caller outside, unless it is none or traces are off."""
    if not _is_on or traceparent is None:
        yield
        return
    from opentelemetry import context

    token = context.attach(context_of(traceparent))
    try:
        yield
    finally:
        context.detach(token)


def context_of(traceparent: object) -> Any:
    """OpenTelemetry's context of a caller's span; an empty one if it is none."""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = {TRACEPARENT: traceparent} if isinstance(traceparent, str) else {}
    return TraceContextTextMapPropagator().extract(carrier)


def start_exporting() -> "TracerProvider | None":
    """Send this process's spans where OpenTelemetry's variables say; None if the application has set that up itself."""
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    if isinstance(trace.get_tracer_provider(), TracerProvider):
        return None
    resource = Resource.create({SERVICE_NAME: "callboard"}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider
