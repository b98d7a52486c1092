"""Errors as problem+json (RFC 9457): type, title, status, detail, and the field that is wrong where there is one."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from models.database import DatabaseError
from workers.errors import BusUnavailable, InvalidTask, LedgerUnavailable, OutcomeUnknown

MEDIA_TYPE = "application/problem+json"
_TITLES = {
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    413: "Too large",
    415: "Unsupported media type",
    422: "Unprocessable content",
    503: "Unavailable",
}


def problem(status: int, detail: str, *, slug: str = "about:blank", **more: Any) -> JSONResponse:
    """A problem document.

    Args:
        status: HTTP status.
        detail: what was expected, what came, what to do.
        slug: the problem's type.
        more: further members, for instance field="priority".
    """
    body = {"type": slug, "title": _TITLES.get(status, "Error"), "status": status, "detail": detail, **more}
    return JSONResponse(body, status_code=status, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Make every error of the application a problem document."""

    @app.exception_handler(InvalidTask)
    async def _invalid(request: Request, error: InvalidTask) -> JSONResponse:
        return problem(422, str(error), slug="invalid-task", field=error.field)

    @app.exception_handler(LedgerUnavailable)
    @app.exception_handler(BusUnavailable)
    @app.exception_handler(DatabaseError)
    async def _unavailable(request: Request, error: Exception) -> JSONResponse:
        return problem(503, str(error), slug="unavailable")

    @app.exception_handler(OutcomeUnknown)
    async def _unknown(request: Request, error: OutcomeUnknown) -> JSONResponse:
        return problem(503, str(error), slug="outcome-unknown", task_id=error.task_id)

    @app.exception_handler(RequestValidationError)
    async def _validation(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
        said = str(first["msg"]).removeprefix("Value error, ")
        return problem(422, f"{field}: {said}", slug="invalid-request", field=field)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        answer = problem(error.status_code, str(error.detail))
        answer.headers.update(error.headers or {})
        return answer
