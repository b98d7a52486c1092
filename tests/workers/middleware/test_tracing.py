"""Traces: a real worker process exports its runs to a real collector, below the span of whoever sent the task."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests import probes
from tests.faults.conftest import StartWorker, start_worker
from tests.servers import wait_until
from tests.workers.web.conftest import api, api_url
from workers import tasks
from workers.runner import tracing

__all__ = ["api", "api_url", "start_worker"]
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{CALLER}-01"


@dataclass
class Collector:
    """What was exported."""

    url: str = ""
    exported: list[ExportTraceServiceRequest] = field(default_factory=list)

    @property
    def spans(self) -> dict[str, Span]:
        """By name."""
        return {
            span.name: span
            for request in self.exported
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A server that speaks OTLP over HTTP."""
    kept = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept.exported.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kept.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield kept
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def tracing_worker(start_worker: StartWorker, collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker process that exports, and a sender that keeps its span."""
    monkeypatch.setattr(tracing, "_is_on", False)
    tracing.turn_on()
    start_worker(CALLBOARD_TRACES="true", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="50",
                 OTEL_EXPORTER_OTLP_COMPRESSION="none")  # fmt: skip


@pytest.mark.usefixtures("tracing_worker")
def test_a_run_is_below_its_sender_and_what_it_sends_is_below_the_run(collector: Collector, tmp_path: Path) -> None:
    with tracing.continued(TRACEPARENT):
        task_id = probes.parent.send(str(tmp_path / "evidence")).message_id

    wait_until(lambda: len(collector.spans) >= 2, within_s=60, what="both spans")
    parent, child = collector.spans["process probes.parent"], collector.spans["process probes.note"]
    assert (parent.trace_id.hex(), parent.parent_span_id.hex()) == (TRACE, CALLER)
    assert (child.trace_id, child.parent_span_id) == (parent.trace_id, parent.span_id)
    assert parent.kind == Span.SPAN_KIND_CONSUMER
    said = {one.key: one.value.string_value or one.value.int_value for one in parent.attributes}
    assert said["messaging.message.id"] == said["callboard.correlation_id"] == task_id
    assert (said["messaging.destination.name"], said["callboard.attempt"]) == ("jobs", 1)


@pytest.mark.usefixtures("tracing_worker")
def test_a_request_goes_on_in_its_task_and_no_span_has_words_of_an_error(
    api: httpx2.Client, collector: Collector
) -> None:
    body = {"task_name": "probes.speak", "params": {"words": "hunter2"}}

    sent = api.post("/api/tasks/enqueue", json=body, headers={"traceparent": TRACEPARENT})

    wait_until(lambda: collector.spans, within_s=60, what="the span")
    (span,) = collector.spans.values()
    row = tasks.get_task(sent.json()["task_id"])
    assert row is not None
    assert row.correlation_id == TRACE
    assert row.options["traceparent"] == TRACEPARENT, "so that one sent again from the row is of the trace too"
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, CALLER)
    assert (span.status.code, span.status.message) == (Status.STATUS_CODE_ERROR, "ValueError")
    assert all(b"hunter2" not in request.SerializeToString() for request in collector.exported)


@pytest.mark.usefixtures("system")
def test_without_the_setting_nothing_of_it_is_kept(api: httpx2.Client) -> None:
    body = {"task_name": "probes.add", "params": {"left": 1, "right": 2}}

    sent = api.post("/api/tasks/enqueue", json=body, headers={"traceparent": TRACEPARENT})

    row = tasks.get_task(sent.json()["task_id"])
    assert row is not None
    assert "traceparent" not in row.options


def test_without_the_extra_the_start_ends_with_the_mend() -> None:
    script = "import sys\nsys.modules['opentelemetry.sdk'] = None\nimport workers"

    ended = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | {"CALLBOARD_TRACES": "true"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip

    assert ended.returncode != 0
    assert "OpenTelemetry is not installed: pip install -e '.[traces]', or take it out" in ended.stderr
