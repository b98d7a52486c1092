"""The calls to one tag's scripts, typed. Every Redis access of the package except the blocking pop is here.

A message's states and moves (the scripts' names in brackets):

    (sent) ──[enqueue]──→ waiting ──[fetch]──→ leased ──[settle a]──→ gone
       └─[enqueue, later]→ delayed ─[promote]→ waiting     ├─[settle x]→ dead ──[requeue_dead]→ waiting
                                                           ├─[settle r]→ delayed or waiting, later attempt
                                                           ├─[settle b]→ waiting, first score
                                                           ├─[settle w]→ delayed, uncounted
                                                           ├─[settle b<lane>]→ waiting in that lane, first score
                                                           └─[expire]──→ waiting, first score; one loss more
    waiting, delayed ──[remove]──→ gone          waiting ──[reprioritise]──→ waiting, other score

Waiting and delayed is a message of a limited actor in a lane of its queue (`limit.py`), all else is the same.

The fence of a delivery is at least the attempt of the record + 1, and grows with each delivery that counted: given back
(b, w) is as if not delivered, so the next delivery has the same fence, maybe with another owner; never the same claim.

What is lost where, and who mends it:

    crash point                                   state left                mended by
    sender, before enqueue executed               nothing                   the caller (it got an error, or is dead)
    sender, after it, answer lost                 waiting                   same call again: same answer, no effect
    worker, fetch executed, answer lost           leased                    same claim again hands out the same; if the
                                                                            worker is dead: the lease ends
    worker, between fetch and start               leased                    the lease ends
    worker, running                               leased                    the lease ends; one loss counted
    worker, settle executed, answer lost          settled                   same settle again: REPEATED or ABSENT
    worker frozen past its lease                  waiting or another's      its settle is STALE if another took it
    woken worker dies before it fetches           waiting, token gone       any blocked worker's time-out (idle_block_s)
    server restarts                               as its disk has it        new generation: no lease ends in the grace;
                                                                            workers renew, then go on
    server emptied                                nothing                   new generation: running messages register
                                                                            again; the rest is the ledger's to rebuild
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Sequence
from typing import Any, Final, cast

import redis

from .calls import (
    MOST_BYTES,
    MOST_MESSAGES,
    Catch,
    Change,
    Fetch,
    Posting,
    Receipt,
    Removal,
    TakenOff,
    chunks,
    decisions,
    deliveries_of,
    parts,
)
from .connect import RedisClient
from .dead_letter import DeadLetter
from .depth import PriorityDepth, QueueDepth
from .errors import BusUnavailable
from .generation import GenerationWatch
from .keys import Keys
from .line import Argument, Line, Lines
from .parcel import Delivery
from .policy import Policy
from .script import script
from .settlement import Outcome, Settlement

_MAX_RECORDS_A_CALL: Final = 100


class _Producer(threading.local):
    """The name under which a thread sends, and the number of its last call. Another one after a fork."""

    def __init__(self) -> None:
        self.pid = 0
        self.name = ""
        self.calls = 0

    def next_call(self) -> tuple[str, int]:
        if self.pid != os.getpid():
            self.pid, self.name, self.calls = os.getpid(), secrets.token_hex(8), 0
        self.calls += 1
        return self.name, self.calls


class Bus:
    """One tag: its keys, and the calls that change them. Safe for many threads.

    send_timeout_s: how long a call of a sender or an administrator may take, retries included.
    """

    def __init__(
        self, client: RedisClient, keys: Keys, policy: Policy, watch: GenerationWatch, *, send_timeout_s: float
    ) -> None:
        self.client = client
        self.keys = keys
        self.policy = policy
        self.watch = watch
        self._send_timeout_s = send_timeout_s
        self._steps = (policy.clock_offset_us, policy.step_us)
        self._answer_ttl_ms = int(policy.answer_ttl_s * 1000)
        self._lines = Lines(client, keys.prefix, steps=self._steps)
        self._producer = _Producer()

    def open_line(self, stop: threading.Event) -> Line:
        """Returns a line for a thread of a worker: it goes on trying until `stop` is set, and watches generations."""
        # After an outage leases must be renewed well within the grace.
        cap_s = min(2.0, self.policy.lease_s / 10)
        return Line(self.client, self.keys.prefix, steps=self._steps, stop=stop, watch=self.watch, backoff_cap_s=cap_s)

    def close(self) -> None:
        """Ends idle connections."""
        self._lines.close()

    # --- sending -------------------------------------------------------------------------------------------------

    def enqueue(self, postings: Sequence[Posting], *, timeout_s: float | None = None) -> list[Receipt]:
        """Sends messages in order, in as few calls as their number and size allow.

        timeout_s: for all of it; None: the bus's own.

        Returns a receipt for each. Raises BusUnavailable (some calls may have been executed; sending all again is
        safe), BusFull, BusRefused.
        """
        deadline_s = time.monotonic() + (self._send_timeout_s if timeout_s is None else timeout_s)
        receipts: list[Receipt] = []
        line = self._lines.take()
        try:
            for chunk in chunks(postings):
                receipts += self._enqueue_chunk(line, chunk, deadline_s)
        finally:
            self._lines.give_back(line)
        return receipts

    def _enqueue_chunk(self, line: Line, postings: Sequence[Posting], deadline_s: float) -> list[Receipt]:
        producer, call = self._producer.next_call()
        places: dict[str, int] = {}
        body: list[Argument] = []
        for message_id, record, queue_name, when in postings:
            place = places.setdefault(queue_name, len(places) + 1)
            body += (message_id, record, place, when)
        answer = line.call(
            script("enqueue"),
            producer,
            call,
            self._answer_ttl_ms,
            len(places),
            *places,
            *body,
            deadline_s=deadline_s,
        )
        return [_RECEIPTS[mark] for mark in cast("bytes", answer)]

    # --- workers -------------------------------------------------------------------------------------------------

    def fetch(self, line: Line, fetch: Fetch) -> Catch:
        """Takes messages off the queues for a worker process."""
        return self.caught(line, fetch, line.call(script("fetch"), *self._fetch_arguments(fetch)))

    def ask_fetch(self, line: Line, fetch: Fetch) -> bool:
        """Sends a fetch and does not wait; `line.answer` brings what `caught` reads. Returns whether it went out."""
        return line.ask(script("fetch"), *self._fetch_arguments(fetch))

    def _fetch_arguments(self, fetch: Fetch) -> tuple[Argument, ...]:
        policy = self.policy
        return (
            fetch.owner,
            fetch.claim,
            int(fetch.remember),
            fetch.room,
            policy.lease_us,
            policy.grace_us,
            policy.max_losses,
            policy.dead_letters_kept,
            fetch.woken_by,
            fetch.token_trips,
            len(fetch.queue_names),
            *fetch.queue_names,
            *fetch.limits,
        )

    def caught(self, line: Line, fetch: Fetch, reply: Sequence[Any]) -> Catch:
        """Reads the answer to a fetch."""
        self._seen(line, cast("int", reply[0]), cast("int", reply[1]))
        wait_us = cast("int", reply[2])
        return Catch(deliveries_of(reply[3:], fetch.owner), None if wait_us < 0 else wait_us / 1e6)

    def settle(self, settlements: Sequence[Settlement], *, line: Line | None = None) -> list[Outcome]:
        """Executes decisions; each is atomic, together they are one call per owner. Returns what became of each.

        line: of a worker's thread, which tries for ever; None: a borrowed one, within `send_timeout_s`.
        """
        if line is None:
            deadline_s = time.monotonic() + self._send_timeout_s
            with self._lines.borrow() as borrowed:
                return self._settle(borrowed, settlements, deadline_s)
        return self._settle(line, settlements, None)

    def _settle(self, line: Line, settlements: Sequence[Settlement], deadline_s: float | None) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for first in range(0, len(settlements), MOST_MESSAGES):
            part = settlements[first : first + MOST_MESSAGES]
            answers = line.call(
                script("settle"),
                part[0].owner,
                self.policy.dead_letters_kept,
                *decisions(part),
                deadline_s=deadline_s,
            )
            outcomes += [_OUTCOMES[answer] for answer in cast("list[int]", answers)]
        return outcomes

    def renew(self, line: Line, owner: str, held: Sequence[Delivery]) -> list[Outcome]:
        """Prolongs leases. Returns DONE, ABSENT or STALE for each."""
        body: list[Argument] = []
        for d in held:
            body += (d.message_id, f"{d.fence}:{d.claim}")
        reply = cast("list[int]", line.call(script("renew"), owner, self.policy.lease_us, *body))
        self._seen(line, reply[0], reply[1])
        return [Outcome(answer) for answer in reply[2:]]

    def reregister(self, line: Line, owner: str, deliveries: Sequence[Delivery]) -> list[Outcome]:
        """Puts running messages back on a server that lost them. Returns DONE or STALE for each."""
        body: list[Argument] = []
        for d in deliveries:
            body += (d.message_id, f"{d.fence}:{d.claim}", d.losses, d.score, d.lane or d.queue_name, d.record)
        reply = line.call(script("reregister"), owner, self.policy.lease_us, *body)
        return [Outcome(answer) for answer in cast("list[int]", reply)]

    def tidy(self, line: Line) -> int:
        """Upkeep that must not wait for traffic. Returns how many old dead letters went."""
        p = self.policy
        age_us = int(p.dead_letter_age_s * 1e6)
        return cast("int", line.call(script("tidy"), age_us, p.grace_us, p.max_losses, p.dead_letters_kept, p.lease_us))

    def nudge(self, line: Line) -> None:
        """Wakes a blocked worker for each queue with messages."""
        line.call(script("nudge"), deadline_s=time.monotonic() + 1.0)

    def poke(self, owner: str) -> None:
        """Ends the blocked pop of a worker process."""
        self._ask("poke", owner)

    # --- administration ------------------------------------------------------------------------------------------

    def take_off(
        self, queue_name: str, message_id: str, *, timeout_s: float | None = None, tombstone_s: float | None = None
    ) -> TakenOff:
        """Takes one message off the bus, if no worker has it. tombstone_s: how long it is refused if it was absent;
        None: as the policy says."""
        tombstone_us = int((self.policy.tombstone_s if tombstone_s is None else tombstone_s) * 1e6)
        reply = self._ask("remove", queue_name, message_id, tombstone_us, timeout_s=timeout_s)
        found, *lost = cast("list[int | bytes]", reply)
        if not lost:
            return TakenOff(Removal(found))
        number, owner = cast("list[bytes]", lost)
        return TakenOff(Removal(found), int(number), owner.decode())

    def forget_removal(self, message_id: str, *, timeout_s: float | None = None) -> bool:
        """Takes a tombstone away, so that the message may be sent after all. Returns whether there was one."""
        return self._ask("revive", message_id, timeout_s=timeout_s) == 1

    def is_younger_than(self, age_s: float) -> bool:
        """Whether the present generation began so lately, or has not been seen to begin."""
        try:
            since_us = cast("bytes | None", self.client.hget(self.keys.prefix + "generation", "since_us"))
            seconds, microseconds = self.client.time()
        except redis.RedisError as error:
            raise BusUnavailable(f"no answer from the Redis server: {error}") from error
        return since_us is None or seconds + microseconds / 1e6 - int(since_us) / 1e6 < age_s

    def reprioritise(self, queue_name: str, message_id: str, priority: int) -> Change:
        """Changes the priority (1-10) of a message that waits or is delayed."""
        return Change(self._ask("reprioritise", queue_name, message_id, priority))

    def pause(self, queue_name: str, *, paused: bool) -> None:
        """Stops or resumes the handing out of a queue."""
        self._ask("pause", queue_name, int(paused))

    def depth(self, queue_name: str, *, timeout_s: float | None = None) -> QueueDepth:
        """Counts a queue. timeout_s: for all of it; None: the bus's own."""
        strict = int(self.policy.ageing_s_per_priority is None)
        reply = cast("list[int]", self._ask("depth", queue_name, strict, timeout_s=timeout_s))
        waiting, delayed, leased, dead, paused, due_us = reply[:6]
        priorities = [PriorityDepth(reply[i], reply[i + 1], reply[i + 2] / 1e6) for i in range(6, len(reply), 3)]
        return QueueDepth(
            queue_name, waiting, delayed, leased, dead, bool(paused), None if due_us < 0 else due_us / 1e6, priorities
        )

    def probe(self, *, timeout_s: float) -> None:
        """Writes something, as who sends does. Raises BusUnavailable, BusFull, BusRefused."""
        self._ask("probe", timeout_s=timeout_s)

    def dead_letters(self, queue_name: str, *, limit: int, offset: int) -> list[DeadLetter]:
        """Lists dead letters of a queue, latest first."""
        reply = cast("list[bytes]", self._ask("dead_letters", queue_name, offset, limit))
        return [DeadLetter.read(queue_name, reply[i], reply[i + 1], reply[i + 2]) for i in range(0, len(reply), 3)]

    def requeue_dead(self, queue_name: str, message_ids: Sequence[str]) -> list[bool]:
        """Sends dead letters again. Returns for each whether it was there."""
        if not message_ids:
            return []
        return [answer == 1 for answer in cast("list[int]", self._ask("requeue_dead", queue_name, *message_ids))]

    def flush(self, queue_name: str) -> int:
        """Drops all messages of a queue, dead letters too. Returns how many were alive."""
        total = 0
        while dropped := cast("int", self._ask("flush", queue_name)):
            total += dropped
        return total

    # --- the ledger's look-ups -----------------------------------------------------------------------------------

    def absent(self, message_ids: Sequence[str]) -> set[str]:
        """Returns those that neither wait, are delayed nor leased."""
        found: set[str] = set()
        for part in parts(message_ids):
            found.update(part[at - 1] for at in cast("list[int]", self._ask("absent", *part)))
        return found

    def leased(self, message_ids: Sequence[str]) -> dict[str, str]:
        """Returns message id → owner, of those that a worker holds."""
        owners: dict[str, str] = {}
        for part in parts(message_ids):
            names = cast("list[bytes]", self._ask("leased", *part))
            owners.update((name, owner.decode()) for name, owner in zip(part, names, strict=True) if owner)
        return owners

    def records(self, message_ids: Sequence[str]) -> list[bytes]:
        """Returns the record of each, empty for one that is absent."""
        records: list[bytes] = []
        while len(records) < len(message_ids):
            part = message_ids[len(records) : len(records) + _MAX_RECORDS_A_CALL]
            records += cast("list[bytes]", self._ask("records", MOST_BYTES, *part))
        return records

    def scan_ids(self, cursor: int, count: int) -> tuple[int, list[str]]:
        """Returns the next cursor (0: done) and some ids."""
        reply = cast("list[bytes]", self._ask("scan_ids", cursor, count))
        return int(reply[0]), [name.decode(errors="replace") for name in reply[1:]]

    def ask(self, name: str, *arguments: Argument, timeout_s: float | None = None) -> object:
        """Runs a script that another part of the bus has."""
        return self._ask(name, *arguments, timeout_s=timeout_s)

    def _ask(self, name: str, *arguments: Argument, timeout_s: float | None = None) -> object:
        deadline_s = time.monotonic() + (self._send_timeout_s if timeout_s is None else timeout_s)
        with self._lines.borrow() as line:
            return cast("object", line.call(script(name), *arguments, deadline_s=deadline_s))

    def _seen(self, line: Line, number: int, since_us: int) -> None:
        if number == 0:
            line.greet()  # emptied under an open connection
        else:
            self.watch.seen(number, since_us)


_OUTCOMES: Final = {outcome.value: outcome for outcome in Outcome}
_RECEIPTS: Final = {ord(receipt.value): receipt for receipt in Receipt}
