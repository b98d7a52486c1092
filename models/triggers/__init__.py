"""When something is due: pure arithmetic on time, no clock, no table.

    Interval   every so much elapsed time        Cron      by fields, all of which must match
    Date       once                              Crontab   a crontab line's time, with cron's rules

A trigger answers `next_after(moment)` and `in_words()`, and is made only if it can ever be due. periodiq's own cron
must not be used (spec/traps.md 17). One arithmetic serves Cron and Crontab (`pattern.py`): cronsim has no year and no
week, and where clocks change by half an hour it passes over due times; the tests hold it beside ours.
"""

from models.triggers.cron import Cron
from models.triggers.crontab import Crontab
from models.triggers.date import Date
from models.triggers.errors import TriggerError
from models.triggers.interval import MAX_INTERVAL_S, Interval
from models.triggers.row import MAX_PREVIEW, from_row, parse, preview, to_row
from models.triggers.trigger import Trigger

__all__ = [
    "MAX_INTERVAL_S",
    "MAX_PREVIEW",
    "Cron",
    "Crontab",
    "Date",
    "Interval",
    "Trigger",
    "TriggerError",
    "from_row",
    "parse",
    "preview",
    "to_row",
]
