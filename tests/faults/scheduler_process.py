"""Scheduler processes whose clock is the test's: days may pass in seconds, and it may jump. Run as a module.

    python -m tests.faults.scheduler_process CLOCK_FILE

This process imports everything once, then forks a scheduler for each order on its standard input, and answers with the
scheduler's pid: so one that is killed is replaced within milliseconds, and a test may kill many. An order is a line of
JSON: `timetable` (a key of TIMETABLES), `slot`, `log` (a file) and `dies` (None, or where: see `_die_at`).

The clock file holds JSON: real time and simulated time at its start, simulated seconds a second, and by slot how far
its clock is off. Everything else is as in `periodiq periodic`: the agenda, its naps, the upkeep thread, the bus, the
database.
"""

import json
import os
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from models import schedule_claim
from periodic.agenda import Agenda
from periodic.declaration import Declaration, cron, crontab, date, interval
from workers import callboard
from workers.ledger import outbox

BEGIN = datetime(2026, 3, 28, tzinfo=UTC)
"""The day before the clocks of Berlin change."""
ACTOR = "diagnostics.run_self_test"
PARAMS = {"steps": 1, "seconds": 0}
TIMETABLES = {
    "days": (
        Declaration("every-10-all", ACTOR, interval(minutes=10), PARAMS, misfire="run_all", overlap="allow"),
        Declaration("every-10-few", ACTOR, interval(minutes=10), PARAMS, misfire="run_all", overlap="allow",
                    catch_up_max=2),
        Declaration("every-minute-once", ACTOR, interval(minutes=1), PARAMS, misfire="run_once", overlap="allow"),
        Declaration("every-7-skip", ACTOR, crontab("*/7 * * * *"), PARAMS, misfire="skip", misfire_grace_s=600,
                    overlap="allow"),
        Declaration("hourly-berlin", ACTOR, crontab("0 * * * *"), PARAMS, time_zone="Europe/Berlin", misfire="run_all",
                    overlap="allow", jitter_s=300),
        Declaration("half-past-two", ACTOR, cron(hour=2, minute=30), PARAMS, time_zone="Europe/Berlin",
                    misfire="run_all", overlap="allow"),
        Declaration("nine-in-new-york", ACTOR, crontab("0 9 * * *"), PARAMS, time_zone="America/New_York"),
        Declaration("one-at-a-time", ACTOR, crontab("30 * * * *"), PARAMS, overlap="skip"),
        Declaration("the-newest-wins", ACTOR, crontab("45 * * * *"), PARAMS, overlap="cancel_running"),
        Declaration("once", ACTOR, date("2026-03-28 12:00:00"), PARAMS),
    ),
    "seconds": (
        Declaration("every-second", ACTOR, interval(seconds=1), PARAMS, misfire="run_all", overlap="allow"),
    ),
}  # fmt: skip
_SHORTEST_NAP_S = 0.025


class Clock:
    """Simulated time, as the file says."""

    def __init__(self, path: Path, slot: str) -> None:
        self._path, self._slot = path, slot

    def now(self) -> datetime:
        """Aware UTC."""
        said = self._said()
        passed_s = (time.time() - said["real_s"]) * said["speed"] + said["off_s"].get(self._slot, 0.0)
        return datetime.fromisoformat(said["begin"]) + timedelta(seconds=passed_s)

    def sleep_until(self, moment: datetime) -> None:
        """Let time pass; at least so much that the other processes have their turn."""
        left_s = (moment - self.now()).total_seconds() / max(self._said()["speed"], 1)
        time.sleep(max(_SHORTEST_NAP_S, left_s))  # why: what periodiq does between two wake-ups

    def _said(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self._path.read_text())
        return said


def main() -> None:
    """Fork what is ordered, until the standard input ends; then kill them all."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # why: so the system collects them.
    pids = []
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _schedule(order)
        pids.append(pid)
        print(pid, flush=True)
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _schedule(order: dict[str, Any]) -> None:
    """Be a scheduler until killed."""
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    _die_at(order["dies"])
    clock = Clock(Path(sys.argv[1]), str(order["slot"]))
    agenda = Agenda(callboard, TIMETABLES[order["timetable"]])
    callboard.upkeep("scheduler").start()
    while True:
        agenda.wake(clock.now())
        clock.sleep_until(agenda.next_wake(clock.now()))


def _die_at(point: str | None) -> None:
    """Arrange a `kill -9` by itself: `claimed`, a due time, before the commit; or `committed`, before the message."""

    def die(*given: object) -> None:
        if given[-1]:  # why: a wake-up at which nothing is due publishes nothing
            os.kill(os.getpid(), signal.SIGKILL)

    if point == "claimed":
        schedule_claim.note_sent = die  # type: ignore[assignment]  # the last statement before the commit
    elif point == "committed":
        outbox.publish = die  # type: ignore[assignment]  # the first thing after it


if __name__ == "__main__":
    main()
