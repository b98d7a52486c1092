"""The route of live events (Server-Sent Events): what happens to tasks, as it happens; see workers.events."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header
from fastapi.responses import StreamingResponse

from workers.events import Event, Follower, feed
from workers.web.auth import LOCAL, Caller, Role, needs
from workers.web.problems import described
from workers.web.route import make_router

HEARTBEAT_S: Final = 15.0
"""A comment goes out after so much silence: proxies keep the connection, and who has gone is noticed."""
LIFE_S: Final = 3600.0
"""Then a stream ends; who follows connects anew, as browsers do by themselves, and his token is looked at again."""
_EXAMPLE: Final = 'id: 5f3a9c01-7\nevent: task\ndata: {"task_id": "…", "status": "completed"}\n\n'


def create_event_router() -> APIRouter:
    """The route /api/events."""
    router = make_router("events", responses=described(422, 429))
    streamed: dict[int | str, dict[str, Any]] = {
        200: {
            "description": "Events named `task` (its data is a task in short), `reset` (some were missed: read anew), "
            "`stale` and `fresh` (the ledger cannot be read; it can again). It ends after an hour.",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
        }
    }

    @router.get("", name="follow", response_class=StreamingResponse, responses=streamed)
    async def events(
        caller: Annotated[Caller, needs(Role.READ)],
        last_event_id: Annotated[
            str | None, Header(max_length=100, description="The id of the last event that was got.")
        ] = None,
    ) -> StreamingResponse:
        """Follow what happens to tasks. Last-Event-ID goes on where a connection broke off, as browsers do. A stream
        ends after an hour. Of one process 100 may follow, and 20 of one token: 429 for one more."""
        wake, loop = asyncio.Event(), asyncio.get_running_loop()

        def notify() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(wake.set)

        follower = feed.follow(notify, after=last_event_id, who=None if caller == LOCAL else caller.name)
        return _Stream(follower, wake)

    return router


class _Stream(StreamingResponse):
    """A stream that leaves the feed however it ends, also if it never began."""

    def __init__(self, follower: Follower, wake: asyncio.Event) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(_told(follower, wake), media_type="text/event-stream", headers=headers)
        self._follower = follower

    async def __call__(self, *of_request: object) -> None:
        try:
            await super().__call__(*of_request)  # type: ignore[arg-type]  # scope, receive and send, as they came.
        finally:
            feed.leave(self._follower)


async def _told(follower: Follower, wake: asyncio.Event) -> AsyncIterator[str]:
    yield "retry: 2000\n\n"
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + LIFE_S
    while (left_s := ends_at - loop.time()) > 0:
        wake.clear()
        found = follower.take()
        if found:
            yield "".join(_as_text(event) for event in found)
            continue
        try:
            await asyncio.wait_for(wake.wait(), min(HEARTBEAT_S, left_s))
        except TimeoutError:
            yield ": still here\n\n"


def _as_text(event: Event) -> str:
    # why: pure ASCII on one line, so that no text in it can end the event or begin another.
    return f"id: {event.id}\nevent: {event.kind}\ndata: {json.dumps(event.data, default=str)}\n\n"
