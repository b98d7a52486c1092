"""Upkeep: what keeps ledger and bus in step, done by whichever process lives.

Every process of the system (workers, scheduler, web) runs a thread of this. A chore is done by one of them at a time,
who holds it in the table `chores` for a few periods; if it dies, another takes it when that has passed. Two that do it
at once, because one was frozen, do no harm: each chore is safe to be done twice. The table shows when each ran last and
what it found.

    relay        rows without a message are sent                               every second
    rescue       tasks of dead workers go back                                 every heartbeat
    cancel       requests that could not be carried out at once                every second
    obey         tasks that run in this very process are told to end           every half second, by each process
    reconcile    recent rows and their messages are compared                   every 10 s
    sweep        all rows and all messages are compared                        every minute, and after the bus was
                                                                               restarted or emptied
    prune        what is older than its retention goes                         every minute, or at once if there is more

A chore that fails is logged once and tried again at its next time.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from models import direct, task_upkeep
from models.database import DatabaseError
from workers.broker import BusFull, BusUnavailable, Generation
from workers.ledger import cancel, reconcile
from workers.ledger.bus import LedgerBroker
from workers.ledger.relay import BATCH, relay
from workers.ledger.rescue import rescue

TICK_S: Final = 0.5
OBEY_S: Final = 0.5
HELD_PERIODS: Final = 3
"""A chore is held for so many of its periods, and at least HELD_AT_LEAST_S."""
HELD_AT_LEAST_S: Final = 3.0

_logger = logging.getLogger(__name__)

Findings = Mapping[str, int]


@dataclass
class Chore:
    """One piece of upkeep. run: returns counts by name. is_shared: one process does it for all."""

    name: str
    every_s: float
    run: Callable[[], Findings]
    due_s: float = 0.0
    is_shared: bool = True
    failed: bool = field(default=False)


class Upkeep:
    """The thread of one process.

    Args:
        holder: names this process in the table.
        relay_s, reconcile_s, sweep_s: periods.
        settle_after_s: how long after a change of the bus's generation its workers have put back what they hold.
        prune: removes what is too old for a while; returns counts, of which `more` asks for another turn at once.
        interrupt: ends a task that runs in this process.
    """

    def __init__(
        self,
        broker: LedgerBroker,
        *,
        holder: str,
        relay_s: float = 1.0,
        reconcile_s: float = 10.0,
        sweep_s: float = 60.0,
        settle_after_s: float,
        prune: Callable[[], Findings] | None = None,
        interrupt: Callable[[str], object] | None = None,
    ) -> None:
        self._broker = broker
        self._ledger = broker.ledger
        self._holder = holder
        self._settle_after_s = settle_after_s
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._steady_since_s: float | None = None
        self._last_rescue_s = 0.0
        rescue_s = self._ledger.presence.heartbeat_s
        self._sweep = Chore("sweep", sweep_s, self._do_sweep, due_s=time.monotonic() + sweep_s / 2)
        self._chores = [
            Chore("relay", relay_s, self._do_relay),
            Chore("cancel", relay_s, self._do_cancel),
            Chore("rescue", rescue_s, self._do_rescue),
            Chore("reconcile", reconcile_s, self._do_reconcile, due_s=time.monotonic() + reconcile_s / 2),
            self._sweep,
        ]
        if prune is not None:
            self._chores.append(Chore("prune", 60.0, prune))
        self._interrupt = interrupt
        if interrupt is not None:
            self._chores.append(Chore("obey", OBEY_S, self._do_obey, is_shared=False))
        broker.on_generation(self._generation_changed)

    def start(self) -> None:
        """Begin, in a thread."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="callboard-upkeep", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End; a chore that is being done is finished."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(2.0)

    def run_due(self) -> None:
        """Do what is due and not another's. Raises nothing."""
        for chore in self._chores:
            now_s = time.monotonic()
            if now_s >= chore.due_s and not self._stopping.is_set():
                chore.due_s = now_s + chore.every_s
                self._do(chore)

    def _run(self) -> None:
        tick_s = min(TICK_S, *(chore.every_s for chore in self._chores))
        while not self._stopping.wait(tick_s):
            self.run_due()

    def _do(self, chore: Chore) -> None:
        try:
            if chore.is_shared and not self._take(chore):
                return
            began_s = time.monotonic()
            findings = chore.run()
            if findings.get("more"):
                chore.due_s = 0.0
            if chore.is_shared:
                self._record(chore, time.monotonic() - began_s, findings, None)
            if chore.failed:
                _logger.warning("the chore %s works again", chore.name)
            chore.failed = False
        except (DatabaseError, BusUnavailable, BusFull) as error:
            if not chore.failed:
                _logger.warning("the chore %s cannot be done now, and is tried again: %s", chore.name, error)
            chore.failed = True
            if chore.name == "rescue":
                self._steady_since_s = None
        except Exception:  # why: whatever goes wrong in one chore, the others go on.
            if not chore.failed:
                _logger.exception("the chore %s failed, and is tried again", chore.name)
            chore.failed = True

    def _take(self, chore: Chore) -> bool:
        now = datetime.now(UTC)
        until = now + timedelta(seconds=max(HELD_AT_LEAST_S, chore.every_s * HELD_PERIODS))
        with direct.transaction() as to:
            return task_upkeep.take_chore(to, chore.name, holder=self._holder, now=now, until=until)

    @staticmethod
    def _record(chore: Chore, took_s: float, findings: Findings, error: str | None) -> None:
        now = datetime.now(UTC)
        with direct.transaction() as to:
            task_upkeep.record_chore(
                to, chore.name, at=now, took_ms=round(took_s * 1000), findings=findings, error=error
            )

    def _do_relay(self) -> Findings:
        total = 0
        while not self._stopping.is_set():
            sent = relay(self._broker)
            total += sent
            if sent < BATCH:
                break
        return {"sent": total}

    def _do_cancel(self) -> Findings:
        return {"cancelled": cancel.carry_out(self._broker)}

    def _do_obey(self) -> Findings:
        with direct.reading() as to:
            wanted = task_upkeep.cancel_requested(to)
        here = [task_id for task_id, *_ in wanted if self._ledger.runs_here(task_id)]
        for task_id in here:
            if self._interrupt is not None:
                self._interrupt(task_id)
        return {"interrupted": len(here)}

    def _do_rescue(self) -> Findings:
        # A database that was away kept everybody from saying that he lives: they get the time to say so first.
        now_s = time.monotonic()
        if self._steady_since_s is None or now_s - self._last_rescue_s > 2 * self._ledger.presence.heartbeat_s + 5.0:
            self._steady_since_s = now_s
        self._last_rescue_s = now_s
        if now_s - self._steady_since_s < self._ledger.presence.dead_after_s:
            return {"rescued": 0}
        return {"rescued": rescue(self._ledger)}

    def _do_reconcile(self) -> Findings:
        return {"without_message": reconcile.to_bus(self._ledger, self._broker, recent=True)}

    def _do_sweep(self) -> Findings:
        return {
            "without_message": reconcile.to_bus(self._ledger, self._broker),
            "without_row": reconcile.to_ledger(self._ledger, self._broker),
        }

    def _generation_changed(self, before: Generation, _now: Generation) -> None:
        if before.number:
            self._sweep.due_s = time.monotonic() + self._settle_after_s
