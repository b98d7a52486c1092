"""What every route does, in our application and in a stranger's that mounts one of our routers:

    bounded      a body above the route's bound is refused with 413 before it is parsed; one in which a name comes twice
                 with 422
    correlated   what it sends has the request's correlation id (workers.web.correlation)
    audited      a request that acts leaves an entry in the audit log before its answer goes out. What the route did not
                 record itself is recorded by its tag and name, with what stood in the path as its target (no secret)
    in words     whatever we refuse is a problem document; a stranger's own exceptions are left to his application

Must not: know a single route; read a token.
"""

import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from models.redaction import is_secret_name
from workers import audit, callboard
from workers.runner import correlation
from workers.web.auth import Caller
from workers.web.correlation import HEADER, correlation_of
from workers.web.problems import AsciiJson, Refused, answer_to, described

BODY_OVERHEAD_BYTES = 16 * 1024
"""What a request's body may have beyond the parameters themselves."""
BULK_MAX_BYTES = 16 * 1024 * 1024
"""What a bulk enqueue may have: 10,000 tasks of an ordinary size."""
BULK_PATH = "/enqueue/bulk"
_NOBODY = "unknown"
_ACTING = frozenset({"POST", "PUT", "PATCH", "DELETE"})


def make_router(
    tag: str | None,
    *,
    prefix: str | None = None,
    dependencies: Sequence[Any] = (),
    responses: Mapping[int | str, dict[str, Any]] | None = None,
) -> APIRouter:
    """A router whose routes are such.

    Args:
        tag: of all its routes, or None if each has its own; in an operation's id and in the audit log it stands before
            the route's name.
        prefix: of their paths; by default /api/ and the tag.
        dependencies: of all of them.
        responses: the problem answers of all of them; by default 422 and 503.
    """
    return APIRouter(
        prefix=f"/api/{tag}" if prefix is None else prefix,
        tags=[] if tag is None else [tag],
        route_class=Route,
        default_response_class=AsciiJson,
        generate_unique_id_function=lambda route: f"{_tag_of(route)}_{route.name}",
        responses=dict(described(422, 503) if responses is None else responses),
        dependencies=list(dependencies),
    )


def _tag_of(route: APIRoute) -> str:
    return str((route.tags or ["api"])[-1])


def max_body_bytes(path: str) -> int:
    """The bound of a body that is sent to this path."""
    return BULK_MAX_BYTES if path.endswith(BULK_PATH) else callboard.settings.params_max_bytes + BODY_OVERHEAD_BYTES


class Route(APIRoute):
    """See the module. In the document its summary is the first sentence of its function's docstring."""

    def __init__(self, path: str, endpoint: Callable[..., Any], *, summary: str | None = None, **options: Any) -> None:
        said = summary or " ".join((endpoint.__doc__ or "").split()).partition(". ")[0].removesuffix(".")
        super().__init__(path, endpoint, summary=said or None, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler with what the module says around it."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            with ExitStack() as around:
                echoed = None
                if correlation.current() is None:  # why: in our application the middleware has done it.
                    echoed = correlation_of(request.headers)
                    around.enter_context(correlation.correlated(echoed))
                response = await self._audited(request, handle)
                if echoed is not None:
                    response.headers[HEADER] = echoed
                return response

        return handler

    async def _audited(self, request: Request, handle: "_Handler") -> Response:
        if request.method not in _ACTING:
            return (await _answered(request, handle))[0]
        caller: Caller | None = getattr(request.state, "caller", None)
        client = request.client
        with audit.sheet_of(caller.name if caller else _NOBODY, client.host if client else "unix", "REST") as sheet:
            status, failed = 500, None
            try:
                response, failed = await _answered(request, handle)
                status = response.status_code
            except HTTPException as error:
                status = error.status_code
                raise
            finally:
                if status != 401 or sheet.who != _NOBODY:  # why: a stranger did nothing; he was not let in.
                    await run_in_threadpool(self._write, sheet, request, status, failed)
            return response

    def _write(self, sheet: audit.Sheet, request: Request, status: int, failed: Exception | None) -> None:
        if not sheet.entries:
            target = " ".join(str(value) for name, value in request.path_params.items() if not is_secret_name(name))
            sheet.record(f"{_tag_of(self)}.{self.name}", target)
        if status < 400:
            sheet.write(audit.DONE)
        else:
            sheet.write(audit.REFUSED if status < 500 else audit.FAILED, failed=failed, status=status)


_Handler = Callable[[Request], Coroutine[Any, Any, Response]]


async def _answered(request: Request, handle: _Handler) -> tuple[Response, Exception | None]:
    """The answer, and what the route raised if that was answered."""
    bounded = _bounded(request.receive, max_body_bytes(request.url.path))
    try:
        return await handle(_Request(request.scope, bounded)), None
    except Exception as error:
        answer = answer_to(error)
        if answer is None:
            raise
        return answer, error


class _Request(Request):
    """A request in whose JSON no name comes twice: readers differ in which one counts."""

    async def json(self) -> Any:
        """The body. Raises JSONDecodeError, as FastAPI expects it."""
        body = await self.body()

        def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            found = dict(pairs)
            if len(found) < len(pairs):
                names = [name for name, _ in pairs]
                twice = next(name for name in names if names.count(name) > 1)
                raise json.JSONDecodeError(f"the name {twice[:100]!r} comes twice in one object", "", 0)
            return found

        return json.loads(body, object_pairs_hook=once)


def _bounded(receive: Receive, max_bytes: int) -> Receive:
    """The messages of a request; raises Refused when its body becomes larger than that."""
    size = 0

    async def bounded() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > max_bytes:
            raise Refused(413, f"the body may have at most {max_bytes:,} bytes: store large data and send its id")
        return message

    return bounded
