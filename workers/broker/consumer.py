"""Dramatiq's consumers on this bus.

Dramatiq starts one consumer thread a queue, each with a consumer of its own. Under a worker these only say which queues
are served and take acknowledgements; the hub fetches for all. A consumer that is used without a worker (tests, tools)
fetches by itself and settles at once; it does not renew leases.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence

import redis
from dramatiq import Consumer, MessageProxy

from .bus import Bus
from .calls import Fetch
from .crew import Crew
from .envelope import NewerVersion
from .errors import BusUnavailable
from .line import Stopped
from .parcel import Parcel, open_delivery
from .settlement import Settlement, Verdict

_CLOSING_WAIT_S = 0.02

Decide = Callable[[Parcel, bool], Settlement]


class CrewConsumer(Consumer):
    """A queue's consumer under a worker. timeout_s: how long `next` takes to say that it has nothing."""

    def __init__(
        self, crew: Crew, queue_name: str, *, timeout_s: float, decided: Callable[[Parcel, bool], None]
    ) -> None:
        self._crew = crew
        self._queue_name = queue_name
        self._timeout_s = timeout_s
        self._decided = decided

    def ack(self, message: MessageProxy) -> None:
        """Says that the message is done (or to be retried, if it was enqueued again while it ran)."""
        self._decided(_parcel(message), False)

    def nack(self, message: MessageProxy) -> None:
        """Says that the message is dead."""
        self._decided(_parcel(message), True)

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Gives unstarted messages back, to the place they had."""
        self._crew.give_back(_parcel(message) for message in messages)

    def __next__(self) -> MessageProxy | None:
        """Never returns a message: they go to the threads directly. The first call makes the hub serve the queue; by
        then Dramatiq's thread has this consumer, which the threads acknowledge to."""
        self._crew.serve(self._queue_name)
        if self._crew.closing.wait(self._timeout_s):
            # Dramatiq stops its consumers only when all tasks are done: until then this loops.
            time.sleep(_CLOSING_WAIT_S)
        return None

    def close(self) -> None:
        """Fetches from this queue no longer. Acknowledgements are taken still."""
        self._crew.leave(self._queue_name)


class LoneConsumer(Consumer):
    """A consumer without a worker. prefetch: how many messages it may hold. timeout_s: how long `next` may block."""

    def __init__(
        self,
        bus: Bus,
        queue_name: str,
        *,
        owner: str,
        prefetch: int,
        timeout_s: float,
        decide: Decide,
        lane_of: Callable[[str, str], str],
        limits: Callable[[], Sequence[str]],
    ) -> None:
        self._bus = bus
        self._queue_name = queue_name
        self._owner = owner
        self._prefetch = prefetch
        self._timeout_s = timeout_s
        self._decide = decide
        self._lane_of = lane_of
        self._limits = limits
        self._stop = threading.Event()
        self._line = bus.open_line(self._stop)
        self._claim = 0
        self._cache: list[Parcel] = []
        self._outstanding: set[str] = set()

    @property
    def outstanding_message_count(self) -> int:
        """Messages held: handed out and not acknowledged, or fetched in advance."""
        return len(self._outstanding) + len(self._cache)

    def ack(self, message: MessageProxy) -> None:
        """Ends the delivery, now."""
        self._settle(self._decide(_parcel(message), False))

    def nack(self, message: MessageProxy) -> None:
        """Puts the message into the dead letters, now."""
        self._settle(self._decide(_parcel(message), True))

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Gives messages back, to the place they had."""
        for message in messages:
            self._settle(_parcel(message).settlement(Verdict.RELEASE))

    def __next__(self) -> MessageProxy | None:
        """Returns the next message, or None if none came in time."""
        deadline_s = time.monotonic() + self._timeout_s
        while not self._cache:
            room = self._prefetch - self.outstanding_message_count
            wait_s = self._fetch(room) if room > 0 else None
            left_s = deadline_s - time.monotonic()
            if self._cache:
                break
            if left_s <= 0:
                return None
            if room > 0:
                block_s = min(left_s, 1.0) if wait_s is None else min(left_s, wait_s, 1.0)
                try:
                    self._line.pop_token([self._bus.keys.wake(self._queue_name)], block_s, self._stop.is_set)
                except redis.RedisError as error:
                    raise BusUnavailable(f"lost the Redis server while waiting for a message: {error}") from error
            else:
                self._stop.wait(left_s)
        parcel = self._cache.pop(0)
        self._outstanding.add(parcel.message_id)
        return parcel

    def close(self) -> None:
        """Gives back what was fetched in advance, and ends."""
        self.requeue(self._cache)
        self._cache.clear()
        self._stop.set()
        self._line.close()

    def _fetch(self, room: int) -> float | None:
        sent_s = time.monotonic()
        try:
            request = Fetch(
                self._owner, self._claim + 1, room, [self._queue_name], remember=True, limits=self._limits()
            )
            catch = self._bus.fetch(self._line, request)
        except Stopped:
            return None
        self._claim += 1
        for delivery in catch.deliveries:
            try:
                parcel = open_delivery(delivery, self._bus.policy, got_s=time.monotonic(), sent_s=sent_s)
            except NewerVersion:
                delay_ms = int(self._bus.policy.put_off_s * 1000)
                self._settle(delivery.settlement(Verdict.DEFER, delay_ms=delay_ms))
            except Exception as error:
                reason = f"undecodable: {type(error).__name__}: {error}"
                self._settle(delivery.settlement(Verdict.DEAD, reason=reason))
            else:
                lane = self._lane_of(parcel.queue_name, parcel.actor_name)
                if lane not in (delivery.lane, parcel.queue_name):
                    self._settle(parcel.settlement(Verdict.RELEASE, lane=lane))
                else:
                    self._cache.append(parcel)
        return catch.wait_s

    def _settle(self, settlement: Settlement) -> None:
        self._outstanding.discard(settlement.message_id)
        self._bus.settle([settlement])


def _parcel(message: MessageProxy) -> Parcel:
    if not isinstance(message, Parcel):
        raise TypeError(f"expected a message that this bus handed out, got {type(message).__name__}")
    return message
