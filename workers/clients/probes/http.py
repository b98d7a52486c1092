"""HTTP: one GET; whatever is answered below 400 is up. The body is not read."""

import ssl
from typing import Final
from urllib.parse import urlsplit

import httpx2

from workers.clients.probes.target import Down
from workers.errors import PermanentError

_HEADERS: Final = {"User-Agent": "callboard-probe", "Accept": "*/*"}
_TLS: Final = ssl.create_default_context()
"""The system's authorities: those of an operator's own are among them. Made once, as it takes longer than a probe."""


async def ask(target: str, timeout_s: float) -> None:
    """Raises Down, OSError, TimeoutError; PermanentError: the target is no URL."""
    try:
        parts = urlsplit(target)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or "@" in target or not target.isprintable():
        raise PermanentError(f"expected a URL without user and password, as https://erp.example.org/health, got "
                             f"{target[:200]!a}: correct the target in the table providers")  # fmt: skip
    try:
        # why not from the environment: a proxy's answer would say nothing of the provider.
        async with (
            httpx2.AsyncClient(verify=_TLS, timeout=timeout_s, follow_redirects=False, trust_env=False) as client,
            client.stream("GET", target, headers=_HEADERS) as response,
        ):
            if response.status_code >= 400:
                raise Down(f"it answered {response.status_code} {response.reason_phrase}")
    except httpx2.TimeoutException as error:
        raise TimeoutError from error
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise Down(f"{error or 'the connection broke'} ({type(error).__name__})") from error
