"""A message that will not run unless somebody sends it again. Plain data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from .envelope import HEADER_BYTES


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """payload: the encoded message, maybe undecodable: that may be why it is here. reason: one line."""

    message_id: str
    queue_name: str
    died_at: datetime
    reason: str
    payload: bytes

    @classmethod
    def read(cls, queue_name: str, message_id: bytes, died_us: bytes, letter: bytes) -> DeadLetter:
        """Makes one from the bus's fields."""
        reason, _, record = letter.partition(b"\n")
        return cls(
            message_id.decode(errors="replace"),
            queue_name,
            datetime.fromtimestamp(float(died_us) / 1e6, UTC),
            reason.decode(errors="replace"),
            record[HEADER_BYTES:],
        )
