"""The audit log in the REST API: an entry for every request that acts, and the route that shows them."""

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workers import audit
from workers.web.auth import LOCAL

_ACTING = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Audited:
    """Writes what a request did into the audit log before its answer goes out.

    A request that matched no route did nothing. One whose route recorded nothing by itself is recorded by the route's
    tag and name, with what stood in the path as its target.

    Args:
        app: the application behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Open a sheet for the request and write it when its status is known."""
        if scope["type"] != "http" or scope["method"] not in _ACTING:
            await self._app(scope, receive, send)
            return
        caller = scope.get("state", {}).get("caller", LOCAL)
        client = scope.get("client")
        with audit.sheet_of(caller.name, client[0] if client else "unix", "REST") as sheet:

            async def write_and_send(message: Message) -> None:
                if message["type"] == "http.response.start":
                    await run_in_threadpool(_write, sheet, scope, message["status"])
                await send(message)

            await self._app(scope, receive, write_and_send)


def _write(sheet: audit.Sheet, scope: Scope, status: int) -> None:
    route: Any = scope.get("route")
    if route is None:
        return
    if not sheet.entries:
        tag = (getattr(route, "tags", None) or ["api"])[0]
        target = " ".join(str(value) for value in scope.get("path_params", {}).values())
        sheet.record(f"{tag}.{route.name}", target)
    if status < 400:
        sheet.write(audit.DONE)
    else:
        sheet.write(audit.REFUSED if status < 500 else audit.FAILED, status=status)
