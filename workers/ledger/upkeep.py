"""Upkeep: what keeps ledger and bus in step, done by whichever process lives.

Every process of the system (workers, scheduler, web) runs a thread of this. The table `chores` is the timetable that
they share: who sees there that a chore is due takes it, does it, and writes down what he found.

    free, due      ──→ held, for HELD_S at most     one of those who see it; a row of the table decides
    held           ──→ free, last run = its begin   done
    held           ──→ held, error shown            failed: free when HELD_S have passed, which is the pause before it
                                                    is tried again
    held, HELD_S passed ──→ as free                 its process died or was frozen, or the chore takes long

Two that do a chore at once do no harm: each is safe to be done twice. So a crash at any line delays a chore by HELD_S.

    relay        rows without a message are sent                               every second
    rescue       tasks of dead workers go back                                 every heartbeat
    cancel       requests that could not be carried out at once                every second
    obey         tasks that run in this very process are told to end           every tick, by each process
    strays       rows that say that they run in this very process, and         every reconcile_s, by each process
                 do not, go back
    reconcile    recent rows and their messages are compared                   every 10 s
    sweep        all rows and all messages are compared                        every minute, and after the bus was
                                                                               restarted or emptied
    groups       groups whose last member was not counted are completed        every 10 s
    prune        what is older than its retention goes                         every minute, or at once if there is more
    totals       the rows of running totals are put together, tasks counted    every reconcile_s
    alerts       rules are looked at, alerts opened and closed                 every 10 s, if it is passed in

    write back   SQLite's log is copied into the database                      models.write_back, by each process

A chore that fails is logged once by each process that tries it.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from models import direct, task_upkeep, totals
from models.database import DatabaseError
from models.task_upkeep import Standing
from models.write_back import WriteBack
from workers.broker import BusFull, BusUnavailable, Generation
from workers.ledger import cancel, reconcile
from workers.ledger.bus import LedgerBroker
from workers.ledger.relay import BATCH, relay
from workers.ledger.rescue import Strays, rescue

TICK_S: Final = 0.5
HELD_S: Final = 3.0
HELD_LONG_S: Final = 15.0
"""The same for chores that look at all rows."""
ERROR_CHARS: Final = 1_000

_logger = logging.getLogger(__name__)

Findings = Mapping[str, int]


@dataclass
class Chore:
    """One piece of upkeep.

    run: returns counts by name; a count of `more` asks for another turn at once.
    held_s: how long it is kept from others while it is done.
    """

    name: str
    every_s: float
    run: Callable[[], Findings]
    held_s: float = HELD_S
    wanted_at: datetime | None = None
    """Besides its period: a run that begins from here on."""
    satisfied_by: datetime | None = None
    """A run of anybody that began from here on does for that."""
    steady_since: datetime | None = None
    """Since when it has been done regularly, by whomever: known while it runs."""
    failed: bool = False

    def last_before(self, now: datetime) -> datetime:
        """It is due if its last run began before this."""
        if self.wanted_at and self.satisfied_by and self.wanted_at <= now:
            return self.satisfied_by
        return now - timedelta(seconds=self.every_s)

    def want(self, at: datetime, satisfied_by: datetime) -> None:
        """Ask for a run outside the period."""
        self.wanted_at, self.satisfied_by = at, satisfied_by


class Upkeep:
    """The thread of one process.

    Args:
        holder: names this process in the table.
        relay_s, reconcile_s, sweep_s: periods.
        settle_after_s: how long after a change of the bus's generation its workers have put back what they hold.
        prune: removes what is too old for a while.
        interrupt: ends a task that runs in this process.
        alerts: looks at the rules of alerts, every alerts_s.
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
        groups: Callable[[], Findings] | None = None,
        alerts: Callable[[], Findings] | None = None,
        alerts_s: float = 10.0,
    ) -> None:
        self._broker = broker
        self._ledger = broker.ledger
        self._holder = holder
        self._settle_after = timedelta(seconds=settle_after_s)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._interrupt = interrupt
        self._obey_failed = False
        self._strays = Strays(self._ledger)
        self._strays_every_s = reconcile_s
        self._strays_at_s = time.monotonic() + reconcile_s
        self._write_back = WriteBack()
        self._rescue = Chore("rescue", self._ledger.presence.heartbeat_s, self._do_rescue)
        self._sweep = Chore("sweep", sweep_s, self._do_sweep, held_s=HELD_LONG_S)
        self._chores = [
            Chore("relay", relay_s, self._do_relay),
            Chore("cancel", relay_s, self._do_cancel),
            self._rescue,
            Chore("reconcile", reconcile_s, self._do_reconcile),
            self._sweep,
            Chore("totals", reconcile_s, self._do_totals, held_s=HELD_LONG_S),
        ]
        if alerts is not None:
            self._chores.append(Chore("alerts", alerts_s, alerts))
        if groups is not None:
            self._chores.append(Chore("groups", reconcile_s, groups))
        if prune is not None:
            self._chores.append(Chore("prune", 60.0, prune, held_s=HELD_LONG_S))
        broker.on_generation(self._generation_changed)

    def start(self) -> None:
        """Begin, in a thread; once."""
        if self._thread is not None:
            return
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
        if self._interrupt is not None:
            self._obey(self._interrupt)
            self._rescue_strays()
        try:
            with direct.reading() as to:
                standings = task_upkeep.standings(to)
        except DatabaseError as error:
            self._note_failure(self._chores[0], error)
            return
        for chore in self._chores:
            if not self._stopping.is_set() and _is_due(chore, standings.get(chore.name), datetime.now(UTC)):
                self._do(chore)

    def _run(self) -> None:
        tick_s = min(TICK_S, *(chore.every_s for chore in self._chores))
        while not self._stopping.wait(tick_s):
            self.run_due()
            self._write_back.turn(time.monotonic())

    def _do(self, chore: Chore) -> None:
        try:
            began = datetime.now(UTC)
            if not self._take(chore, began):
                return
            began_s = time.monotonic()
            findings = chore.run()
            took_ms = round((time.monotonic() - began_s) * 1000)
            with direct.transaction() as to:
                task_upkeep.record_chore(
                    to, chore.name, holder=self._holder, began=began, took_ms=took_ms, findings=findings
                )
            if findings.get("more"):
                now = datetime.now(UTC)
                chore.want(now, now)
            if chore.failed:
                _logger.warning("the chore %s works again", chore.name)
            chore.failed = False
        except Exception as error:  # why: whatever goes wrong in one chore, the others go on.
            self._note_failure(chore, error)

    def _take(self, chore: Chore, now: datetime) -> bool:
        # why: a chore that failed is tried when its hold has passed, which is not a gap; neither is a slow machine.
        gap = timedelta(seconds=2 * chore.every_s + chore.held_s + 5.0)
        with direct.transaction() as to:
            chore.steady_since = task_upkeep.take_chore(
                to,
                chore.name,
                holder=self._holder,
                now=now,
                until=now + timedelta(seconds=chore.held_s),
                last_before=chore.last_before(now),
                gap_before=now - gap,
            )
        return chore.steady_since is not None

    def _note_failure(self, chore: Chore, error: Exception) -> None:
        expected = isinstance(error, (DatabaseError, BusUnavailable, BusFull))
        if not chore.failed:
            _logger.warning(
                "the chore %s cannot be done now, and is tried again: %s",
                chore.name,
                error,
                exc_info=None if expected else error,
            )
        chore.failed = True
        if not isinstance(error, DatabaseError):
            with contextlib.suppress(DatabaseError), direct.transaction() as to:
                task_upkeep.record_failed_chore(to, chore.name, holder=self._holder, error=f"{error}"[:ERROR_CHARS])

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

    def _do_rescue(self) -> Findings:
        # A database that was away kept everybody from saying that he lives, and this chore from being done: they get
        # the time to say so first.
        steady_since, dead_after_s = self._rescue.steady_since, self._ledger.presence.dead_after_s
        if steady_since is None or (datetime.now(UTC) - steady_since).total_seconds() < dead_after_s:
            return {"rescued": 0}
        return {"rescued": rescue(self._ledger)}

    def _do_reconcile(self) -> Findings:
        return {"without_message": reconcile.to_bus(self._ledger, self._broker, recent=True)}

    def _do_sweep(self) -> Findings:
        return {
            "without_message": reconcile.to_bus(self._ledger, self._broker),
            "without_row": reconcile.to_ledger(self._ledger, self._broker),
        }

    @staticmethod
    def _do_totals() -> Findings:
        folded = 0
        for journal in totals.ALL:
            with direct.transaction() as to:
                folded += totals.fold(to, journal)
        with direct.reading() as to:
            return {"folded": folded, **totals.enqueued(to)}

    def _obey(self, interrupt: Callable[[str], object]) -> None:
        """End the tasks of this process that somebody wants cancelled."""
        try:
            with direct.reading() as to:
                wanted = task_upkeep.cancel_requested(to)
            for task_id, *_ in wanted:
                if self._ledger.runs_here(task_id):
                    interrupt(task_id)
            self._obey_failed = False
        except Exception as error:  # why: as in _do
            if not self._obey_failed:
                _logger.warning("requests to cancel cannot be read now, and are read again: %s", error)
            self._obey_failed = True

    def _rescue_strays(self) -> None:
        """Take back what only seems to run in this process."""
        if time.monotonic() < self._strays_at_s:
            return
        self._strays_at_s = time.monotonic() + self._strays_every_s
        try:
            self._strays.rescue()
        except Exception as error:  # why: as in _do
            _logger.warning("rows that only say that they run here cannot be looked for now: %s", error)

    def _generation_changed(self, before: Generation, _now: Generation) -> None:
        if before.number:
            at = datetime.now(UTC) + self._settle_after
            # why: each process notices the change at a time of its own, and one sweep is enough for all of them.
            self._sweep.want(at, satisfied_by=at - self._settle_after / 2)


def _is_due(chore: Chore, standing: Standing | None, now: datetime) -> bool:
    if standing is None:
        return True
    if chore.satisfied_by and standing.last_run_at and standing.last_run_at > chore.satisfied_by:
        chore.wanted_at = chore.satisfied_by = None
    return standing.is_due(now, chore.last_before(now))
