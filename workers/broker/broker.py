"""The Dramatiq broker on the bus. The composition of this package; it decides nothing that a script can decide.
(Longer than a file should be: it is Dramatiq's interface, the ledger's and the administrator's, each call a few lines.)

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
from typing import Any, Final, cast

from dramatiq import Broker, Consumer, Message, Middleware, Worker, get_encoder
from dramatiq.common import current_millis, q_name
from dramatiq.errors import ActorNotFound, QueueJoinTimeout
from dramatiq.middleware import MiddlewareError, Retries

from models.text import words_of

from .bus import Bus, Change, Posting, Receipt, Removal, TakenOff
from .connect import RedisClient, connect
from .consumer import CrewConsumer, LoneConsumer
from .crew import Crew, CrewHealth
from .dead_letter import DeadLetter
from .depth import QueueDepth
from .envelope import HEADER_BYTES, attempt_of, pack, priority_of, unpack
from .errors import BusRefused
from .generation import Generation, GenerationWatch
from .hooks import Hooks
from .keys import Keys
from .limit import LANE_MARK, Limit
from .lock import Locks
from .parcel import Parcel
from .policy import Policy
from .settlement import Outcome, Settlement, Verdict

log = logging.getLogger(__name__)

_LONGEST_DELAY_MS: Final = 100 * 365 * 86_400_000


class CallboardBroker(Broker):
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
        because settlements linger a few.
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
        self._hooks = Hooks()  # before super: adding middleware sends signals
        super().__init__(middleware=middleware)
        if (url is None) == (client is None):
            raise ValueError("expected either url or client, got " + ("neither" if url is None else "both"))
        if client is None:
            assert url is not None
            client = connect(
                url, ca_path=ca_path, socket_timeout_s=socket_timeout_s, connect_timeout_s=connect_timeout_s
            )
        self.client = client
        self.namespace = namespace
        self.policy = policy or Policy()
        self.default_priority = priority_of({"priority": default_priority})
        self.queues: set[str] = set()
        self.settlement_sink: Callable[[Settlement], None] | None = None
        self.on_lease_lost: Callable[[Parcel], None] | None = None
        self.on_fetched: Callable[[list[Parcel]], None] | None = None
        self.on_settlement_refused: Callable[[Settlement], None] | None = None
        self._idle_block_s = idle_block_s
        self._revoke_after_s = revoke_after_s
        self._settle_linger_s = settle_linger_s
        self._look_ahead_factor = look_ahead_factor
        self._watch = GenerationWatch()
        self._limit_of = limit_of
        self._owner_name = owner_name or _random_name
        self._limits: tuple[int, tuple[str, ...]] = (0, ())
        self._holds: set[str] = set()
        self._holds_lock = threading.Lock()
        self._crews: list[Crew] = []
        self._crews_by_worker: dict[int, Crew] = {}
        self._buses: list[Bus] = []
        self._bus_by_queue: dict[str, Bus] = {}

        def make_bus(name: str) -> Bus:
            bus = Bus(client, Keys(name), self.policy, self._watch, send_timeout_s=send_timeout_s)
            self._buses.append(bus)
            return bus

        self._default_bus = make_bus(namespace)
        for shard, queue_names in (shards or {}).items():
            bus = make_bus(f"{namespace}-{shard}")
            for queue_name in queue_names:
                if queue_name in self._bus_by_queue:
                    raise ValueError(f"expected each queue on one shard, got {queue_name!r} on two")
                self._bus_by_queue[queue_name] = bus

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
        with self._holds_lock:
            self._crews.append(crew)
            for reason in self._holds:
                crew.hold(reason)

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

    def bus_of(self, queue_name: str) -> Bus:
        """Returns the tag that a queue is on."""
        return self._bus_by_queue.get(queue_name, self._default_bus)

    @property
    def locks(self) -> Locks:
        """The named locks."""
        return Locks(self._default_bus)

    def close(self) -> None:
        """Ends idle connections."""
        for bus in self._buses:
            bus.close()

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
                _when(message, delay_ms, None if arrived_us is None else arrived_us[i]),
            )
            for i, message in enumerate(messages)
        ]
        if len(self._buses) == 1:
            return self._default_bus.enqueue(postings, timeout_s=timeout_s)
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
        return pack(_encode(message), priority=priority, attempt=attempt_of(message.options))

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
            record = self._record(sent.copy(options=_sendable(message.options)))
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

    # --- settling ------------------------------------------------------------------------------------------------

    def record_settlement(self, settlement: Settlement) -> None:
        """Takes note of a decision: to the sink if there is one, else to the settler. Called in worker threads."""
        if self.settlement_sink is not None:
            self.settlement_sink(settlement)
        elif not self._submit(settlement):
            self.settle_batch([settlement])

    def submit_settlements(self, settlements: Iterable[Settlement]) -> None:
        """Has decisions executed in the background: batched, repeated until answered. Returns at once."""
        strangers = [settlement for settlement in settlements if not self._submit(settlement)]
        if strangers:
            self.settle_batch(strangers)

    def _submit(self, settlement: Settlement) -> bool:
        for crew in self._crews:
            if crew.owner == settlement.owner:
                crew.submit(settlement)
                return True
        return False

    def settle_batch(self, settlements: Sequence[Settlement]) -> list[Outcome]:
        """Executes decisions now; returns what became of each, in order. Raises BusUnavailable (repeating is safe)."""
        groups: dict[tuple[Bus, str], list[int]] = {}
        parcels: list[tuple[Crew, Parcel]] = []
        for i, s in enumerate(settlements):
            groups.setdefault((self.bus_of(s.queue_name), s.owner), []).append(i)
            for crew in self._crews:
                parcel = crew.held.get(s.message_id)
                if parcel is not None and parcel.delivery.is_of(s):
                    parcel.settling = True
                    parcels.append((crew, parcel))
        outcomes: dict[int, Outcome] = {}
        try:
            for (bus, _), numbers in groups.items():
                outcomes.update(zip(numbers, bus.settle([settlements[i] for i in numbers]), strict=True))
        except BaseException:  # an interrupt too leaves them unsettled
            for _, parcel in parcels:
                parcel.settling = False  # held still: its lease must be renewed until this is repeated
            raise
        for crew, parcel in parcels:
            if crew.held.get(parcel.message_id) is parcel:
                del crew.held[parcel.message_id]
        for i, outcome in outcomes.items():
            if outcome is Outcome.STALE:
                self.settlement_refused(settlements[i])
        return [outcomes[i] for i in range(len(settlements))]

    def settlement_refused(self, settlement: Settlement) -> None:
        """A decision was refused: another has taken the message, and this attempt must not count."""
        log.warning("Stale %s of message %s was refused.", settlement.verdict.name, settlement.message_id)
        if self.on_settlement_refused is not None:
            self.on_settlement_refused(settlement)

    def fetched(self, parcels: list[Parcel]) -> None:
        """Messages came, and are about to be handed to the threads."""
        if self.on_fetched is not None:
            try:
                self.on_fetched(parcels)
            except Exception:  # a listener is a stranger's code; the bus goes on
                log.exception("A listener failed when messages were fetched.")

    def cannot_be_decoded(self, settlement: Settlement) -> Settlement:
        """A message came that nobody can read, and is to be dead. Returns what is to become of it: for a ledger, which
        may have a row under its id. Must not raise."""
        return settlement

    def lease_lost(self, parcel: Parcel) -> None:
        """A message that runs here is another's by now, or was cancelled."""
        log.warning("Lost the lease of %s, which is still running here.", parcel.message_id)
        if self.on_lease_lost is not None:
            self.on_lease_lost(parcel)

    def held(self) -> list[Parcel]:
        """Returns what the workers of this process hold, running or not."""
        return [parcel for crew in self._crews for parcel in list(crew.held.values())]

    def health(self) -> list[CrewHealth]:
        """How the threads of this process's workers on the bus are; empty where no worker runs."""
        return [crew.health() for crew in list(self._crews)]

    def hold_fetching(self, reason: str) -> None:
        """Fetches nothing more and gives the unstarted back, until every reason given is taken back. Holds for workers
        that boot later too."""
        with self._holds_lock:
            self._holds.add(reason)
            for crew in self._crews:
                crew.hold(reason)

    def allow_fetching(self, reason: str) -> None:
        """Takes back one reason not to fetch."""
        with self._holds_lock:
            self._holds.discard(reason)
            for crew in self._crews:
                crew.allow(reason)

    # --- generations ---------------------------------------------------------------------------------------------

    @property
    def generation(self) -> Generation:
        """The life of the server's data that was seen last; number 0 before the first contact of a worker."""
        return self._watch.latest

    def on_generation(self, listener: Callable[[Generation, Generation], None]) -> None:
        """Calls `listener(before, now)` when the server was restarted, failed over or emptied. It must be quick."""
        self._watch.subscribe(listener)

    # --- look-ups, for a ledger that compares itself with the bus ----------------------------------------------------

    def absent(self, pairs: Iterable[tuple[str, str]]) -> set[str]:
        """Returns which of these messages are not on the bus: neither waiting, delayed nor held by a worker (a dead
        letter is not on it either).

        pairs: (queue name, message id), any number; asked for by the thousand: a call takes the server about half a
            millisecond. The answer is no picture of one instant: what moves meanwhile is there before and after, but a
            message sent after its call, or settled before it, looks absent.

        Raises BusUnavailable.
        """
        by_bus: dict[Bus, list[str]] = {}
        for queue_name, message_id in pairs:
            by_bus.setdefault(self.bus_of(q_name(queue_name)), []).append(message_id)
        return {name for bus, names in by_bus.items() for name in bus.absent(names)}

    def scan_ids(self, cursor: str | None = None, *, count: int = 1_000) -> tuple[str | None, list[str]]:
        """One step through the ids of all messages on the bus, over all shards.

        cursor: None to begin, then what the last step returned. count: about how many ids a step; the server reads as
            many whole messages for it, and sends their ids only.

        Returns (cursor of the next step, None: that was the last; ids). What is on the bus from the first step to the
        last is returned, maybe twice; what comes or goes meanwhile may be or not. Raises BusUnavailable.
        """
        shard, _, at = (cursor or "0:0").partition(":")
        number = int(shard)
        position, names = self._buses[number].scan_ids(int(at), count)
        if position:
            return f"{number}:{position}", names
        return (f"{number + 1}:0" if number + 1 < len(self._buses) else None), names

    def records(self, message_ids: Sequence[str]) -> list[Message[Any] | None]:
        """Reads messages, wherever they are, for instance some of `scan_ids`.

        Returns each as it would be delivered now (its present priority in its options); None for one that is not on the
        bus, was written by a newer version, or cannot be decoded. Raises BusUnavailable.
        """
        found: list[Message[Any] | None] = [None] * len(message_ids)
        for bus in self._buses:
            for i, record in enumerate(bus.records(message_ids)):
                if record:
                    found[i] = _readable(record)
        return found

    def leased(self, message_ids: Sequence[str]) -> dict[str, str]:
        """Returns message id → name of the worker process that holds it (`owner_name`); others are left out.

        Held is what runs, and what is fetched and not started. A lease past its end counts until a worker's next call.
        Raises BusUnavailable.
        """
        owners: dict[str, str] = {}
        for bus in self._buses:
            owners |= bus.leased(message_ids)
        return owners

    # --- administration ------------------------------------------------------------------------------------------

    def remove(self, queue_name: str, message_id: str, *, timeout_s: float | None = None) -> Removal:
        """Takes a message off the bus. REMOVED: it will not run. LEASED: a worker has it; one that this process has not
        started yet is taken back first. ABSENT: `enqueue` refuses it for `tombstone_s`. timeout_s: None: the bus's."""
        return self.take_off(queue_name, message_id, timeout_s=timeout_s).removal

    def take_off(
        self, queue_name: str, message_id: str, *, timeout_s: float | None = None, tombstone_s: float | None = None
    ) -> TakenOff:
        """As `remove`; also says which delivery of a removed message was lost with its worker. tombstone_s: None: the
        policy's."""
        for crew in self._crews:
            parcel = crew.work_queue.revoke_message(message_id)
            if parcel is not None:
                self.settle_batch([parcel.settlement(Verdict.RELEASE)])
        return self.bus_of(queue_name).take_off(queue_name, message_id, timeout_s=timeout_s, tombstone_s=tombstone_s)

    def is_younger_than(self, age_s: float, queue_name: str) -> bool:
        """Whether the server with this queue was restarted or emptied so lately: then what is absent there may still be
        running somewhere. Raises BusUnavailable."""
        return self.bus_of(queue_name).is_younger_than(age_s)

    def forget_removal(self, queue_name: str, message_id: str, *, timeout_s: float | None = None) -> bool:
        """Lets a message be sent that was removed when it was absent. Returns whether it was refused until now."""
        return self.bus_of(queue_name).forget_removal(message_id, timeout_s=timeout_s)

    def reprioritise(self, queue_name: str, message_id: str, priority: int) -> Change:
        """Gives a message that waits or is delayed another priority, 1-10."""
        return self.bus_of(queue_name).reprioritise(queue_name, message_id, priority_of({"priority": priority}))

    def pause_queue(self, queue_name: str) -> None:
        """Stops handing out a queue, for all workers. What runs goes on; sending goes on."""
        self.bus_of(queue_name).pause(queue_name, paused=True)

    def resume_queue(self, queue_name: str) -> None:
        """Hands out a queue again."""
        self.bus_of(queue_name).pause(queue_name, paused=False)

    def depth(self, queue_name: str, *, timeout_s: float | None = None) -> QueueDepth:
        """Counts a queue."""
        return self.bus_of(queue_name).depth(queue_name, timeout_s=timeout_s)

    def probe(self, *, timeout_s: float) -> None:
        """Whether all servers take writes now: raises BusUnavailable, BusFull or BusRefused if one does not. Asks them
        one after the other, each within timeout_s."""
        for bus in self._buses:
            bus.probe(timeout_s=timeout_s)

    def dead_letters(self, queue_name: str, *, limit: int = 100, offset: int = 0) -> list[DeadLetter]:
        """Lists dead letters of a queue, latest first."""
        return self.bus_of(queue_name).dead_letters(queue_name, limit=limit, offset=offset)

    def requeue_dead(self, queue_name: str, message_ids: Sequence[str]) -> list[bool]:
        """Sends dead letters again. Returns for each whether it was there."""
        return self.bus_of(queue_name).requeue_dead(queue_name, message_ids)

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


def _readable(record: bytes) -> Message[Any] | None:
    try:
        envelope = unpack(record)
        message: Message[Any] = Message.decode(envelope.payload)
        message.options["priority"] = envelope.priority
    except Exception:  # whatever it is, it is this message's fault alone; a worker will set it aside
        return None
    return message


def _random_name() -> str:
    return secrets.token_hex(6)


def _checked_owner(name: str) -> str:
    if not re.fullmatch(r"\S{1,120}", name) or name == "-":
        raise ValueError(f"expected owner_name() to give 1 to 120 characters without white space, got {name!r}")
    return name


def dated(message: Message[Any], delay_ms: int | None) -> Message[Any]:
    """Returns the message with its canonical queue and, if delayed, an `eta` option, for whoever looks at it."""
    if delay_ms is not None:
        if not 0 <= delay_ms <= _LONGEST_DELAY_MS:
            raise ValueError(f"expected delay to be 0 to {_LONGEST_DELAY_MS} ms (100 years), got {delay_ms!r}")
        return message.copy(queue_name=q_name(message.queue_name), options={"eta": current_millis() + delay_ms})
    if message.queue_name.endswith((".DQ", ".XQ")):
        return message.copy(queue_name=q_name(message.queue_name))
    return message


def _sendable(options: dict[str, Any]) -> dict[str, Any]:
    """Those of a message's options that can be encoded."""
    kept = {}
    for name, value in options.items():
        with contextlib.suppress(Exception):
            get_encoder().encode({name: value})
            kept[name] = value
    return kept


def _encode(message: Message[Any]) -> bytes:
    """As `message.encode()`, which looks its own fields up anew for every message, at the cost of the encoding."""
    if type(message) is not Message:
        return message.encode()
    return get_encoder().encode(
        {
            "queue_name": message.queue_name,
            "actor_name": message.actor_name,
            "args": message.args,
            "kwargs": message.kwargs,
            "options": message.options,
            "message_id": message.message_id,
            "message_timestamp": message.message_timestamp,
        }
    )


def _when(message: Message[Any], delay_ms: int | None, arrived_us: int | None) -> str:
    if delay_ms is not None:
        return f"d{delay_ms * 1000}" if delay_ms > 0 else ""
    eta_ms = message.options.get("eta")
    if isinstance(eta_ms, int | float) and eta_ms > 0 and (arrived_us is None or eta_ms * 1000 > arrived_us):
        return f"e{int(min(eta_ms, 9e12)) * 1000}"
    return "" if arrived_us is None else f"a{arrived_us}"


def _reason(parcel: Parcel) -> str:
    error = parcel.exception
    return "rejected" if error is None else f"{type(error).__name__}: {words_of(error)}"
