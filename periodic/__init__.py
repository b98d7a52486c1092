"""Callboard's scheduler. `periodiq periodic` imports this package, finds the tick, and wakes it.

periodiq is only the process that wakes: what is due, and that it is sent once, is decided by `periodic.agenda`. In any
other process nothing is declared here: `from periodic import schedules` is how schedules are looked at and changed.
"""

from periodic import process

__all__: list[str] = []

if process.is_scheduler():
    process.start()
