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
from workers.errors import InvalidTask, LedgerUnavailable, OutcomeUnknown
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


def install(app: FastAPI) -> None:
    """Make every error of the application a problem document."""

    @app.exception_handler(InvalidTask)
    async def _invalid(request: Request, error: InvalidTask) -> JSONResponse:
        return problem(422, str(error), slug="invalid-task", field=error.field)

    @app.exception_handler(LedgerUnavailable)
    @app.exception_handler(DatabaseError)
    @app.exception_handler(BusUnavailable)
    @app.exception_handler(BusFull)
    @app.exception_handler(BusRefused)
    async def _unavailable(request: Request, error: Exception) -> JSONResponse:
        return problem(503, str(error), slug="unavailable")

    @app.exception_handler(OutcomeUnknown)
    async def _unknown(request: Request, error: OutcomeUnknown) -> JSONResponse:
        return problem(503, str(error), slug="outcome-unknown", task_id=error.task_id)

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
