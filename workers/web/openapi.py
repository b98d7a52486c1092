"""What the OpenAPI document says of every route alike: that it wants a token, of which role, and how it refuses.

Must not: describe a single route; each does that itself.
"""

import copy
from typing import Any

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from workers import callboard
from workers.access import Role
from workers.web.auth import PUBLIC, Needs
from workers.web.problems import MEDIA_TYPE, described
from workers.web.shapes import Problem

_SCHEME = {"type": "http", "scheme": "bearer", "description": "A token that `callboard tokens new NAME --role R` made."}
_REFUSALS = described(_401="Unauthorized", _403="Forbidden", _429="Too many requests")


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
    if wants_token:
        document.setdefault("components", {})["securitySchemes"] = {"token": _SCHEME}
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = Problem.model_json_schema()
    for (path, method), role in asked.items():
        operation = document["paths"].get(path, {}).get(method.lower())
        if operation is None:
            continue
        if path not in PUBLIC:
            _describe_refusals(operation, role, wants_token=wants_token)
        for answer in operation["responses"].values():
            if MEDIA_TYPE in answer.get("content", {}):
                # why: by reference; a generated client cannot have a class of the same name for each.
                answer["content"] = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}


def _describe_refusals(operation: dict[str, Any], role: Role | None, *, wants_token: bool) -> None:
    if wants_token:
        operation["security"] = [{"token": []}]
    if role is not None:
        operation["x-role"] = role.value
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
