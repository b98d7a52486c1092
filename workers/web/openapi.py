"""What the OpenAPI document says of every route alike: that it wants a token, of which role, how it refuses, and that a
request's correlation id comes back.

Must not: describe a single route; each does that itself.
"""

import copy
from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from workers import callboard
from workers.access import Role
from workers.web.auth import Needs, is_public
from workers.web.correlation import HEADER
from workers.web.fields import shapes
from workers.web.problems import MEDIA_TYPE, described, shown
from workers.web.shapes import Problem

TAGS: Final = {
    "tasks": "Send tasks, look at them, cancel, change and retry them.",
    "schedules": "Recurring jobs: what is due when, and what became of it.",
    "actors": "What there is to run.",
    "queues": "What waits, by queue; pause, resume, purge.",
    "workers": "Worker processes, and what runs there.",
    "groups": "Tasks that were sent as one group.",
    "locks": "Named locks, and who has them.",
    "statistics": "What ended, by time.",
    "events": "What happens to tasks, as it happens.",
    "alerts": "What is or was the matter.",
    "audit": "Who did what.",
    "chores": "What the processes of the system do for all.",
    "diagnostics": "A task that proves that a worker works.",
    "health": "Whether the process lives, and the system is ready. Public.",
    "metrics": "For Prometheus.",
}
_SCHEME: Final = {
    "type": "http", "scheme": "bearer", "description": "A token that `callboard tokens new NAME --role R` made."
}  # fmt: skip
_CORRELATION: Final = {
    "name": HEADER, "in": "header", "required": False, "schema": {"type": "string"}, "example": "order-4711",
    "description": "Kept with every task that the request causes, and named in its log lines; comes back with the "
    "answer, at most 100 characters of it, with _ for what is no letter, digit or ._:/@+=-. Without it the trace id of "
    "a `traceparent` is taken.",
}  # fmt: skip
_ECHO: Final = {HEADER: {"description": "As the request had it.", "schema": {"type": "string"}}}
_HEADERS: Final[dict[str, dict[str, Any]]] = {
    "401": {"WWW-Authenticate": {"description": "That a bearer token is wanted.", "schema": {"type": "string"}}},
    "429": {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}},
}
_REFUSALS: Final = described(401, 403, 429)


def install(app: FastAPI) -> None:
    """Complete the application's document; that a token is wanted it says only while tokens are set."""
    make = app.openapi
    made: dict[bool, dict[str, Any]] = {}

    def complete() -> dict[str, Any]:
        wants_token = bool(callboard.settings.api_tokens)
        if wants_token not in made:
            made[wants_token] = copy.deepcopy(make())
            _describe(made[wants_token], roles(app), wants_token=wants_token)
        return made[wants_token]

    app.openapi = complete  # type: ignore[method-assign]


def _describe(document: dict[str, Any], asked: dict[tuple[str, str], Role | None], *, wants_token: bool) -> None:
    document["tags"] = [{"name": name, "description": said} for name, said in TAGS.items()]
    components = document.setdefault("components", {})
    if wants_token:
        components["securitySchemes"] = {"token": _SCHEME}
    components["parameters"] = {"CorrelationId": _CORRELATION}
    schemas = components.setdefault("schemas", {})
    schemas["Problem"] = Problem.model_json_schema()
    for shape in shapes():
        if shape.__name__ in schemas and "examples" in schemas[shape.__name__]:
            # why again: FastAPI leaves nulls out of a document, also out of its examples.
            schemas[shape.__name__]["examples"] = shape.model_json_schema()["examples"]
    for (path, method), role in asked.items():
        operation = document["paths"].get(path, {}).get(method.lower())
        if operation is None:
            continue
        operation.setdefault("parameters", []).append({"$ref": "#/components/parameters/CorrelationId"})
        if not is_public(path):
            _describe_refusals(operation, role, wants_token=wants_token)
        for status, answer in operation["responses"].items():
            answer["headers"] = answer.get("headers", {}) | _ECHO | _HEADERS.get(status, {})
            if MEDIA_TYPE in answer.get("content", {}):
                # why: by reference; a generated client cannot have a class of the same name for each.
                answer["content"] = {MEDIA_TYPE: {
                    "schema": {"$ref": "#/components/schemas/Problem"}, "example": shown(int(status))
                }}  # fmt: skip


def _describe_refusals(operation: dict[str, Any], role: Role | None, *, wants_token: bool) -> None:
    if wants_token:
        operation["security"] = [{"token": []}]
    if role is not None:
        operation["x-role"] = role.value
        operation["description"] += f"\n\nNeeds the role `{role.value}`."
    for status, answer in _REFUSALS.items():
        operation["responses"].setdefault(str(status), copy.deepcopy(answer))


def roles(app: FastAPI) -> dict[tuple[str, str], Role | None]:
    """(path, method) of each route → the role that it needs; None: it names none."""
    found: dict[tuple[str, str], Role | None] = {}
    for route in iter_route_contexts(app.routes):
        dependant: Any = getattr(route, "dependant", None)
        asked = [] if dependant is None else [one.call.role for one in dependant.dependencies if _is_needs(one.call)]
        role = next((one for one in reversed(list(Role)) if one in asked), None)
        found |= {(str(route.path), method): role for method in route.methods or () if method != "HEAD"}
    return found


def _is_needs(call: object) -> bool:
    return isinstance(call, Needs)
