"""The default timetable: only declarations, one each, with its why. People may pause and edit them in the ledger."""

from dataclasses import dataclass, field
from typing import Any

from models.triggers import Crontab, Interval


@dataclass(frozen=True)
class Declaration:
    """A recurring job that the code declares.

    Args:
        schedule_id: its name, for people and for the row.
        actor: canonical name.
        trigger: when it is due.
        params: named arguments of each run.
        priority: 1–10; None for the actor's.
        max_retries, time_limit_s: of each run.
        enabled: whether it starts enabled.
    """

    schedule_id: str
    actor: str
    trigger: Interval | Crontab
    params: dict[str, Any] = field(default_factory=dict)
    priority: int | None = None
    max_retries: int = 3
    time_limit_s: int = 300
    enabled: bool = True


TIMETABLE = (
    # A sample a minute is fine enough to see a trend and to alert within one, and costs a few milliseconds.
    Declaration("system-health-check", "health.check_system", Crontab("* * * * *"), max_retries=1, time_limit_s=30),
)
