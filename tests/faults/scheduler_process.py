"""A scheduler process whose clock is the test's: days pass in seconds, and it may jump. Run as a module.

    python -m tests.faults.scheduler_process CLOCK_FILE SLOT

The clock file holds JSON: real time and simulated time at the start, simulated seconds a second, and by slot how far
its clock is off. Everything else is as in `periodiq periodic`: the agenda, the upkeep thread, the bus, the database.
"""

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from periodic.agenda import Agenda
from periodic.declaration import Declaration, cron, crontab, date, interval
from workers import callboard

BEGIN = datetime(2026, 3, 27, tzinfo=UTC)
"""Two days before the clocks of Berlin change."""
ACTOR = "diagnostics.run_self_test"
PARAMS = {"steps": 1, "seconds": 0}
TIMETABLE = (
    Declaration("every-10-all", ACTOR, interval(minutes=10), PARAMS, misfire="run_all", overlap="allow"),
    Declaration("every-10-few", ACTOR, interval(minutes=10), PARAMS, misfire="run_all", overlap="allow",
                catch_up_max=2),
    Declaration("every-minute-once", ACTOR, interval(minutes=1), PARAMS, misfire="run_once", overlap="allow"),
    Declaration("every-7-skip", ACTOR, crontab("*/7 * * * *"), PARAMS, misfire="skip", misfire_grace_s=600,
                overlap="allow"),
    Declaration("hourly-berlin", ACTOR, crontab("0 * * * *"), PARAMS, time_zone="Europe/Berlin", misfire="run_all",
                overlap="allow", jitter_s=300),
    Declaration("half-past-two", ACTOR, cron(hour=2, minute=30), PARAMS, time_zone="Europe/Berlin", misfire="run_all",
                overlap="allow"),
    Declaration("nine-in-new-york", ACTOR, crontab("0 9 * * *"), PARAMS, time_zone="America/New_York"),
    Declaration("one-at-a-time", ACTOR, crontab("30 * * * *"), PARAMS, overlap="skip"),
    Declaration("the-newest-wins", ACTOR, crontab("45 * * * *"), PARAMS, overlap="cancel_running"),
    Declaration("once", ACTOR, date("2026-03-28 12:00:00"), PARAMS),
)  # fmt: skip


class Clock:
    """Simulated time, as the file says."""

    def __init__(self, path: Path, slot: str) -> None:
        self._path, self._slot = path, slot

    def now(self) -> datetime:
        """Aware UTC."""
        said = json.loads(self._path.read_text())
        passed_s = (time.time() - said["real_s"]) * said["speed"] + said["off_s"].get(self._slot, 0.0)
        return BEGIN + timedelta(seconds=passed_s)


def main() -> None:
    """Wake until killed."""
    clock = Clock(Path(sys.argv[1]), sys.argv[2])
    agenda = Agenda(callboard, TIMETABLE)
    callboard.upkeep("scheduler").start()
    while True:
        agenda.wake(clock.now())
        time.sleep(0.01)  # why: so much of its own time passes between two wake-ups


if __name__ == "__main__":
    main()
