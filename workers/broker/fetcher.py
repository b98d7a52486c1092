"""The fetches of one worker process on one tag, one at a time, each with a number that counts up.

    idle ──ask──→ asked ──read──→ idle
      └─────────fetch────────────→ idle

`ask` sends and does not wait, so that the server works while the threads do; `fetch` asks and waits, for as long as it
takes.

A connection that is lost while something was asked takes the fetcher back to idle. The number stays: the next fetch has
the same, and brings the same messages if the lost one was executed. Nobody knows then whether a copy of it is still on
its way; until four leases later the server is told to remember every number, so that such a copy takes nothing.

Not safe for several threads at a time: the hub sees to it that one is here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from threading import Event
from typing import Final, NamedTuple

from .bus import Bus
from .calls import Catch, Fetch

_MOST_A_FETCH: Final = 400


class Asked(NamedTuple):
    """A fetch that is without an answer yet, and when it went out (monotonic clock)."""

    fetch: Fetch
    at_s: float


class Haul(NamedTuple):
    """What a fetch brought. is_full: as many as were asked for, so there may be more. asked_s: when it was asked."""

    catch: Catch
    is_full: bool
    asked_s: float


class Fetcher:
    """limits: asked before each fetch for the limits known here, as the bus takes them. stop: ends `fetch`.

    asked: what is without an answer. woken_by: to be set to the queue whose wake-up token was taken, and
    to how many processes have had it.
    """

    def __init__(self, bus: Bus, owner: str, *, limits: Callable[[], Sequence[str]], stop: Event) -> None:
        self._bus = bus
        self._owner = owner
        self._limits = limits
        self.line = bus.open_line(stop)
        self.asked: Asked | None = None
        self.woken_by = ("", 1)
        self._number = 0
        self._remember_until_s = 0.0
        self._faults_seen = 0

    def ask(self, room: int, queue_names: Sequence[str]) -> bool:
        """Asks for up to `room` messages. Returns whether that went out: if not, `fetch`."""
        asked = Asked(self._next(room, queue_names), time.monotonic())
        if not self._bus.ask_fetch(self.line, asked.fetch):
            return False
        self.asked = asked
        return True

    def read(self, patience_s: float | None) -> Haul | None:
        """Reads the answer to `ask`, if there was one. Returns None if it is not there in time (None: after the
        connection's patience it is lost). Raises what redis-py raises."""
        asked = self.asked
        if asked is None:
            return None
        answer = None
        try:
            answer = self.line.answer(patience_s)
        finally:
            if answer is not None or self.line.is_idle:
                self.asked = None
        if answer is None:
            return None
        return self._haul(asked.fetch, self._bus.caught(self.line, asked.fetch, answer), asked.at_s)

    def fetch(self, room: int, queue_names: Sequence[str]) -> Haul:
        """Takes up to `room` messages; tries until there is an answer. Raises Stopped, and what redis-py raises."""
        asked_s = time.monotonic()
        fetch = self._next(room, queue_names)
        return self._haul(fetch, self._bus.fetch(self.line, fetch), asked_s)

    def _next(self, room: int, queue_names: Sequence[str]) -> Fetch:
        now_s = time.monotonic()
        if self.line.faults != self._faults_seen:
            self._faults_seen = self.line.faults
            self._remember_until_s = now_s + 4 * self._bus.policy.lease_s
        return Fetch(
            self._owner,
            self._number + 1,
            min(room, _MOST_A_FETCH),
            queue_names,
            remember=now_s < self._remember_until_s,
            limits=self._limits(),
            woken_by=self.woken_by[0],
            token_trips=self.woken_by[1],
        )

    def _haul(self, fetch: Fetch, catch: Catch, asked_s: float) -> Haul:
        self._number = fetch.claim
        self.woken_by = ("", 1)
        return Haul(catch, len(catch.deliveries) >= fetch.room, asked_s)
