"""How a delivery ends: the decision (Settlement) and what became of it (Outcome).

    leased ──ACK──→ gone
       ├──DEAD────→ dead letters
       ├──RETRY───→ delayed or waiting, as a later attempt          (an attempt failed)
       ├──RELEASE─→ waiting, first score, as if never delivered     (revoked, shut down: it was not started)
       └──DEFER───→ delayed, uncounted                              (no such actor here, newer version)

Each is executed by one call of `settle.lua`, fenced by owner, delivery number and claim (a message that was given back
is delivered under the same number, maybe to the same owner; a repeated release must not take it from there).
Crash before the call: the lease expires and the message runs again. Crash after: it is settled. There is nothing in
between.
"""

from __future__ import annotations

from enum import Enum, IntEnum

import msgspec


class Verdict(Enum):
    """What is to become of a message. The value is what `settle.lua` reads."""

    ACK = "a"
    DEAD = "x"
    RETRY = "r"
    RELEASE = "b"
    DEFER = "w"


class Outcome(IntEnum):
    """What became of a settlement.

    DONE: executed. REPEATED: it had been executed before, the reply was lost. ABSENT: no such message (settled before,
    or the data is lost). STALE: refused, another delivery has taken the message: what this one did must not count.
    """

    DONE = 1
    ABSENT = 0
    REPEATED = 2
    STALE = -1


class Settlement(msgspec.Struct, frozen=True):
    """One decision. message_id, queue_name, owner, fence and claim name the delivery; the rest the decision.

    delay_ms: for RETRY (None: at once) and DEFER, from the moment of settling, by the server's clock.
    due_ms: for RETRY, an absolute time instead (Unix milliseconds).
    record: for RETRY the new record, for DEAD the record to keep (empty: the stored one).
    reason: for DEAD, one line for the operator.
    lane: for RELEASE, where it is to wait from now on; empty: where it was.
    """

    message_id: str
    queue_name: str
    owner: str
    fence: int
    verdict: Verdict
    delay_ms: int | None = None
    due_ms: int | None = None
    record: bytes = b""
    reason: str = ""
    lane: str = ""
    claim: int = 0

    def wire_verdict(self) -> str:
        """Returns the decision as `settle.lua` reads it."""
        if self.verdict is Verdict.ACK:
            return "a"
        if self.verdict is Verdict.DEAD:
            # why: an error's text may hold lone surrogates, which have no UTF-8: the client would refuse the batch, at
            # each try again, and nothing that this worker runs would ever be acknowledged.
            return "x" + self.reason.encode(errors="backslashreplace").decode().replace("\n", " ")[:500]
        if self.verdict is Verdict.RETRY:
            if self.due_ms is not None:
                return f"re{self.due_ms * 1000}"
            return f"rd{self.delay_ms * 1000}" if self.delay_ms else "r"
        if self.verdict is Verdict.DEFER:
            return f"w{(self.delay_ms or 0) * 1000}"
        return "b" + self.lane
