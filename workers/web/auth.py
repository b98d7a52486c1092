"""Who calls, and whether they may: the guard in front of the API, and what each route asks for.

    Guard (middleware)   a token that is wrong or over: 401. None shown: 401, unless the path is public, or no tokens
                         are set and the caller is on this machine, who may then do everything.
                         More requests than CALLBOARD_API_RATE_PER_S: 429. Links in mails have their own signature
                         instead of a token, and STRANGERS_PER_S.
    needs(Role.X)        a dependency of every route: 403 for a caller whose role is less.

So a route that forgets `needs` still wants a token, and a test (call × role) fails until it says which role. In an
application of somebody else there is no Guard: `create_task_router(auth=…)` takes that application's own dependency for
it (`trusting`).

A token counts in the Authorization header only; in a query string it would end up in logs and histories.

Must not: hold secrets; those are in the settings, hashed (workers.access).
"""

import inspect
import ipaddress
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from workers import audit, callboard
from workers.access import Caller, Role, caller_of
from workers.links import PATH as SIGNED
from workers.web.problems import Refused, problem
from workers.web.rate import RateLimit

__all__ = ["LOCAL", "PUBLIC", "Caller", "Guard", "Needs", "Role", "needs", "trusting"]

PUBLIC = frozenset({"/health/live", "/health/ready", "/openapi.json", "/docs", "/docs/style.css"})
"""What anybody may ask: it says nothing about tasks."""
STRANGERS_PER_S = 2.0
"""Requests a second at links in mails, of each of STRANGER_GROUPS of addresses and twice that at once. What is refused
there is written into the audit log, so it must be bounded."""
STRANGER_GROUPS = 1_024
LOCAL = Caller("local", Role.ADMIN)
"""Who calls from this machine while no tokens are set."""
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="callboard"'}
_MEND = "send Authorization: Bearer <token>; `callboard tokens new NAME --role read` makes one"


class Unknown(Exception):
    """Nobody who may ask; the message says the mend."""


@dataclass(frozen=True)
class Needs:
    """The dependency that `needs` makes; the call × role test reads `role`."""

    role: Role

    async def __call__(self, request: Request) -> Caller:
        """The caller, if their role is enough; 401 or 403 otherwise."""
        # why async: it runs in the request's own context, so the audit log sees who it is.
        try:
            caller: Caller = getattr(request.state, "caller", None) or identified(request.scope)
        except Unknown as error:
            raise Refused(401, str(error), _CHALLENGE) from None
        audit.identify(caller.name)
        if not caller.role.covers(self.role):
            raise Refused(403, f"this needs the role {self.role}, and {caller.name} has {caller.role}: use "
                               "another token, or give this one the role")  # fmt: skip
        return caller


def needs(role: Role) -> Any:
    """What a route asks of its caller: `@router.get("/", dependencies=[needs(Role.READ)])`, or as a parameter that is
    then the caller: `caller: Annotated[Caller, needs(Role.OPERATE)]`."""
    return Depends(Needs(role))


def trusting(auth: Callable[..., Any]) -> Any:
    """A dependency that takes another application's for authentication.

    Args:
        auth: a FastAPI dependency that raises for whom it does not know. A Caller that it returns says who it is and
            what they may; anything else lets them do everything, under its text as their name.
    """

    async def identify(request: Request, found: Annotated[Any, Depends(auth)]) -> None:
        name = str(found)[:50] if isinstance(found, (str, int)) else "application"
        request.state.caller = found if isinstance(found, Caller) else Caller(name, Role.ADMIN)

    assert inspect.iscoroutinefunction(identify)
    return Depends(identify)


class Guard:
    """Lets in who is known; see the module.

    Args:
        app: the application behind it.
        limit: of the requests of each token.
    """

    def __init__(self, app: ASGIApp, limit: RateLimit) -> None:
        self._app = app
        self._limit = limit
        self._strangers = RateLimit(STRANGERS_PER_S)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Say who calls in the request's state, or refuse before anything of the body is read."""
        if scope["type"] == "http":
            try:
                caller = identified(scope)
            except Unknown as error:
                if not is_public(scope["path"]):
                    answer = problem(401, str(error), slug="unauthenticated", headers=_CHALLENGE)
                    await answer(scope, receive, send)
                    return
                if scope["path"].startswith(SIGNED):
                    wait_s = self._strangers.take(_group_of(scope), time.monotonic())
                    if wait_s:
                        await _too_often("you ask", wait_s)(scope, receive, send)
                        return
            else:
                wait_s = 0.0 if caller == LOCAL else self._limit.take(caller.name, time.monotonic())
                if wait_s:
                    said = f"{caller.name} asks"
                    await _too_often(said, wait_s, ", or raise CALLBOARD_API_RATE_PER_S")(scope, receive, send)
                    return
                scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)


def is_public(path: str) -> bool:
    """Whether anybody may ask for the path: it says nothing about tasks, or has its own signature."""
    return path in PUBLIC or path.startswith(SIGNED)


def _group_of(scope: Scope) -> str:
    """A name for a stranger's address and some others: so many that few share one, and no more than can be kept."""
    client = scope.get("client")
    address = client[0] if client else ""
    if ":" in address:
        # why: who has one address of IPv6 has all of its network.
        with suppress(ValueError):
            address = str(ipaddress.ip_network(f"{address}/64", strict=False))
    return str(hash(address) % STRANGER_GROUPS)


def _too_often(who: str, wait_s: float, mend: str = "") -> JSONResponse:
    said = f"{who} too often: go on in {wait_s:.1f} s{mend}"
    return problem(429, said, slug="too-many", headers={"Retry-After": str(math.ceil(wait_s))})


def identified(scope: Scope) -> Caller:
    """Whose request it is. Raises Unknown."""
    tokens = callboard.settings.api_tokens
    if not tokens:
        if is_local(scope):
            return LOCAL
        raise Unknown("the API has no tokens and answers only this machine: set CALLBOARD_API_TOKENS, for which "
                      "`callboard tokens new NAME --role read` prints a line")  # fmt: skip
    shown = [value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"]
    if not shown:
        raise Unknown(f"a token is needed: {_MEND}")
    scheme, _, secret = shown[0].partition(" ")
    if len(shown) > 1 or scheme.lower() != "bearer":
        raise Unknown(f"expected one Authorization header of the scheme Bearer: {_MEND}")
    caller = caller_of(tokens, secret.strip(), datetime.now(UTC))
    if caller is None:
        raise Unknown(f"this token is not known, or its time is over: {_MEND}")
    return caller


def is_local(scope: Scope) -> bool:
    """Whether the request comes from this machine: over loopback, or a Unix socket."""
    client = scope.get("client")
    if client is None or not client[0]:
        return True
    try:
        address = ipaddress.ip_address(client[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
