"""Probes: whether a service can be reached and answers in its own tongue; a kind a file.

    probe(kind, target, timeout_s) → Probed        the same for every kind, in at most LONGEST × timeout_s

A probe asks for as little as proves that the service is there, says that it is down in one line, and carries no
secrets. Operators name the targets, so a private or local address is as good as any other; redirects are not followed,
and of an answer only the beginning is read.

Must not: know tables; follow where an answer points to.
"""

import asyncio
import importlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from models.provider import ProviderKind
from models.redaction import redact_text
from models.text import clean_text, words_of
from workers.clients.probes.target import Down
from workers.errors import PermanentError

ERROR_MAX_CHARS: Final = 500
LONGEST: Final = 3
"""A probe takes so many times its time-out at most: for connecting, for an answer, and for another one."""
MAX_TIMEOUT_S: Final = 15.0


@dataclass(frozen=True)
class Probed:
    """What a probe found. latency_ms: how long it took, None if it is down. error: None if it is up."""

    is_up: bool
    latency_ms: float | None = None
    error: str | None = None


def probe(kind: str, target: str, timeout_s: float) -> Probed:
    """Ask a service whether it is there.

    Args:
        kind: of ProviderKind.
        target: URL of HTTP, else `host:port`.
        timeout_s: for connecting and for each answer, up to MAX_TIMEOUT_S.

    Raises:
        PermanentError: there is no such kind, the target is none, or the kind's library is not installed.
    """
    if not 0 < timeout_s <= MAX_TIMEOUT_S:
        raise PermanentError(f"expected a timeout_s of more than 0 and at most {MAX_TIMEOUT_S:g} seconds, got "
                             f"{timeout_s:g}: correct it in the table providers")  # fmt: skip
    if kind not in set(ProviderKind):
        raise PermanentError(f"expected a kind of {', '.join(ProviderKind)}, got {kind!r}: correct it in the table "
                             "providers")  # fmt: skip
    try:
        # why here: each brings a library that the others do not need.
        ask: Callable[[str, float], Awaitable[None]] = importlib.import_module(f"{__name__}.{kind}").ask
    except ModuleNotFoundError as error:
        raise PermanentError(f"probes of {kind.upper()} need the package {error.name}, which the extra network brings: "
                             "pip install -e '.[network]' where the workers run") from error  # fmt: skip
    return asyncio.run(_probe(ask, target, timeout_s))


async def _probe(ask: Callable[[str, float], Awaitable[None]], target: str, timeout_s: float) -> Probed:
    began_s = time.perf_counter()
    try:
        async with asyncio.timeout(LONGEST * timeout_s):
            await ask(target, timeout_s)
    except TimeoutError:
        return _down(f"no answer within {time.perf_counter() - began_s:.1f} s")
    except (Down, OSError) as error:
        return _down(words_of(error))
    return Probed(is_up=True, latency_ms=(time.perf_counter() - began_s) * 1000)


def _down(said: str) -> Probed:
    return Probed(is_up=False, error=clean_text(redact_text(said), ERROR_MAX_CHARS))
