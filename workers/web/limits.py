"""Bounds on what a request may bring, before anything of it is parsed."""

import asyncio
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workers.web.problems import problem


class BodyLimit:
    """Refuses a body above its path's bound with 413, whether its length is announced or not, and one that takes longer
    than `timeout_s` with 408.

    Args:
        app: the application behind it.
        max_bytes_of: path → bound of its body.
        timeout_s: for the whole of it.
    """

    def __init__(self, app: ASGIApp, max_bytes_of: Callable[[str], int], timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._app = app
        self._max_bytes_of = max_bytes_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body up to the bound, then let the application run on it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        max_bytes = self._max_bytes_of(scope["path"])
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > max_bytes:
            await self._refuse(scope, receive, send, max_bytes)
            return
        try:
            async with asyncio.timeout(self._timeout_s):
                body = await self._read(receive, max_bytes)
        except TimeoutError:
            slow = problem(408, f"the body took longer than {self._timeout_s:g} s: send it at once", slug="too-slow",
                           headers={"Connection": "close"})  # fmt: skip
            await slow(scope, receive, send)
            return
        if body is None:
            return
        if len(body) > max_bytes:
            await self._refuse(scope, receive, send, max_bytes)
            return
        delivered = False

        async def replay() -> Message:
            nonlocal delivered
            if delivered:
                return await receive()
            delivered = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)

    async def _read(self, receive: Receive, max_bytes: int) -> bytes | None:
        """The body, or so much of it that it is too much; None if the client has gone."""
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return None
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > max_bytes or not message.get("more_body", False):
                return b"".join(parts)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, max_bytes: int) -> None:
        answer = problem(413, f"the body may have at most {max_bytes:,} bytes: store large data and send its id",
                         slug="too-large")  # fmt: skip
        await answer(scope, receive, send)
