"""Errors as problem+json (RFC 9457): type, title, status, detail, and the field that is wrong where there is one."""

import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

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
_NOT_JSON = (
    "expected one JSON object (RFC 8259) as the body, sent as application/json; numbers of more than 4,000 digits and "
    "very deep nesting are not taken"
)


class AsciiJson(JSONResponse):
    """JSON in pure ASCII: a lone surrogate in a stored text has no UTF-8, so it goes out as the escape that it is."""

    def render(self, content: Any) -> bytes:
        """The body's bytes."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def described(**descriptions: str) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route for OpenAPI: `_404="Not found"` → 404 with a problem document."""
    content = {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}
    return {int(status[1:]): {"description": said, "content": content} for status, said in descriptions.items()}


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


async def _known(_request: Request, error: Exception) -> JSONResponse:
    status, slug = next(_ANSWERS[kind] for kind in type(error).__mro__ if kind in _ANSWERS)
    more = {name: getattr(error, name) for name in ("field", "task_id") if hasattr(error, name)}
    headers = {"Retry-After": "10"} if status == 429 else None
    return problem(status, str(error), slug=slug, headers=headers, **more)


def install(app: FastAPI) -> None:
    """Make every error of the application a problem document."""

    for kind in _ANSWERS:
        app.add_exception_handler(kind, _known)

    @app.exception_handler(RequestValidationError)
    async def _validation(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            where = f"{first['ctx']['error']} at character {first['loc'][1]}"
            return problem(422, f"{_NOT_JSON}; got {where}", slug="invalid-request", field="body")
        field = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
        if field == "body":
            return problem(422, f"{_NOT_JSON}; got: {first['msg']}", slug="invalid-request", field=field)
        said = str(first["msg"]).removeprefix("Value error, ")
        return problem(422, f"{field}: {said}{_shown(first.get('input'))}", slug="invalid-request", field=field)

    @app.exception_handler(Exception)
    async def _unforeseen(request: Request, error: Exception) -> JSONResponse:
        # why: the server logs the traceback; the caller gets none of it.
        return problem(500, "an error that nobody foresaw; the API's log has it", slug="unforeseen")

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        answer = problem(error.status_code, _detail_of(request, error))
        answer.headers.update(error.headers or {})
        return answer


def _detail_of(request: Request, error: HTTPException) -> str:
    """Our own words as they are; the framework's bare phrases with what to do."""
    match error.status_code, error.detail:
        case 404, "Not Found":
            return f"there is no path {request.url.path!r}: see /docs for those there are"
        case 405, "Method Not Allowed":
            allowed = (error.headers or {}).get("Allow", "another method")
            return f"{request.method} is not possible on {request.url.path!r}: use {allowed}"
        case 400, _:
            return _NOT_JSON
    return str(error.detail)
