"""The record of a message on the bus: seven bytes that scripts read, then the encoded message.

    A       version of this form. A worker that reads another version puts the message off (rolling deploy).
    a..j    priority 1..10, where the scripts can change it (re-prioritise) without touching the JSON
    00000   attempt, five digits: enqueue is idempotent by (message id, attempt), and a fence is never below it

Holds only this form; what is in the JSON is the encoder's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

VERSION: Final = b"A"
HEADER_BYTES: Final = 7
DEFAULT_PRIORITY: Final = 5
_LAST_ATTEMPT: Final = 99_999


class NewerVersion(Exception):
    """This record was written by a newer program, for a newer program: put it off."""


class Envelope(msgspec.Struct, frozen=True):
    """A record taken apart: priority 1-10, attempt from 0, the encoded message."""

    priority: int
    attempt: int
    payload: bytes


def pack(payload: bytes, *, priority: int, attempt: int) -> bytes:
    """Returns the record of a message. priority: 1-10. attempt: from 0; counts up to 99,999 and stays there."""
    return b"%b%c%05d%b" % (VERSION, 96 + priority, min(attempt, _LAST_ATTEMPT), payload)


def unpack(record: bytes) -> Envelope:
    """Takes a record apart. Raises NewerVersion for a later version, ValueError for what is no record."""
    if record[:1] != VERSION:
        if record[:1].isalpha() and record[:1] > VERSION:
            raise NewerVersion(f"expected record version {VERSION!r}, got {record[:1]!r}")
        raise ValueError(f"expected a record to begin with {VERSION!r}, got {record[:HEADER_BYTES]!r}")
    return Envelope(record[1] - 96, int(record[2:HEADER_BYTES]), record[HEADER_BYTES:])


def priority_of(options: Mapping[str, Any], default: int = DEFAULT_PRIORITY) -> int:
    """Returns the priority that message options ask for: 1-10, higher first. Raises ValueError for any other."""
    priority = options.get("priority")
    if priority is None:
        return default
    if type(priority) is not int or not 1 <= priority <= 10:
        raise ValueError(f"expected priority to be a whole number from 1 (last) to 10 (first), got {priority!r}")
    return priority


def attempt_of(options: Mapping[str, Any]) -> int:
    """Returns the attempt that message options speak of: `attempt` if given, else stock Dramatiq's `retries`."""
    attempt = options.get("attempt", options.get("retries"))
    return attempt if isinstance(attempt, int) and attempt > 0 else 0
