"""Refuses what a page of another site makes somebody's browser send: nothing of it may act.

    Sec-Fetch-Site: cross-site or same-site    on a request that acts: 403; every present browser says this by itself
    Origin of another host                     the same, from older ones
    a content type that a form can send        for a body below /api: 403, so that JSON cannot come as text/plain
    a Host that is no name of this machine     while no tokens are set: 403, else a name that is made to resolve to
                                               127.0.0.1 (DNS rebinding) would make a stranger's page the same site

A token in a header cannot be sent by another site's form at all; this guards the API while it has none, and the
dashboard. There is no CORS: no answer allows another origin to read it.

Must not: look at who calls.
"""

import ipaddress
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from workers import callboard
from workers.web.problems import problem

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_OF_FORMS = frozenset({"text/plain", "application/x-www-form-urlencoded", "multipart/form-data"})


class SameSiteOnly:
    """See the module.

    Args:
        app: the application behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        refused = _objection(scope) if scope["type"] == "http" else None
        if refused is None:
            await self._app(scope, receive, send)
        else:
            await problem(403, refused, slug="cross-site")(scope, receive, send)


def _objection(scope: Scope) -> str | None:
    headers = {name: value.decode("latin-1").strip().lower() for name, value in scope["headers"]}
    host = headers.get(b"host", "")
    if not callboard.settings.api_tokens and not _is_local_name(host):
        return (f"without tokens the API answers to this machine's own name only, got the host {host[:100]!r}: use "
                "localhost, or set CALLBOARD_API_TOKENS")  # fmt: skip
    if scope["method"] in _SAFE:
        return None
    site = headers.get(b"sec-fetch-site", "none")
    if site not in ("none", "same-origin"):
        return f"a request that acts must not come from another site's page (Sec-Fetch-Site: {site[:40]})"
    origin = headers.get(b"origin")
    if origin is not None and urlsplit(origin).netloc != host:
        return f"a request that acts must not come from another site's page (Origin: {origin[:100]})"
    content_type = headers.get(b"content-type", "").partition(";")[0].strip()
    if content_type in _OF_FORMS and scope["path"].startswith("/api/"):
        return f"expected a body sent as application/json, got {content_type}, which a form of any site can send"
    return None


def _is_local_name(host: str) -> bool:
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
