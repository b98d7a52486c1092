"""What happened in a span of time, in figures for people: tasks by hour and by actor, alerts, tickets, jobs, mails.

Tasks are read from `task_hours`, which whoever asks has brought up to date (models.task_rollup): so a day of
millions of tasks is some hundred rows.

Must not: read the clock.
"""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlmodel import Session, SQLModel, col, func, select

from models.alert import Alert
from models.job import Job
from models.mail import DeliveryOutcome, EmailDelivery
from models.task_hour import TaskHour
from models.ticket import Ticket

HOUR = timedelta(hours=1)


@dataclass
class Ended:
    """How many tasks ended how. slowest_s: the highest 95th percentile of run times of an hour."""

    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    slowest_s: float = 0.0

    @property
    def total(self) -> int:
        """All of them."""
        return self.completed + self.failed + self.cancelled

    def add(self, row: TaskHour) -> None:
        """Count an hour's row in."""
        setattr(self, row.status, getattr(self, row.status) + row.count)
        self.slowest_s = max(self.slowest_s, row.run_p95_s)


@dataclass(frozen=True)
class Summary:
    """From `since` to before `until`, whole hours. hours: each, in order. actors: those with most tasks first."""

    since: datetime
    until: datetime
    hours: dict[datetime, Ended]
    actors: dict[str, Ended]
    all: Ended
    alerts_opened: int
    alerts_open: int
    tickets_opened: int
    tickets_closed: int
    jobs_closed: int
    mails_sent: int
    mails_refused: int


def summarise(session: Session, since: datetime, until: datetime) -> Summary:
    """The figures of a span of time; `alerts_open` is of now."""
    hours = {since + HOUR * number: Ended() for number in range(round((until - since) / HOUR))}
    actors: dict[str, Ended] = defaultdict(Ended)
    total = Ended()
    for row in session.exec(select(TaskHour).where(col(TaskHour.hour_at) >= since, col(TaskHour.hour_at) < until)):
        for one in (hours[row.hour_at], actors[row.task_name], total):
            one.add(row)

    def count(table: type[SQLModel], moment: Any, *where: Any) -> int:
        return session.exec(
            select(func.count()).select_from(table).where(moment >= since, moment < until, *where)
        ).one()

    open_now = select(func.count()).select_from(Alert).where(col(Alert.closed_at).is_(None))
    return Summary(
        since=since,
        until=until,
        hours=hours,
        actors=dict(sorted(actors.items(), key=lambda item: (-item[1].total, item[0]))),
        all=total,
        alerts_opened=count(Alert, col(Alert.opened_at)),
        alerts_open=session.exec(open_now).one(),
        tickets_opened=count(Ticket, col(Ticket.opened_at)),
        tickets_closed=count(Ticket, col(Ticket.closed_at)),
        jobs_closed=count(Job, col(Job.closed_at)),
        mails_sent=count(EmailDelivery, col(EmailDelivery.sent_at)),
        mails_refused=count(
            EmailDelivery, col(EmailDelivery.created_at), col(EmailDelivery.outcome) == DeliveryOutcome.REFUSED
        ),
    )
