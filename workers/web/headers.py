"""What every answer says to a browser that was led to it: take it for nothing but what it is, show it in no frame, keep
no copy of data.

    X-Content-Type-Options: nosniff      text that somebody stored cannot become a page
    Content-Security-Policy              no script, no frame, no style; a page of ours says its own
    Cache-Control: no-store              below /api, and wherever else the answer does not say it otherwise

Must not: look at the request; let another origin read an answer (there is no CORS).
"""

from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_POLICY: Final = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


class BrowserGuard:
    """Middleware; see the module.

    Args:
        app: the application behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers to the answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Content-Type-Options"] = "nosniff"
                # why not over a page's own: a form of a page without any referrer comes with `Origin: null`.
                headers.setdefault("Referrer-Policy", "no-referrer")
                headers.setdefault("Cache-Control", "no-store")
                headers.setdefault("Content-Security-Policy", _POLICY)
            await send(message)

        await self._app(scope, receive, add)
