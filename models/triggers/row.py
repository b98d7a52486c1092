"""Triggers as they are stored and as people give them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from models.triggers.cron import Cron
from models.triggers.crontab import Crontab
from models.triggers.date import Date
from models.triggers.errors import TriggerError
from models.triggers.interval import Interval
from models.triggers.trigger import Trigger

KINDS: dict[str, type[Trigger]] = {kind.kind: kind for kind in (Interval, Cron, Crontab, Date)}
MAX_PREVIEW = 1000


def to_row(trigger: Trigger) -> dict[str, Any]:
    """Kind and own arguments as JSON; `time_zone`, `start_at` and `end_at` have columns of their own."""
    return {"kind": trigger.kind, **trigger.arguments()}


def from_row(
    stored: Mapping[str, Any],
    time_zone: str = "UTC",
    start_at: datetime | None = None,
    end_at: datetime | None = None,
) -> Trigger:
    """The trigger that `to_row` wrote, with its columns.

    Rows from before there was a kind `crontab` hold `{"kind": "cron", "expression": …, "time_zone": …}`.

    Raises:
        TriggerError: an unknown kind, or arguments that do not fit it.
    """
    arguments = dict(stored)
    kind = arguments.pop("kind", None)
    return parse(kind, arguments, time_zone=time_zone, start_at=start_at, end_at=end_at)


def parse(
    kind: object,
    arguments: object,
    *,
    time_zone: str = "UTC",
    start_at: datetime | str | None = None,
    end_at: datetime | str | None = None,
) -> Trigger:
    """A trigger from what anybody sent; nothing in it is trusted, and every text and number is bounded.

    Args:
        kind: `interval`, `cron`, `crontab` or `date`; `cron` with an `expression` is a crontab.
        arguments: a mapping, for instance `{"hour": 9}`; may hold `time_zone`, `start_at` and `end_at` as well.
        start_at, end_at: aware, or ISO text with an offset.

    Raises:
        TriggerError: with `field`, `value` and `expected`.
    """
    if not isinstance(arguments, Mapping):
        raise TriggerError("arguments", arguments, "names with values, such as {'hour': 9}")
    if kind == Cron.kind and "expression" in arguments:
        kind = Crontab.kind
    if not isinstance(kind, str) or kind not in KINDS:
        raise TriggerError("kind", kind, f"one of {', '.join(KINDS)}")
    required = {Crontab: "expression", Date: "run_date"}.get(KINDS[kind])
    if required is not None and required not in arguments:
        raise TriggerError(required, None, f"an argument of {kind} that has to be given")
    return KINDS[kind].of(arguments, time_zone=time_zone, start_at=start_at, end_at=end_at)


def preview(trigger: Trigger, after: datetime, count: int) -> list[datetime]:
    """The next due times strictly after an aware moment, in UTC; fewer where it ends.

    Args:
        count: 1–MAX_PREVIEW.

    Raises:
        TriggerError: a count out of range.
    """
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MAX_PREVIEW:
        raise TriggerError("count", count, f"a whole number, 1–{MAX_PREVIEW}")
    found: list[datetime] = []
    due = trigger.next_after(after)
    while due is not None and len(found) < count:
        found.append(due)
        due = trigger.next_after(due)
    return found
