"""How uvicorn serves the API: with bounds on connections that come slowly, or in great number.

Must not: know the routes.
"""

import asyncio
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADERS_TIMEOUT_S = 15.0
"""How long a client may take for a request's headers."""
HEADERS_MAX_BYTES = 32 * 1024
CONNECTIONS_MAX = 5_000
"""More are answered 503 at once; event streams count too."""


class ImpatientProtocol(H11Protocol):
    """uvicorn's own, but a client that sends its headers a byte at a time is cut off: uvicorn would wait for ever."""

    headers_timeout_s = HEADERS_TIMEOUT_S
    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for headers."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Stop waiting when the headers are complete."""
        super().data_received(data)
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete:
            self._stop_waiting()
        elif self._waiting is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(self.headers_timeout_s, self._give_up)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _give_up(self) -> None:
        self._waiting = None
        cycle: Any = self.cycle
        if cycle is None or cycle.response_complete:
            self.transport.close()


def make_config(app: ASGIApp, *, host: str, port: int, **more: Any) -> uvicorn.Config:
    """uvicorn's configuration for the API; `more` goes to it as it is."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=ImpatientProtocol,
        h11_max_incomplete_event_size=HEADERS_MAX_BYTES,
        limit_concurrency=CONNECTIONS_MAX,
        log_level="warning",
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=3,
        **more,
    )
