"""Which correlation id a request brings, and that it comes back with the answer.

    X-Correlation-ID: order-4711      the id itself; other characters than those of _STRANGE become `_`, the rest is cut
    traceparent: 00-4bf9…-00f0…-01    W3C Trace Context: its trace id, where there is no X-Correlation-ID

Without either, each task's correlation id is its own id.

Must not: know what has the id; see workers.runner.correlation.
"""

import re
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workers.options import CORRELATION_ID_MAX_CHARS
from workers.runner import correlation, tracing

HEADER: Final = "X-Correlation-ID"
_STRANGE: Final = re.compile(r"[^A-Za-z0-9._:/@+=-]")
_TRACE: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")


def correlation_of(headers: Headers) -> str | None:
    """The id that a request brings, made safe for rows, logs and headers; None if it brings none."""
    given = _STRANGE.sub("_", headers.get(HEADER, "").strip()[:CORRELATION_ID_MAX_CHARS])
    if given:
        return given
    trace = _TRACE.fullmatch(headers.get("traceparent", "").strip()[:200])
    return trace.group(1) if trace else None


class Correlated:
    """Middleware: what a request does has its id, and so has every answer.

    For an application of one's own too, where other endpoints than ours send tasks: `app.add_middleware(Correlated)`.

    Args:
        app: the application behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application with the request's id."""
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        found = correlation_of(headers)
        if found is None:
            await self._app(scope, receive, send)
            return

        async def echo(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = found
            await send(message)

        with correlation.correlated(found), tracing.continued(headers.get(tracing.TRACEPARENT)):
            await self._app(scope, receive, echo)
