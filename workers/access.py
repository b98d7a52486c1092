"""Who may do what: roles, callers and API tokens.

A token is 256 random bits that a caller shows as `Authorization: Bearer …`. Only its SHA-256 hash is kept, in the
setting CALLBOARD_API_TOKENS: nothing that is stored lets anybody in, and so much randomness needs no slow hash. A token
ends by its date or by taking its line out of the setting; there is no table of tokens to steal or to forget to clear.

Must not: read the environment (workers.settings does); know the web.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

PREFIX = "cb_"
"""Of every token, so that a scanner for leaked secrets knows one when it sees it."""
_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,50}")
_HASH = re.compile(r"[0-9a-f]{64}")


class Role(StrEnum):
    """What a caller may do; each may do what those before it may."""

    READ = "read"
    """See everything."""
    OPERATE = "operate"
    """Send, cancel and retry tasks; pause and run what there is."""
    ADMIN = "admin"
    """Change and delete what others rely on: schedules, purged queues, deleted tasks, locks."""

    def covers(self, wanted: "Role") -> bool:
        """Whether who has this role may do what `wanted` may."""
        return _RANK[self] >= _RANK[wanted]


_RANK = {role: rank for rank, role in enumerate(Role)}


@dataclass(frozen=True)
class Caller:
    """Who acts."""

    name: str
    role: Role


@dataclass(frozen=True)
class Token:
    """A line of CALLBOARD_API_TOKENS: `name:role:hash` or `name:role:hash:end`."""

    name: str
    role: Role
    sha256: str
    expires_at: datetime | None = None

    def line(self) -> str:
        """As the setting takes it."""
        end = "" if self.expires_at is None else f":{self.expires_at:%Y%m%dT%H%M%SZ}"
        return f"{self.name}:{self.role}:{self.sha256}{end}"


def new_token(name: str, role: Role, expires_at: datetime | None = None) -> tuple[str, Token]:
    """A fresh secret, to be shown once, and what to keep of it. Raises ValueError for a name that is none."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"expected 1–50 letters, digits, _ . @ or -, got {name[:60]!r}")
    secret = PREFIX + secrets.token_urlsafe(32)
    return secret, parse_token(Token(name, role, _hash(secret), expires_at).line())


def parse_token(line: str) -> Token:
    """A token's line.

    Raises:
        ValueError: what was expected; never with the hash, which could be a secret put in its place.
    """
    name, role, sha256, end = [*(part.strip() for part in line.split(":", 3)), "", "", ""][:4]
    if not _NAME.fullmatch(name):
        raise ValueError("expected name:role:hash with a name of 1–50 letters, digits, _ . @ or -: `callboard tokens "
                         "new` prints such a line")  # fmt: skip
    if role not in list(Role):
        raise ValueError(f"expected one of the roles {', '.join(Role)} for {name}")
    if not _HASH.fullmatch(sha256):
        raise ValueError(f"expected the SHA-256 hash of {name}'s token, 64 hexadecimal digits, and never the token "
                         "itself: `callboard tokens new` prints it")  # fmt: skip
    return Token(name, Role(role), sha256, _end_of(name, end) if end else None)


def caller_of(tokens: Iterable[Token], secret: str, now: datetime) -> Caller | None:
    """Whom a secret belongs to; None if to nobody, or if its time is over.

    Every token is compared, in constant time: how long it takes says nothing of how near a guess was.
    """
    shown = _hash(secret)
    found = None
    for token in tokens:
        is_it = hmac.compare_digest(token.sha256, shown)
        if is_it and (token.expires_at is None or now < token.expires_at):
            found = Caller(token.name, token.role)
    return found


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _end_of(name: str, text: str) -> datetime:
    try:
        end = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"expected the end of {name}'s token as a date such as 2027-01-31 (UTC), got {text[:40]!r}"
                         ) from None  # fmt: skip
    return end.replace(tzinfo=UTC) if end.tzinfo is None else end.astimezone(UTC)
