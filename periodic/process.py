"""periodiq as the loop, with everything in it disabled that could lose or double a run (spec/traps.md 17–19).

periodiq asks each periodic actor's `periodic` object two things and then sends the actor: here the object always says
yes, and sending is the agenda's wake-up. No message is sent for the tick, it has no row, and nothing here raises,
because an exception ends periodiq. `next_valid_date` is never more than 0.9 s ahead, so periodiq always sleeps and
never uses its alarm, whose handler it sets too late.
"""

import logging
import signal
import sys
from datetime import UTC, datetime
from typing import Any

import dramatiq
import pendulum
from dramatiq import Message
from dramatiq.broker import Broker

from periodic.agenda import Agenda
from periodic.timetable import TIMETABLE
from workers import callboard
from workers.ledger.upkeep import Upkeep


class WakeUp:
    """What periodiq asks."""

    def __init__(self, agenda: Agenda) -> None:
        self._agenda = agenda

    def validate(self, now: object) -> bool:
        """Whether to wake now: always. periodiq's `now` is rounded to a second and is not used."""
        return True

    def next_valid_date(self, last: object) -> Any:
        """When to wake next, as periodiq wants it."""
        return pendulum.instance(self._agenda.next_wake())

    def __str__(self) -> str:
        return "when something is due"


class TickActor(dramatiq.Actor[[], None]):
    """An actor whose sending is the wake-up itself."""

    def send_with_options(self, **options: Any) -> Message[None]:
        """Wake the agenda, in this process, now. Sends nothing."""
        self.fn()
        return Message(queue_name=self.queue_name, actor_name=self.actor_name, args=(), kwargs={}, options={})


def declare_tick(broker: Broker, agenda: Agenda, upkeep: Upkeep) -> dramatiq.Actor[[], None]:
    """Declare the actor that periodiq finds. It is declared in the scheduler's process alone.

    Args:
        upkeep: started with the first wake-up: who only imports this package starts nothing.
    """

    # why: periodiq logs a line at each wake-up, that is each second.
    logging.getLogger("periodiq").setLevel(logging.WARNING)

    def tick() -> None:
        upkeep.start()
        agenda.wake(datetime.now(UTC))

    return TickActor(
        tick,
        broker=broker,
        actor_name="periodic.tick",
        queue_name="periodic",
        priority=0,
        options={"periodic": WakeUp(agenda)},
    )


def is_scheduler() -> bool:
    """Whether this process was started as `periodiq …`."""
    return "periodiq" in sys.argv[0]


def start() -> None:
    """Make this process the scheduler: declare the tick, and end with status 0 on SIGTERM.

    A claim in progress when it ends is rolled back or committed as a whole.
    """
    agenda = Agenda(callboard, TIMETABLE)
    declare_tick(callboard.broker, agenda, callboard.upkeep("scheduler"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
