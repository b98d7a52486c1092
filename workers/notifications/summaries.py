"""Summaries for those who subscribed to them: the day's with table and chart as PDF, the week's as a digest.

A day is one of UTC, as `task_hours` are. The figures of a day that has passed are the same however often they are read
(but for alerts that are open now, and tasks that ended late), so a run that goes on after a crash mails what the first
one did.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from dramatiq.middleware import SkipMessage
from sqlmodel import Session

from models.document import DocumentKind
from models.feature_flag import is_on
from models.person import Person
from models.subscription import Topic, subscribers
from models.summary_query import Ended, Summary, summarise
from workers import callboard, documents
from workers.clients.pdf import Chart, Page
from workers.notifications.notification import Attachment, Notification, Recipient, person

DAY: Final = timedelta(days=1)
MOST_LINES: Final = 40
"""Actors that are named in print; the others are summed up."""
MAILED_LINES: Final = 10
FEATURE: Final = "premium_digest"
_HEAD: Final = ("Actor", "Completed", "Failed", "Cancelled", "Slowest p95")


@dataclass(frozen=True)
class Report:
    """A summary, and who is subscribed to it."""

    summary: Summary
    people: tuple[Person, ...]


def _find(session: Session, until: datetime, topic: Topic, days: int) -> Report:
    people = subscribers(session, topic)
    if not people:
        raise SkipMessage(f"nobody is subscribed to {topic}")
    return Report(summarise(session, until - days * DAY, until), tuple(people))


def _find_day(session: Session, until: datetime) -> Report:
    return _find(session, until, Topic.DAILY_REPORT, 1)


def _find_week(session: Session, until: datetime) -> Report:
    if not is_on(session, FEATURE):
        raise SkipMessage(f"the feature {FEATURE} is off here: switch it on in feature_flags")
    return _find(session, until, Topic.PREMIUM_DIGEST, 7)


def midnight(now: datetime) -> datetime:
    """The beginning of a moment's day in UTC: where the last full day ended."""
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _subscribers(of: Report) -> Iterator[Recipient]:
    for who in of.people:
        yield from person(who)


def facts(summary: Summary) -> dict[str, str]:
    """The figures that are no table, for people."""
    ended = summary.all
    judged = ended.completed + ended.failed
    return {
        "Tasks that ended": f"{ended.total:,}",
        "Completed": f"{100 * ended.completed / judged:.1f} % of {judged:,}" if judged else "none",
        "Alerts": f"{summary.alerts_opened} opened, {summary.alerts_open} open now",
        "Tickets": f"{summary.tickets_opened} opened, {summary.tickets_closed} closed",
        "Jobs closed": f"{summary.jobs_closed}",
        "Mails": f"{summary.mails_sent} sent, {summary.mails_refused} refused",
    }


def lines(actors: Mapping[str, Ended], most: int) -> list[list[str]]:
    """The table's lines below _HEAD: those with most tasks, and one for all others together."""
    shown = [_line(name, ended) for name, ended in list(actors.items())[:most]]
    rest = list(actors.values())[most:]
    if rest:
        others = Ended(
            sum(one.completed for one in rest),
            sum(one.failed for one in rest),
            sum(one.cancelled for one in rest),
            max(one.slowest_s for one in rest),
        )
        shown.append(_line(f"{len(rest)} others", others))
    return shown


def _line(name: str, ended: Ended) -> list[str]:
    counts = (f"{count:,}" for count in (ended.completed, ended.failed, ended.cancelled))
    return [name, *counts, f"{ended.slowest_s:,.2f} s"]


def page_of(summary: Summary) -> Page:
    """What is printed of a day."""
    hours = summary.hours
    chart = Chart(
        labels=[f"{hour:%H}" for hour in hours],
        series={
            "completed": [ended.completed for ended in hours.values()],
            "failed": [ended.failed for ended in hours.values()],
            "cancelled": [ended.cancelled for ended in hours.values()],
        },
    )
    table = [list(_HEAD), *lines(summary.actors, MOST_LINES)]
    return Page(
        title="Daily report",
        reference=f"{summary.since:%d %B %Y} (UTC)",
        facts=facts(summary),
        charts={"Tasks that ended, by hour": chart},
        tables={"Tasks by actor": table} if summary.actors else {},
    )


def _printed(of: Report) -> Sequence[Attachment]:
    day = f"{of.summary.since:%Y-%m-%d}"
    page = page_of(of.summary)
    # why: a day has no version of its own; the same figures are the same document, others are another one.
    version = int(hashlib.sha256(repr(page).encode()).hexdigest()[:7], 16)
    kept = documents.keep(callboard.settings.documents_dir, DocumentKind.DAILY_REPORT, day, version, lambda: page)
    return [Attachment(f"daily-report-{day}.pdf", "application/pdf", kept.content)]


def _shown(of: Report) -> Mapping[str, Any]:
    summary = of.summary
    return {
        "since": f"{summary.since:%d %B %Y}",
        "until": f"{summary.until - DAY:%d %B %Y}",
        "total": f"{summary.all.total:,}",
        "failed": f"{summary.all.failed:,}",
        "facts": facts(summary),
        "head": list(_HEAD[:4]),
        "rows": [line[:4] for line in lines(summary.actors, MAILED_LINES)],
    }


DAILY = Notification(
    template="daily_report", find=_find_day, recipients=_subscribers, context=_shown, attachments=_printed
)
DIGEST = Notification(template="premium_digest", find=_find_week, recipients=_subscribers, context=_shown)
