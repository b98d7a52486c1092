"""Signed links in mails: what one says, and whether it is ours.

    <public URL>/decide/<body>.<signature>
    body         base64url of JSON: [version, permit, party, decision, nonce, expiry in Unix seconds]
    signature    base64url of HMAC-SHA-256 over the body as it is written

Signature and body are compared as text, before anything of the body is read: there is one way to write a link, and a
link with any other character in it is refused. What may be done once is not decided here but by `used_links`.

Keys are CALLBOARD_LINK_SECRET; the first signs, all of them verify, so that one can be replaced while links of the one
before still work. In development, where it is not set, a key is made and kept under `var/`.

Must not: know the database (a worker that signs nothing does not load it), or the web.
"""

import base64
import hmac
import json
import os
import secrets
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from workers.errors import CallboardError, PermanentError
from workers.settings import Mode, Settings

PATH = "/decide/"
Choice = Literal["approved", "rejected"]
TOKEN_MAX_CHARS = 300
_VERSION = 1
_PURPOSE = b"callboard permit link\0"
"""Part of what is signed, so that the same key could sign something else and neither be taken for the other."""


class LinkRefused(CallboardError):
    """A link that may not be used.

    Args:
        message: for the person who has it: what is wrong, and what to do.
        reason: one word for the audit log, of those in workers.web.decisions.
        link: what it says, once its signature is known to be ours.
    """

    def __init__(self, message: str, *, reason: str, link: "Link | None" = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.link = link


@dataclass(frozen=True)
class Link:
    """What a link lets its holder do, once, until it expires.

    Args:
        decision: the one that it is for; None: its page asks which.
        nonce: the same in all links of a mail to one party, so that who used one has used the others.
    """

    permit_id: int
    party_id: int
    decision: Choice | None
    nonce: str
    expires_at: datetime


def url(settings: Settings, link: Link) -> str:
    """The link as it stands in a mail; raises PermanentError without a key."""
    return settings.public_base + PATH + sign(link, keys(settings)[0])


def sign(link: Link, key: bytes) -> str:
    """The link as a token."""
    expiry_s = int(link.expires_at.timestamp())
    said = [_VERSION, link.permit_id, link.party_id, link.decision, link.nonce, expiry_s]
    body = _encode(json.dumps(said, separators=(",", ":")).encode())
    return f"{body}.{_signature(body, key)}"


def read(token: str, keys: list[bytes], now: datetime) -> Link:
    """What a token says.

    Raises:
        LinkRefused: it is not ours as it stands, or its time is over.
    """
    body, _, signature = token[: TOKEN_MAX_CHARS + 1].rpartition(".")
    shown = signature.encode("utf-8", "replace")
    # why all of them: how long it takes says nothing of which one it was.
    known = [hmac.compare_digest(shown, _signature(body, key).encode()) for key in keys]
    if len(token) > TOKEN_MAX_CHARS or not any(known):
        raise LinkRefused("This link is not as it was sent: open it from the mail again, or copy all of it.",
                          reason="changed")  # fmt: skip
    link = _decoded(body)
    if now >= link.expires_at:
        raise LinkRefused(f"This link was valid until {link.expires_at:%d %B %Y, %H:%M} UTC: ask for a new mail.",
                          reason="expired", link=link)  # fmt: skip
    return link


def keys(settings: Settings) -> list[bytes]:
    """The keys, the one that signs first.

    Raises:
        PermanentError: none is set, and in production mode none is made.
    """
    if settings.link_secret:
        return [secret.get_secret_value().encode() for secret in settings.link_secret]
    if settings.mode is Mode.PRODUCTION:
        raise PermanentError(MEND)
    return [_own_key(settings.var_dir / "link-secret")]


MEND = ("CALLBOARD_LINK_SECRET is not set, so links in mails cannot be signed; expected a secret that all processes "
        "share: set it to what `openssl rand -hex 32` prints")  # fmt: skip


def _own_key(path: Path) -> bytes:
    """The key in this file, made if it is not there. Of two processes that make one, both take the first."""
    with suppress(FileNotFoundError):
        return path.read_bytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".link-secret", delete=False) as part:
        part.write(secrets.token_hex(32).encode())
    with suppress(FileExistsError):
        os.link(part.name, path)  # why not a rename: it would replace another's.
    Path(part.name).unlink()
    return path.read_bytes()


def _signature(body: str, key: bytes) -> str:
    return _encode(hmac.digest(key, _PURPOSE + body.encode("utf-8", "replace"), sha256))


def _decoded(body: str) -> Link:
    said: list[Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    if said[0] != _VERSION:  # why: in a rolling deploy newer code may have signed it.
        raise LinkRefused("This link is newer than this page: try again in a few minutes.", reason="changed")
    _, permit_id, party_id, decision, nonce, expiry_s = said
    return Link(permit_id, party_id, decision, nonce, datetime.fromtimestamp(expiry_s, UTC))


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
