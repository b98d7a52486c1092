"""The Dramatiq broker on the bus: Dramatiq's interface, and the ledger's. It decides nothing that a script can decide.

Its other rooms: `holdings.py` (what this process holds, and how that ends), `administration.py`, `look_ups.py`, under
them `tags.py` (servers and shards). `outgoing.py` says what a message is on its way to the bus.

Why a subclass of `Broker` and not of `RedisBroker`: of the latter nothing would be left. Its storage (lists, per-worker
sets, a heartbeat by the worker's clock), its dispatch script and its `do_*` calls are what this bus replaces; delay
queues, which its `declare_queue` announces, would start a consumer thread each; and its client is used with redis-py's
own retries. What people rely on is `Broker`'s interface, and `join`, `flush` and the constructor's `url`, `client`,
`namespace` and `middleware`, which are kept.

A message's life as a sender and a worker see it (the moves on the server: `bus.py`):

    enqueue ─→ [before_enqueue] ─→ on the bus ─→ fetched by a hub ─→ a worker thread ─→ [before_process] actor [after_…]
        ─→ consumer.ack/nack ─→ Settlement ─→ `record_settlement` ─→ settler ─→ gone | dead | again later

`enqueue` of a message that is running in this process (what Dramatiq's `Retries` does) is a decision, not a sending: it
is kept on the parcel and executed atomically with the acknowledgement. So a retry is never lost between the two, and
never there twice.

Hook points for a ledger: `settlement_sink` receives each decision instead of the settler; when its transaction is
committed, it calls `submit_settlements` (batched, in the background, tried until answered) or `settle_batch` (now, with
outcomes). `absent`, `scan_ids`, `records` and `leased` are how it compares itself with the bus.
`hold_fetching`/`allow_fetching` stop new work while the database is away. `on_generation`, `on_lease_lost` and
`on_settlement_refused` tell what the bus found out.
"""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from dramatiq import Broker, Consumer, Message, Middleware, Worker
from dramatiq.common import q_name
from dramatiq.errors import ActorNotFound, QueueJoinTimeout
from dramatiq.middleware import MiddlewareError, Retries

from models.text import words_of

from .bus import Bus
from .calls import Posting, Receipt
from .connect import RedisClient, connect
from .consumer import CrewConsumer, LoneConsumer
from .crew import Crew
from .envelope import HEADER_BYTES, attempt_of, pack, priority_of
from .errors import BusRefused
from .holdings import Holdings
from .hooks import Hooks
from .limit import LANE_MARK, Limit
from .look_ups import LookUps
from .outgoing import dated, encoded, sendable, when
from .parcel import Parcel
from .policy import Policy
from .settlement import Settlement, Verdict

log = logging.getLogger(__name__)


class CallboardBroker(Holdings, LookUps, Broker):
    """A broker with strict priority, stored delays, leases and millisecond latency, on Redis 6.2+ or Valkey.

    url: see `connect`; or client: a redis-py client (sync, plain or cluster), used as it is: give it no retries and a
        socket time-out above a server's stalls. One of the two.
    ca_path: certificate authority for `rediss://`.
    middleware: as for Dramatiq's brokers.
    namespace: hash tag of all keys.
    shards: for Redis Cluster: shard name → its queues; queues not named are on the unnamed shard. Priority is strict
        within a shard only; every worker has one fetch and one blocked connection a shard.
    policy: how messages are treated; see `Policy` for each number. The same in all processes.
    default_priority: 1-10, for messages that say none.
    send_timeout_s: how long `enqueue` and administrative calls may take, retries included.
    idle_block_s: longest wait of an idle worker before it looks by itself.
    revoke_after_s: how long a message may wait in a worker for a thread before it goes back; it is back within 50 ms,
        because a hub that rests looks every few.
    settle_linger_s: how long an acknowledgement may wait for others to go along.
    look_ahead_factor: upper bound of messages held beyond free threads, in threads.
    limit_of: actor name (or another name it goes by) → its limit, None: it has none. Asked on every send and delivery:
        must be quick, and answer the same for the life of the process.
    owner_name: names a worker process on the bus, asked once each time a Dramatiq worker boots. Unique among all
        workers alive or dead for less than four leases; at most 120 characters, no white space. None: at random.
    socket_timeout_s, connect_timeout_s: for `url`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        client: RedisClient | None = None,
        ca_path: str | None = None,
        middleware: list[Middleware] | None = None,
        namespace: str = "callboard",
        shards: Mapping[str, Iterable[str]] | None = None,
        policy: Policy | None = None,
        default_priority: int = 5,
        send_timeout_s: float = 10.0,
        idle_block_s: float = 3.0,
        revoke_after_s: float = 0.04,
        settle_linger_s: float = 0.004,
        look_ahead_factor: int = 4,
        limit_of: Callable[[str], Limit | None] | None = None,
        owner_name: Callable[[], str] | None = None,
        socket_timeout_s: float = 10.0,
        connect_timeout_s: float = 3.0,
    ) -> None:
        Holdings.__init__(self)
        self._hooks = Hooks()  # before Dramatiq's: adding middleware sends signals
        Broker.__init__(self, middleware=middleware)
        if (url is None) == (client is None):
            raise ValueError("expected either url or client, got " + ("neither" if url is None else "both"))
        if client is None:
            assert url is not None
            client = connect(
                url, ca_path=ca_path, socket_timeout_s=socket_timeout_s, connect_timeout_s=connect_timeout_s
            )
        self.namespace = namespace
        self._open_tags(client, namespace, policy or Policy(), shards=shards, send_timeout_s=send_timeout_s)
        self.default_priority = priority_of({"priority": default_priority})
        self.queues: set[str] = set()
        self._idle_block_s = idle_block_s
        self._revoke_after_s = revoke_after_s
        self._settle_linger_s = settle_linger_s
        self._look_ahead_factor = look_ahead_factor
        self._limit_of = limit_of
        self._owner_name = owner_name or _random_name
        self._limits: tuple[int, tuple[str, ...]] = (0, ())
        self._crews_by_worker: dict[int, Crew] = {}

    # --- signals -------------------------------------------------------------------------------------------------

    def emit_before(self, signal: str, *args: Any, **kwargs: Any) -> None:
        """Calls the `before_` hooks, in order. As Dramatiq's, without the empty ones."""
        if signal == "worker_boot":
            self._worker_boots(cast("Worker", args[0]))
        for hook in self._hooks.listeners("before_" + signal, self.middleware):
            try:
                hook(self, *args, **kwargs)
            except MiddlewareError:
                raise
            except Exception:  # as Dramatiq does: a hook that fails must not stop the others
                self.logger.critical("Unexpected failure in %r.", hook, exc_info=True)
        if signal == "worker_shutdown":
            crew = self._crews_by_worker.get(id(args[0]))
            if crew is not None:
                crew.begin_closing()

    def emit_after(self, signal: str, *args: Any, **kwargs: Any) -> None:
        """Calls the `after_` hooks, in reverse. As Dramatiq's, without the empty ones."""
        for hook in reversed(self._hooks.listeners("after_" + signal, self.middleware)):
            try:
                hook(self, *args, **kwargs)
            except Exception:  # as Dramatiq does: a hook that fails must not stop the others
                self.logger.critical("Unexpected failure in %r.", hook, exc_info=True)
        if signal == "worker_shutdown":
            self._worker_ended(cast("Worker", args[0]))

    def _worker_boots(self, worker: Worker) -> None:
        crew = Crew(
            self,
            self._buses,
            worker,
            owner=_checked_owner(self._owner_name()),
            idle_block_s=self._idle_block_s,
            revoke_after_s=self._revoke_after_s,
            linger_s=self._settle_linger_s,
            look_ahead_factor=self._look_ahead_factor,
        )
        # The threads, which are started after this signal, take the queue from the worker.
        worker.work_queue = crew.work_queue  # type: ignore[assignment]  # it has all that the worker uses
        self._crews_by_worker[id(worker)] = crew
        self._add_crew(crew)

    def _worker_ended(self, worker: Worker) -> None:
        crew = self._crews_by_worker.pop(id(worker), None)
        if crew is not None:
            crew.close()
            self._crews.remove(crew)

    # --- declaring -----------------------------------------------------------------------------------------------

    def declare_queue(self, queue_name: str) -> None:
        """Declares a queue. There are no delay queues: delayed messages wait on the server."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def get_declared_queues(self) -> set[str]:
        """Returns the names of the queues declared so far."""
        return self.queues.copy()

    def knows_actor(self, actor_name: str) -> bool:
        """Whether that actor is declared here."""
        return actor_name in self.actors

    def lane_of(self, queue_name: str, actor_name: str) -> str:
        """Returns where messages of an actor wait: the queue, or, of a limited actor, its lane. Raises BusRefused for a
        queue name that would read like a lane."""
        if LANE_MARK in queue_name:
            raise BusRefused(f"expected a queue name without {LANE_MARK!r}, got {queue_name!r}: rename the queue")
        if self._limit_of is None or self._limit_of(actor_name) is None:
            return queue_name
        with contextlib.suppress(ActorNotFound):
            actor_name = self.get_actor(actor_name).actor_name  # all names of an actor share its limit
        return queue_name + LANE_MARK + actor_name

    def limits(self) -> Sequence[str]:
        """Returns the limits of the actors declared here, as a fetch takes them."""
        if self._limit_of is None:
            return ()
        count, limits = self._limits
        if count != len(self.actors):
            names = list(self.actors)
            limits = tuple(limit.wire(name) for name in names if (limit := self._limit_of(name)) is not None)
            self._limits = (len(names), limits)
        return limits

    # --- sending -------------------------------------------------------------------------------------------------

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Sends a message; or, of one that is running in this process, decides that it is to run again.

        delay: milliseconds, by the server's clock. An `eta` option (Unix milliseconds) does the same by absolute time.

        Returns the message as sent. Raises ValueError for a priority or delay out of range, BusUnavailable (send again:
        it is taken once), BusFull, BusRefused. A message that was cancelled before is refused with a line in the log;
        `publish` returns what became of each.
        """
        message = dated(message, delay)
        self.emit_before("enqueue", message, delay)
        parcel = self._running(message.message_id)
        if parcel is not None:
            self._decide_again(parcel, message, delay)
        elif self.publish([message], delay_ms=delay) == [Receipt.CANCELLED]:
            log.info("Message %s was cancelled before it was sent; the bus refused it.", message.message_id)
        self.emit_after("enqueue", message, delay)
        return message

    def enqueue_many(self, messages: Sequence[Message[Any]], *, delay: int | None = None) -> list[Message[Any]]:
        """Sends messages in order, a thousand a call. As `enqueue` in all else."""
        ready = [dated(message, delay) for message in messages]
        for message in ready:
            self.emit_before("enqueue", message, delay)
        sent: list[Message[Any]] = []
        for message in ready:
            parcel = self._running(message.message_id)
            if parcel is None:
                sent.append(message)
            else:
                self._decide_again(parcel, message, delay)
        self.publish(sent, delay_ms=delay)
        for message in ready:
            self.emit_after("enqueue", message, delay)
        return ready

    def publish(
        self,
        messages: Sequence[Message[Any]],
        *,
        delay_ms: int | None = None,
        arrived_us: Sequence[int] | None = None,
        timeout_s: float | None = None,
    ) -> list[Receipt]:
        """Puts messages on the bus without signals: for a relay, whose row exists already.

        arrived_us: for each message when it first arrived (Unix microseconds), so that a rebuilt bus keeps the order.
        timeout_s: for all of it.

        Returns what became of each. Raises as `enqueue`.
        """
        postings = [
            Posting(
                message.message_id,
                self._record(message),
                self.lane_of(q_name(message.queue_name), message.actor_name),
                when(message, delay_ms, None if arrived_us is None else arrived_us[i]),
            )
            for i, message in enumerate(messages)
        ]
        if len(self._buses) == 1:
            return self._buses[0].enqueue(postings, timeout_s=timeout_s)
        by_bus: dict[Bus, list[tuple[int, Posting]]] = {}
        for i, posting in enumerate(postings):
            by_bus.setdefault(self.bus_of(q_name(messages[i].queue_name)), []).append((i, posting))
        receipts: dict[int, Receipt] = {}
        for bus, numbered in by_bus.items():
            answers = bus.enqueue([posting for _, posting in numbered], timeout_s=timeout_s)
            receipts.update(zip((i for i, _ in numbered), answers, strict=True))
        return [receipts[i] for i in range(len(messages))]

    def _record(self, message: Message[Any]) -> bytes:
        priority = priority_of(message.options, self.default_priority)
        return pack(encoded(message), priority=priority, attempt=attempt_of(message.options))

    def _running(self, message_id: str) -> Parcel | None:
        for crew in self._crews:
            # First what this very thread runs: after a lost lease, another delivery of the message may be here too.
            for parcel in (crew.work_queue.current(), crew.held.get(message_id)):
                if (
                    parcel is not None
                    and parcel.message_id == message_id
                    and parcel.started_s
                    and not (parcel.sealed or parcel.settling)
                ):
                    return parcel
        return None

    def _decide_again(self, parcel: Parcel, message: Message[Any], delay_ms: int | None) -> None:
        # why: the function may have changed its arguments, into others or into something JSON has no word for. It is
        # tried again with what was sent, as its row says.
        sent = Message.decode(parcel.delivery.record[HEADER_BYTES:])
        again = sent.copy(options=message.options)
        try:
            record = self._record(again)
        except Exception as error:
            # why: were this raised, Dramatiq would swallow it, acknowledge, and the task would be gone.
            log.error("Message %s is to run again, but some of its options cannot be sent: %s", parcel, error)
            record = self._record(sent.copy(options=sendable(message.options)))
        eta_ms = message.options.get("eta") if delay_ms is None else None
        due_ms = int(eta_ms) if isinstance(eta_ms, int | float) else None
        parcel.again = parcel.settlement(Verdict.RETRY, record=record, delay_ms=delay_ms, due_ms=due_ms)

    # --- receiving -----------------------------------------------------------------------------------------------

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Consumer:
        """Returns a consumer of a queue. prefetch: used without a worker only. timeout: milliseconds."""
        work_queue = getattr(threading.current_thread(), "work_queue", None)
        for crew in self._crews:
            if crew.work_queue is work_queue:
                return CrewConsumer(crew, queue_name, timeout_s=timeout / 1000, decided=self._decided)
        return LoneConsumer(
            self.bus_of(queue_name),
            queue_name,
            owner=_random_name(),
            prefetch=prefetch,
            timeout_s=timeout / 1000,
            decide=self._decide,
            lane_of=self.lane_of,
            limits=self.limits,
        )

    def _decided(self, parcel: Parcel, failed: bool) -> None:
        parcel.sealed = True
        try:
            settlement = self._decide(parcel, failed)
        except Exception as error:  # why: whatever it is, an undecided message would be leased for ever.
            log.exception("Nothing could be decided about message %s; it goes to the dead letters.", parcel.message_id)
            settlement = parcel.settlement(Verdict.DEAD, reason=f"undecided: {type(error).__name__}")
        self.record_settlement(settlement)

    def _decide(self, parcel: Parcel, failed: bool) -> Settlement:
        """What Dramatiq's flags mean for the bus."""
        if failed:
            return parcel.settlement(Verdict.DEAD, record=self._last_words(parcel), reason=_reason(parcel))
        if parcel.again is not None:
            return parcel.again
        if parcel.exception is not None and any(isinstance(m, Retries) for m in self.middleware):
            # It raised, and Retries neither failed it nor sent it again: Retries itself broke (a `retry_when` that
            # raises), Dramatiq swallowed that, and acknowledges. Kept where somebody sees it, instead of lost.
            return parcel.settlement(
                Verdict.DEAD, record=self._last_words(parcel), reason="retry failed: " + _reason(parcel)
            )
        return parcel.settlement(Verdict.ACK)

    def _last_words(self, parcel: Parcel) -> bytes:
        """The message with what its attempts left in its options (traceback, retries), for the dead letters."""
        message = parcel._message  # noqa: SLF001 - Dramatiq has no other access
        try:
            return self._record(message)
        except Exception:  # whatever an actor put into its arguments, the message must still be set aside
            return b""  # keeps the stored one

    # --- for tests -----------------------------------------------------------------------------------------------

    def flush(self, queue_name: str) -> None:
        """Drops all messages of a queue, running and dead ones too."""
        queue_name = q_name(queue_name)
        self.bus_of(queue_name).flush(queue_name)

    def flush_all(self) -> None:
        """Drops all messages of all declared queues."""
        for queue_name in self.get_declared_queues():
            self.flush(queue_name)

    def join(self, queue_name: str, *, interval: int = 100, timeout: int | None = None) -> None:
        """Waits until nothing of a queue waits, is delayed or is running, anywhere. For tests.

        interval, timeout: milliseconds. Raises QueueJoinTimeout.
        """
        queue_name = q_name(queue_name)
        deadline_s = None if timeout is None else time.monotonic() + timeout / 1000
        while self.depth(queue_name).live:
            if deadline_s is not None and time.monotonic() >= deadline_s:
                raise QueueJoinTimeout(queue_name)
            time.sleep(interval / 1000)  # why: Dramatiq's `join` polls, and is for tests only


def _random_name() -> str:
    return secrets.token_hex(6)


def _checked_owner(name: str) -> str:
    if not re.fullmatch(r"\S{1,120}", name) or name == "-":
        raise ValueError(f"expected owner_name() to give 1 to 120 characters without white space, got {name!r}")
    return name


def _reason(parcel: Parcel) -> str:
    error = parcel.exception
    return "rejected" if error is None else f"{type(error).__name__}: {words_of(error)}"
