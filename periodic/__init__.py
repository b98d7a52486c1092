"""Callboard's scheduler. `periodiq periodic` imports this package, finds the tick, and wakes it.

periodiq is only the process that wakes: what is due, and that it is sent once, is decided by `periodic.agenda`.
"""

from periodic import process
from periodic.agenda import Agenda
from periodic.timetable import TIMETABLE
from workers import callboard

__all__ = ["agenda", "tick"]

agenda = Agenda(callboard, TIMETABLE)
tick = process.declare_tick(callboard.broker, agenda, callboard.upkeep("scheduler"))
process.exit_cleanly_on_sigterm()
