"""What goes into the calls of the bus, what comes out, and how it is cut and spelt for the scripts. Makes no call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, NamedTuple, cast

from .errors import BusRefused
from .limit import LANE_MARK
from .line import Argument
from .parcel import Delivery
from .settlement import Settlement, Verdict

MOST_MESSAGES: Final = 1_000
MOST_BYTES: Final = 4 * 1024 * 1024
"""In one call: a script must not block the server for longer than milliseconds."""


class Receipt(Enum):
    """What became of a sent message: TAKEN; PRESENT (this or a later attempt is on the bus already, nothing changed);
    CANCELLED (a tombstone refused it)."""

    TAKEN = "1"
    PRESENT = "0"
    CANCELLED = "x"


class Removal(Enum):
    """What `remove` found: REMOVED (it will not run); LEASED (a worker has it); ABSENT (a tombstone stands now)."""

    REMOVED = 1
    LEASED = 2
    ABSENT = 0


class TakenOff(NamedTuple):
    """What `take_off` did. lost_number, lost_owner: of the last delivery and the worker that vanished with it, of a
    removed message that one had; else 0 and None."""

    removal: Removal
    lost_number: int = 0
    lost_owner: str | None = None


class Change(Enum):
    """What `reprioritise` found: CHANGED; LEASED (a worker has it: unchanged); ABSENT."""

    CHANGED = 1
    LEASED = 2
    ABSENT = 0


class Posting(NamedTuple):
    """A message to be sent. queue_name: or a lane of it.

    when: '' now, 'd<us>' delayed by, 'e<us>' at, 'a<us>' now but arrived then.
    """

    message_id: str
    record: bytes
    queue_name: str
    when: str = ""


class Fetch(NamedTuple):
    """What a worker process asks for: up to `room` messages, for `owner`. claim: counts up with each that was answered.

    remember: after a fault, so that a late copy of an earlier call takes nothing.
    limits: of the actors that have one, as `Limit.wire` says them.
    woken_by: the queue whose wake-up token was taken since the last fetch: if more is left there, another is woken.
    token_trips: how many processes have had that token, with this one.
    """

    owner: str
    claim: int
    room: int
    queue_names: Sequence[str]
    remember: bool
    limits: Sequence[str] = ()
    woken_by: str = ""
    token_trips: int = 1


@dataclass(frozen=True, slots=True)
class Catch:
    """What a fetch brought. wait_s: seconds until the next thing is due; None: nothing is."""

    deliveries: list[Delivery]
    wait_s: float | None


def deliveries_of(reply: Sequence[Any], owner: str) -> list[Delivery]:
    """Reads what `fetch.lua` handed out: id, record, "fence:claim owner losses score lane" of each."""
    deliveries: list[Delivery] = []
    for at in range(0, len(reply), 3):
        name, record, text = cast("tuple[bytes, bytes, bytes]", reply[at : at + 3])
        number, _, losses, score, lane = text.decode().split(" ", 4)
        fence, _, claim = number.partition(":")
        losses, _, previous = losses.partition(":")
        deliveries.append(
            Delivery(
                name.decode(errors="replace"),
                record,
                int(fence),
                int(losses),
                score,
                lane.partition(LANE_MARK)[0],
                owner,
                lane,
                previous or None,
                int(claim),
            )
        )
    return deliveries


def decisions(settlements: Sequence[Settlement]) -> list[Argument]:
    """Spells settlements for `settle.lua`. Raises ValueError if they are of several owners."""
    body: list[Argument] = []
    run: list[str] = []
    run_of = (0, 0)

    def end_run() -> None:
        if run:
            body.extend(("a", f"{run_of[0]}:{run_of[1]}", len(run), *run))
            run.clear()

    owner = settlements[0].owner
    for s in settlements:
        if s.owner != owner:
            raise ValueError("expected settlements of one owner in one call")
        if s.verdict is Verdict.ACK:
            if run_of != (s.fence, s.claim):
                end_run()
                run_of = (s.fence, s.claim)
            run.append(s.message_id)
        else:
            end_run()
            body += (s.wire_verdict(), f"{s.fence}:{s.claim}", s.message_id, s.record)
    end_run()
    return body


def parts(message_ids: Sequence[str], size: int = MOST_MESSAGES) -> Iterable[Sequence[str]]:
    """Cuts ids into calls."""
    return (message_ids[first : first + size] for first in range(0, len(message_ids), size))


def chunks(postings: Sequence[Posting]) -> Iterable[Sequence[Posting]]:
    """Cuts postings so that a script blocks the server for milliseconds: 1,000 messages or 4 MB."""
    if len(postings) == 1 and (name := postings[0].message_id) and "\n" not in name:
        yield postings
        return
    first, size_bytes = 0, 0
    for at, posting in enumerate(postings):
        if not posting.message_id or "\n" in posting.message_id:
            raise BusRefused(f"expected a message id without line breaks, got {posting.message_id!r}")
        length_bytes = len(posting.record)
        if at - first >= MOST_MESSAGES or (size_bytes + length_bytes > MOST_BYTES and at > first):
            yield postings[first:at]
            first, size_bytes = at, 0
        size_bytes += length_bytes
    if first < len(postings):
        yield postings[first:]
