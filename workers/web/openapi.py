"""What the OpenAPI document says of every route alike: that it wants a token, of which role, and how it refuses.

Must not: describe a single route; each does that itself.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from workers.access import Role
from workers.web.auth import PUBLIC, Needs
from workers.web.problems import described

_SCHEME = {"type": "http", "scheme": "bearer", "description": "A token that `callboard tokens new NAME --role R` made."}
_REFUSALS = described(_401="Unauthorized", _403="Forbidden", _429="Too many requests")


def install(app: FastAPI) -> None:
    """Complete the application's document, when it is first asked for."""
    make = app.openapi

    def complete() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = make()
            document.setdefault("components", {})["securitySchemes"] = {"token": _SCHEME}
            for (path, method), role in roles(app).items():
                operation = document["paths"].get(path, {}).get(method.lower())
                if operation is None or path in PUBLIC:
                    continue
                operation["security"] = [{"token": []}]
                if role is not None:
                    operation["x-role"] = role.value
                for status, answer in _REFUSALS.items():
                    operation["responses"].setdefault(str(status), answer)
        return app.openapi_schema or {}

    app.openapi = complete  # type: ignore[method-assign]


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
