"""Errors as problem+json (RFC 9457): type, title, status, detail, and the field that is wrong where there is one."""

import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from models.database import DatabaseError
from models.redaction import redact_text
from models.text import clean_text
from workers.broker import BusFull, BusRefused, BusUnavailable
from workers.errors import (
    InvalidSchedule,
    InvalidTask,
    LedgerUnavailable,
    OutcomeUnknown,
    ScheduleRefused,
    TaskRefused,
    UnknownQueue,
    UnknownSchedule,
)
from workers.events import TooManyFollowers
from workers.web.shapes import Problem

MEDIA_TYPE = "application/problem+json"
DETAIL_MAX_CHARS = 2_000
_TITLES = {
    400: "Bad request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    408: "Too slow",
    409: "Conflict",
    413: "Too large",
    415: "Unsupported media type",
    422: "Unprocessable content",
    429: "Too many requests",
    503: "Unavailable",
}
_SHOWN: dict[int, dict[str, Any]] = {
    400: {"type": "about:blank", "detail": "expected one JSON object (RFC 8259) as the body, sent as application/json"},
    401: {"type": "unauthenticated", "detail": "a token is needed: send Authorization: Bearer <token>"},
    403: {"type": "about:blank", "detail": "this needs the role admin, and ci has operate: use another token"},
    404: {"type": "not-found", "detail": "there is no task 'nobody': see GET /api/tasks/ for those there are"},
    409: {"type": "about:blank", "detail": "task 019a9f3c-1a2b-7000-8000-00000000002a is completed: it has ended"},
    413: {"type": "too-large", "detail": "the body may have at most 278,528 bytes: store large data and send its id"},
    422: {"type": "invalid-request", "field": "limit",
          "detail": "limit: Input should be less than or equal to 1000, got '1001'"},
    429: {"type": "too-many", "detail": "ci asks too often: go on in 0.4 s, or raise CALLBOARD_API_RATE_PER_S"},
    503: {"type": "unavailable", "detail": "the ledger cannot be reached: check that the database is running"},
}  # fmt: skip
"""Status → what such a document says, for instance."""
_NOT_JSON = (
    "expected one JSON object (RFC 8259) as the body, sent as application/json; numbers of more than 4,000 digits and "
    "very deep nesting are not taken"
)


class Refused(HTTPException):
    """A request that one of our own routes refuses. Args: status, what to do about it, headers of the answer."""


class AsciiJson(JSONResponse):
    """JSON in pure ASCII: a lone surrogate in a stored text has no UTF-8, so it goes out as the escape that it is."""

    def render(self, content: Any) -> bytes:
        """The body's bytes."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route for OpenAPI: each a problem document."""
    return {status: {"description": _TITLES[status], "content": {MEDIA_TYPE: {
        "schema": Problem.model_json_schema(), "example": shown(status),
    }}} for status in statuses}  # fmt: skip


def shown(status: int) -> dict[str, Any]:
    """A problem document of this status, as an example."""
    return {"title": _TITLES[status], "status": status, **_SHOWN[status]}


def problem(
    status: int, detail: str, *, slug: str = "about:blank", headers: Mapping[str, str] | None = None, **more: Any
) -> JSONResponse:
    """A problem document.

    Args:
        status: HTTP status.
        detail: what was expected, what came, what to do.
        slug: the problem's type.
        headers: of the answer.
        more: further members, for instance field="priority".
    """
    said = clean_text(detail, DETAIL_MAX_CHARS)
    body = {"type": slug, "title": _TITLES.get(status, "Error"), "status": status, "detail": said, **more}
    return AsciiJson(body, status_code=status, media_type=MEDIA_TYPE, headers=headers)


def _shown(given: object) -> str:
    """What came, where it is one plain value; never a whole body, which may hold secrets."""
    return f", got {redact_text(str(given))[:60]!r}" if isinstance(given, (str, int, float)) else ""


_ANSWERS: dict[type[Exception], tuple[int, str]] = {
    InvalidTask: (422, "invalid-task"),
    InvalidSchedule: (422, "invalid-schedule"),
    UnknownSchedule: (404, "not-found"),
    UnknownQueue: (404, "not-found"),
    ScheduleRefused: (409, "schedule-refused"),
    TaskRefused: (409, "task-refused"),
    TooManyFollowers: (429, "too-many"),
    LedgerUnavailable: (503, "unavailable"),
    DatabaseError: (503, "unavailable"),
    BusUnavailable: (503, "unavailable"),
    BusFull: (503, "unavailable"),
    BusRefused: (503, "unavailable"),
    OutcomeUnknown: (503, "outcome-unknown"),
}
"""What we raise → status and type; a `field` or `task_id` of the exception is a member of the document."""


def answer_to(error: Exception) -> JSONResponse | None:
    """What is answered where one of our routes raises this; None: it is none of ours."""
    match error:
        case RequestValidationError():
            return _invalid(error)
        case Refused():
            return problem(error.status_code, error.detail, slug=_SLUGS.get(error.status_code, "about:blank"),
                           headers=error.headers)  # fmt: skip
        case HTTPException(status_code=400, detail="There was an error parsing the body"):  # FastAPI's own
            return problem(400, _NOT_JSON)
    kind = next((kind for kind in type(error).__mro__ if kind in _ANSWERS), None)
    if kind is None:
        return None
    status, slug = _ANSWERS[kind]
    more = {name: getattr(error, name) for name in ("field", "task_id") if hasattr(error, name)}
    return problem(status, str(error), slug=slug, headers=_COME_LATER if status == 429 else None, **more)


_COME_LATER = {"Retry-After": "10", "Connection": "close"}
"""The connection goes too: a crowd that is refused must not fill the server by being idle."""
_SLUGS = {401: "unauthenticated", 404: "not-found", 413: "too-large"}


def _invalid(error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        where = f"{first['ctx']['error']} at character {first['loc'][1]}"
        return problem(422, f"{_NOT_JSON}; got {where}", slug="invalid-request", field="body")
    field = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
    if field == "body":
        return problem(422, f"{_NOT_JSON}; got: {first['msg']}", slug="invalid-request", field=field)
    said = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        said = "there is no such field or filter; /docs has those there are"
    return problem(422, f"{field}: {said}{_shown(first.get('input'))}", slug="invalid-request", field=field)


def install(app: FastAPI) -> None:
    """Make every error of the application a problem document, also of what is no route of ours."""

    async def _known(_request: Request, error: Exception) -> JSONResponse:
        answer = answer_to(error)
        assert answer is not None, f"no answer to {error!r}"
        return answer

    for kind in (*_ANSWERS, RequestValidationError, Refused):
        app.add_exception_handler(kind, _known)

    @app.exception_handler(Exception)
    async def _unforeseen(request: Request, error: Exception) -> JSONResponse:
        # why: the server logs the traceback; the caller gets none of it.
        return problem(500, "an error that nobody foresaw; the API's log has it", slug="unforeseen")

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers or {})
        match error.status_code, error.detail:
            case 404, "Not Found":
                said = f"there is no path {request.url.path!r}: see /docs for those there are"
            case 405, "Method Not Allowed":
                headers["Allow"] = allowed = ", ".join(_methods_of(app, request))
                said = f"{request.method} is not possible on {request.url.path!r}: use {allowed or 'another path'}"
            case _:
                said = str(error.detail)
        return problem(error.status_code, said, headers=headers)


def _methods_of(app: FastAPI, request: Request) -> list[str]:
    """What is possible on the path: all of it, where the framework names the methods of the first route only."""
    by_path: dict[str, set[str]] = {}
    for route in iter_route_contexts(app.routes):
        by_path.setdefault(str(route.path), set()).update(route.methods or ())
    # why the first: `/tasks/enqueue` is of the form of `/tasks/{task_id}` too, and is not meant by it.
    found = (methods for path, methods in by_path.items() if compile_path(path)[0].match(request.url.path))
    return sorted(next(found, ()))
