"""The bus against a small model of it: whatever is done in whatever order, both give out the same messages.

The model knows no scripts: lists of messages with a state each, and rules of a line. Time is the server's plus an
offset that the test moves: arrivals happen at whole thousands of seconds, due times and leases end between them, so the
milliseconds that really pass decide nothing. Held here: order, no loss, no double delivery within a lease, fences.
"""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.workers.broker import scale
from tests.workers.broker.server import Server
from workers.broker import Limit, Outcome, Policy, Receipt, Removal, Verdict
from workers.broker.bus import Bus
from workers.broker.calls import Change, Fetch, Posting
from workers.broker.envelope import pack
from workers.broker.generation import GenerationWatch
from workers.broker.keys import Keys
from workers.broker.line import Line
from workers.broker.parcel import Delivery

QUEUES = ("red", "blue")
OWNERS: tuple[str, ...] = ("ann", "bob")
LEASE_S = 10_250
POLICY = Policy(lease_s=LEASE_S, dead_letters_kept=1_000)
GRACE_S = POLICY.grace_us // 1_000_000

_server: Server | None = None
_tags = (f"model{i}" for i in itertools.count())


@dataclass
class Model:
    """One message. order: (seconds, number), its place among equals of its priority. lane: '' if it is of none."""

    message_id: str
    queue: str
    priority: int
    order: tuple[int, int]
    lane: str = ""
    attempt: int = 0
    state: str = "waiting"
    due_s: int = 0
    fence: int = 0
    claim: int = 0
    owner: str = "-"
    until_s: int = 0

    def is_held_as(self, delivery: Delivery) -> bool:
        return (self.owner, self.fence, self.claim) == (delivery.owner, delivery.fence, delivery.claim)

    def place(self) -> tuple[int, tuple[int, int]]:
        return -self.priority, self.order


class BusMachine(RuleBasedStateMachine):
    """Does the same to both."""

    def __init__(self) -> None:
        super().__init__()
        assert _server is not None
        self.server = _server
        self.client = self.server.client()
        self.keys = Keys(next(_tags))
        self.watch = GenerationWatch()
        self.stop = threading.Event()
        self.now_s = 0
        self.latest_s = -(10**9)  # arrivals never go back, even if the clock does; a new tag has seen none
        self.restarted_s = -(10**9)
        self.numbers = itertools.count()
        self.messages: dict[str, Model] = {}
        self.dead: dict[str, Model] = {}
        self.tombs: dict[str, int] = {}
        self.paused: set[str] = set()
        self.claims = dict.fromkeys(OWNERS, 0)
        self.in_hand: dict[str, list[Delivery]] = {owner: [] for owner in OWNERS}
        self.last_catch: dict[str, list[Delivery]] = {owner: [] for owner in OWNERS}
        self.past: list[Delivery] = []

    @initialize()
    def begin(self) -> None:
        self.connect()
        self.line.greet()

    def connect(self) -> None:
        policy = replace(POLICY, clock_offset_us=self.now_s * 1_000_000)
        self.bus = Bus(self.client, self.keys, policy, self.watch, send_timeout_s=10)
        self.line: Line = self.bus.open_line(self.stop)

    def reconnect(self) -> None:
        self.line.close()
        self.bus.close()
        self.connect()

    def teardown(self) -> None:
        for queue in QUEUES:
            self.bus.flush(queue)
        self.line.close()
        self.bus.close()
        self.client.close()

    # --- the model's rules of time -------------------------------------------------------------------------------

    def pass_time(self) -> None:
        """What every fetch does before it takes anything."""
        for m in self.messages.values():
            if m.state == "leased" and m.until_s <= self.now_s and self.now_s >= self.restarted_s + GRACE_S:
                m.state = "waiting"
            elif m.state == "delayed" and m.due_s <= self.now_s:
                m.state, m.order = "waiting", (m.due_s, m.order[1])
                self.latest_s = max(self.latest_s, m.due_s)

    def arrival(self) -> tuple[int, int]:
        self.latest_s = max(self.latest_s, self.now_s)
        return self.latest_s, next(self.numbers)

    # --- sending -------------------------------------------------------------------------------------------------

    @rule(
        batch=st.lists(
            st.tuples(st.sampled_from(QUEUES), st.integers(1, 10), st.sampled_from([0, 0, 0, 500, 2_500, 7_500])),
            min_size=1,
            max_size=5,
        )
    )
    def enqueue(self, batch: list[tuple[str, int, int]]) -> None:
        postings: list[Posting] = []
        for queue, priority, delay_s in batch:
            order = self.arrival()
            m = Model(f"m{order[1]}", queue, priority, order)
            if delay_s:
                m.state, m.due_s = "delayed", self.now_s + delay_s
            self.messages[m.message_id] = m
            when = f"d{delay_s * 1_000_000}" if delay_s else ""
            postings.append(Posting(m.message_id, pack(b"{}", priority=priority, attempt=0), queue, when))
        assert self.bus.enqueue(postings) == [Receipt.TAKEN] * len(postings)

    @precondition(lambda self: self.messages)
    @rule(data=st.data(), later=st.booleans())
    def enqueue_again(self, data: st.DataObject, later: bool) -> None:
        m = data.draw(st.sampled_from(sorted(self.messages.values(), key=lambda m: m.message_id)))
        attempt = m.attempt + int(later)
        posting = Posting(m.message_id, pack(b"{}", priority=m.priority, attempt=attempt), m.lane or m.queue)
        receipt = self.bus.enqueue([posting])
        if not later:
            assert receipt == [Receipt.PRESENT]
            return
        assert receipt == [Receipt.TAKEN]
        m.state, m.attempt, m.owner, m.order = "waiting", attempt, "-", self.arrival()

    # --- fetching ------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.messages)
    @rule(
        owner=st.sampled_from(OWNERS),
        room=st.integers(1, 6),
        queues=st.sampled_from([QUEUES, QUEUES[:1], QUEUES[1:]]),
    )
    def fetch(self, owner: str, room: int, queues: tuple[str, ...]) -> None:
        self.claims[owner] += 1
        catch = self.take(owner, room, queues)
        self.pass_time()
        ready = [
            m
            for m in self.messages.values()
            if m.state == "waiting" and m.queue in queues and m.queue not in self.paused
        ]
        expected = sorted(ready, key=Model.place)[:room]
        assert [d.message_id for d in catch] == [m.message_id for m in expected]
        for delivery, m in zip(catch, expected, strict=True):
            m.fence = max(m.fence, m.attempt) + 1
            m.state, m.owner, m.until_s = "leased", owner, self.now_s + LEASE_S
            m.claim = self.claims[owner]
            assert delivery.fence == m.fence
        if catch:
            self.last_catch[owner] = catch
        self.in_hand[owner] += catch

    def take(self, owner: str, room: int, queues: tuple[str, ...]) -> list[Delivery]:
        return self.bus.fetch(
            self.line, Fetch(owner=owner, claim=self.claims[owner], room=room, queue_names=queues, remember=True)
        ).deliveries

    @precondition(lambda self: any(self.last_catch.values()))
    @rule(owner=st.sampled_from(OWNERS))
    def fetch_again_because_the_answer_was_lost(self, owner: str) -> None:
        if self.claims[owner] == 0 or not self.last_catch[owner]:
            return
        again = self.take(owner, 6, QUEUES)
        still = [
            d
            for d in self.last_catch[owner]
            if (m := self.messages.get(d.message_id)) and m.state == "leased" and m.owner == owner
        ]
        # An empty claim came between: nothing may be handed out for it either.
        assert [d.message_id for d in again] in ([d.message_id for d in still], [])

    @precondition(lambda self: any(claim > 1 for claim in self.claims.values()))
    @rule(owner=st.sampled_from(OWNERS))
    def late_copy_of_an_old_fetch(self, owner: str) -> None:
        if self.claims[owner] < 2:
            return
        reply = self.bus.fetch(
            self.line, Fetch(owner=owner, claim=self.claims[owner] - 1, room=5, queue_names=QUEUES, remember=True)
        )
        assert reply.deliveries == []

    @precondition(lambda self: any(self.in_hand.values()))
    @rule(owner=st.sampled_from(OWNERS))
    def crash(self, owner: str) -> None:
        self.past += self.in_hand[owner]
        self.in_hand[owner] = []

    # --- settling ------------------------------------------------------------------------------------------------

    @precondition(lambda self: any(self.in_hand.values()))
    @rule(
        decisions=st.lists(
            st.tuples(st.sampled_from(list(Verdict)), st.sampled_from([0, 500, 3_500]), st.booleans()),
            min_size=1,
            max_size=6,
        )
    )
    def settle(self, decisions: list[tuple[Verdict, int, bool]]) -> None:
        for owner in OWNERS:
            for delivery, decision in zip(list(self.in_hand[owner]), decisions, strict=False):
                self.settle_one(owner, delivery, *decision)

    def settle_one(self, owner: str, delivery: Delivery, verdict: Verdict, delay_s: int, twice: bool) -> None:
        self.in_hand[owner].remove(delivery)
        self.past.append(delivery)
        m = self.messages.get(delivery.message_id)
        details: dict[str, Any] = {}
        if verdict is Verdict.RETRY:
            attempt = (m.attempt if m else 0) + 1
            details = {"record": pack(b"{}", priority=m.priority if m else 5, attempt=attempt)}
        if verdict in (Verdict.RETRY, Verdict.DEFER):
            details["delay_ms"] = delay_s * 1_000
        settlement = delivery.settlement(verdict, **details)
        outcome = self.bus.settle([settlement])[0]
        if m is None:
            assert outcome is Outcome.ABSENT
            return
        if not m.is_held_as(delivery):
            assert outcome in (Outcome.STALE, Outcome.REPEATED)
            return
        assert outcome is Outcome.DONE
        self.apply(m, verdict, delay_s)
        if twice:
            assert self.bus.settle([settlement])[0] is not Outcome.DONE

    def apply(self, m: Model, verdict: Verdict, delay_s: int) -> None:
        if verdict is Verdict.ACK:
            del self.messages[m.message_id]
        elif verdict is Verdict.DEAD:
            self.dead[m.message_id] = self.messages.pop(m.message_id)
        elif verdict is Verdict.RETRY:
            m.attempt, m.owner = m.attempt + 1, "-"
            m.order = self.arrival()
            m.state = "delayed" if delay_s else "waiting"
            m.due_s = self.now_s + delay_s
        else:
            m.fence, m.owner = m.fence - 1, "-"
            m.state = "waiting"
            if verdict is Verdict.DEFER and delay_s:
                m.state, m.due_s, m.order = "delayed", self.now_s + delay_s, (m.order[0], next(self.numbers))
            elif verdict is Verdict.DEFER:
                m.state, m.due_s, m.order = "delayed", self.now_s, (m.order[0], next(self.numbers))

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def stale_ack(self, data: st.DataObject) -> None:
        delivery = data.draw(st.sampled_from(self.past))
        m = self.messages.get(delivery.message_id)
        if m is not None and m.is_held_as(delivery):
            return  # it is the holder's, after a crash that was none
        settlement = delivery.settlement(Verdict.ACK)
        assert self.bus.settle([settlement])[0] is (Outcome.ABSENT if m is None else Outcome.STALE)

    @precondition(lambda self: any(self.in_hand.values()))
    @rule(owner=st.sampled_from(OWNERS))
    def renew(self, owner: str) -> None:
        held = self.in_hand[owner]
        if not held:
            return
        outcomes = self.bus.renew(self.line, owner, held)
        for delivery, outcome in zip(list(held), outcomes, strict=True):
            m = self.messages.get(delivery.message_id)
            if m is not None and m.is_held_as(delivery):
                assert outcome is Outcome.DONE
                m.state, m.until_s = "leased", self.now_s + LEASE_S
            else:
                assert outcome is (Outcome.ABSENT if m is None else Outcome.STALE)
                held.remove(delivery)
                self.past.append(delivery)

    # --- time and the server -------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1_000, 1_000, 3_000, 11_000, -2_000]))
    def jump(self, seconds: int) -> None:
        self.now_s += seconds
        self.reconnect()

    @precondition(lambda self: self.claims["ann"] % 9 == 5 and self.in_hand["ann"])
    @rule()
    def restart(self) -> None:
        self.line.close()
        self.server.kill()
        self.server.start()
        self.reconnect()
        self.line.greet()
        self.restarted_s = self.now_s

    # --- administration ------------------------------------------------------------------------------------------

    @rule(queue=st.sampled_from(QUEUES))
    def pause_or_resume(self, queue: str) -> None:
        self.paused ^= {queue}
        self.bus.pause(queue, paused=queue in self.paused)

    @precondition(lambda self: self.messages)
    @rule(data=st.data(), priority=st.integers(1, 10))
    def reprioritise(self, data: st.DataObject, priority: int) -> None:
        m = data.draw(st.sampled_from(sorted(self.messages.values(), key=lambda m: m.message_id)))
        change = self.bus.reprioritise(m.queue, m.message_id, priority)
        if m.state == "leased":
            assert change is Change.LEASED
        else:
            assert change is Change.CHANGED
            m.priority = priority

    @precondition(lambda self: self.messages)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        m = data.draw(st.sampled_from(sorted(self.messages.values(), key=lambda m: m.message_id)))
        removal = self.bus.take_off(m.queue, m.message_id).removal
        if m.state == "leased":
            assert removal is Removal.LEASED
        else:
            assert removal is Removal.REMOVED
            del self.messages[m.message_id]

    @precondition(lambda self: not self.messages)
    @rule(queue=st.sampled_from(QUEUES))
    def remove_before_it_came(self, queue: str) -> None:
        message_id = f"m{next(self.numbers)}"
        posting = Posting(message_id, pack(b"{}", priority=5, attempt=0), queue)

        assert self.bus.take_off(queue, message_id).removal is Removal.ABSENT

        assert self.bus.enqueue([posting]) == [Receipt.CANCELLED]
        assert self.bus.forget_removal(message_id)

    @precondition(lambda self: self.dead)
    @rule(data=st.data())
    def requeue_dead(self, data: st.DataObject) -> None:
        m = data.draw(st.sampled_from(sorted(self.dead.values(), key=lambda m: m.message_id)))
        assert self.bus.requeue_dead(m.queue, [m.message_id]) == [True]
        del self.dead[m.message_id]
        m.state, m.fence, m.owner, m.order = "waiting", 0, "-", (self.now_s, next(self.numbers))
        m.lane = ""  # the next worker that knows its limit puts it there
        self.messages[m.message_id] = m

    @invariant()
    def counts_agree(self) -> None:
        if not hasattr(self, "bus"):
            return
        for queue in QUEUES:
            depth = self.bus.depth(queue)
            states = [m.state for m in self.messages.values() if m.queue == queue]
            counted = (depth.waiting, depth.delayed, depth.leased)
            assert counted == tuple(states.count(s) for s in ("waiting", "delayed", "leased"))
            assert depth.dead == sum(m.queue == queue for m in self.dead.values())
            assert depth.paused == (queue in self.paused)

    @invariant()
    def every_lease_has_its_delivery_on_record(self) -> None:
        # A fetch relies on it: with no more deliveries than leases it looks none up.
        if hasattr(self, "bus"):
            leases = self.client.zrange(f"{self.keys.prefix}leases", 0, -1)
            assert not leases or None not in self.client.hmget(f"{self.keys.prefix}deliveries", leases)


LIMITS = {
    "slim": Limit(concurrency=2),
    "rare": Limit(rate=3, per_s=2_750),  # windows end where nothing else happens
    "both": Limit(concurrency=3, rate=2, per_s=1_750),
}
SOURCES = ("red", "red|slim", "red|both", "blue", "blue|slim", "blue|rare")


class LimitsMachine(BusMachine):
    """The same with limited actors: whatever happens to permits, the right messages are handed out, and no others."""

    def __init__(self) -> None:
        super().__init__()
        self.starts: dict[str, dict[tuple[str, int], int]] = {source: {} for source in SOURCES}

    @rule(
        batch=st.lists(
            st.tuples(st.sampled_from(SOURCES), st.integers(1, 10), st.sampled_from([0, 0, 0, 500, 2_500])),
            min_size=1,
            max_size=6,
        )
    )
    def enqueue(self, batch: list[tuple[str, int, int]]) -> None:
        postings: list[Posting] = []
        for source, priority, delay_s in batch:
            order = self.arrival()
            queue, mark, _ = source.partition("|")
            m = Model(f"m{order[1]}", queue, priority, order, lane=source if mark else "")
            if delay_s:
                m.state, m.due_s = "delayed", self.now_s + delay_s
            self.messages[m.message_id] = m
            when = f"d{delay_s * 1_000_000}" if delay_s else ""
            postings.append(Posting(m.message_id, pack(b"{}", priority=priority, attempt=0), source, when))
        assert self.bus.enqueue(postings) == [Receipt.TAKEN] * len(postings)

    def free(self, lane: str) -> tuple[int, int]:
        """How many permits the lane has by its concurrency and by its rate."""
        limit = LIMITS[lane.partition("|")[2]]
        leased = sum(m.state == "leased" and m.lane == lane for m in self.messages.values())
        recent = sum(at_s > self.now_s - (limit.per_s or 0) for at_s in self.starts[lane].values())
        return (limit.concurrency or 99) - leased, (limit.rate or 99) - recent

    @precondition(lambda self: self.messages)
    @rule(
        owner=st.sampled_from(OWNERS),
        room=st.integers(1, 6),
        queues=st.sampled_from([QUEUES, QUEUES[:1], QUEUES[1:]]),
        knows=st.sampled_from([True, True, True, False]),
    )
    def fetch(self, owner: str, room: int, queues: tuple[str, ...], knows: bool) -> None:
        self.claims[owner] += 1
        limits = [limit.wire(name) for name, limit in LIMITS.items()] if knows else []
        catch = self.bus.fetch(
            self.line,
            Fetch(owner=owner, claim=self.claims[owner], room=room, queue_names=queues, remember=True, limits=limits),
        )
        self.pass_time()
        ready = [
            m
            for m in self.messages.values()
            if m.state == "waiting" and m.queue in queues and m.queue not in self.paused
        ]
        expected: list[Model] = []
        for m in sorted(ready, key=Model.place):
            if len(expected) < room and (not m.lane or not knows or min(self.free(m.lane)) > 0):
                expected.append(m)
                m.fence = max(m.fence, m.attempt) + 1
                m.state, m.owner, m.until_s = "leased", owner, self.now_s + LEASE_S
                m.claim = self.claims[owner]
                if m.lane and knows:
                    self.starts[m.lane][m.message_id, m.fence] = self.now_s
        assert [(d.message_id, d.fence, d.lane) for d in catch.deliveries] == [
            (m.message_id, m.fence, m.lane or m.queue) for m in expected
        ]
        if len(expected) < room and knows:
            self.is_told_when_to_come_again(catch.wait_s, [m for m in ready if m.state == "waiting"])
        if catch.deliveries:
            self.last_catch[owner] = catch.deliveries
        self.in_hand[owner] += catch.deliveries

    def is_told_when_to_come_again(self, wait_s: float | None, left: list[Model]) -> None:
        for m in left:
            by_concurrency, by_rate = self.free(m.lane)
            if by_concurrency > 0 >= by_rate:
                per_s = LIMITS[m.lane.partition("|")[2]].per_s or 0
                recent = [at_s for at_s in self.starts[m.lane].values() if at_s > self.now_s - per_s]
                assert wait_s is not None
                assert wait_s <= min(recent) + per_s - self.now_s + 1

    def apply(self, m: Model, verdict: Verdict, delay_s: int) -> None:
        if verdict in (Verdict.RELEASE, Verdict.DEFER) and m.lane:
            self.starts[m.lane].pop((m.message_id, m.fence), None)
        super().apply(m, verdict, delay_s)

    @precondition(lambda self: any(self.in_hand.values()))
    @rule(owner=st.sampled_from(OWNERS), actor=st.sampled_from(["slim", "both"]))
    def sent_to_the_queue_by_one_who_knows_no_limit(self, owner: str, actor: str) -> None:
        for delivery in list(self.in_hand[owner]):
            m = self.messages.get(delivery.message_id)
            if m is None or m.lane or m.queue != "red" or not m.is_held_as(delivery):
                continue
            self.in_hand[owner].remove(delivery)
            self.past.append(delivery)
            lane = f"red|{actor}"
            settlement = delivery.settlement(Verdict.RELEASE, lane=lane)
            assert self.bus.settle([settlement]) == [Outcome.DONE]
            super().apply(m, Verdict.RELEASE, 0)
            m.lane = lane
            return

    @rule(seconds=st.sampled_from([1_000, 1_000, 3_000, 11_000]))
    def jump(self, seconds: int) -> None:
        self.now_s += seconds
        self.reconnect()

    @invariant()
    def permits_are_the_leases(self) -> None:
        if not hasattr(self, "bus"):
            return
        for lane in SOURCES:
            held = self.client.smembers(f"{self.keys.prefix}queue:{lane}:held")
            leased = {m.message_id.encode() for m in self.messages.values() if m.state == "leased" and m.lane == lane}
            assert held == leased


@pytest.mark.timeout(900)
@pytest.mark.parametrize("machine", [BusMachine, LimitsMachine])
def test_the_bus_and_its_model_agree(any_server: Server, machine: type[BusMachine]) -> None:
    global _server
    _server = any_server
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=scale.MODEL_EXAMPLES,
            stateful_step_count=scale.MODEL_STEPS,
            deadline=None,
            suppress_health_check=[*HealthCheck],
        ),
    )
