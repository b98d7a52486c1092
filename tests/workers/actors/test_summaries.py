"""The daily report and the digest where there is nothing to say, or nobody to say it to."""

from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pytest
from dramatiq import Worker
from pypdf import PdfReader

from models.subscription import Topic
from models.summary_query import Ended, Summary
from models.task import TaskStatus
from tests.factories.people import hire, subscribe
from tests.factories.upkeep import switch
from tests.workers.actors.running import ended
from tests.workers.clients.smtp_server import MailServer
from workers import tasks
from workers.clients.pdf import render_pdf
from workers.notifications.summaries import MOST_LINES, lines, midnight, page_of

DAY = datetime(2026, 11, 25, tzinfo=UTC)


def summary(actors: dict[str, Ended]) -> Summary:
    hours = {DAY + timedelta(hours=number): Ended() for number in range(24)}
    return Summary(DAY, DAY + timedelta(days=1), hours, actors, Ended(), 0, 0, 0, 0, 0, 0, 0)


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize(
    ("is_on", "reason"),
    [
        (None, "skipped: the feature premium_digest is off here: switch it on in feature_flags"),
        (False, "skipped: the feature premium_digest is off here: switch it on in feature_flags"),
        (True, "skipped: nobody is subscribed to premium_digest"),
    ],
)
def test_the_digest_is_skipped_with_the_reason(
    is_on: bool | None, reason: str, mails: MailServer, worker: Worker
) -> None:
    if is_on is not None:
        switch("premium_digest", is_on=is_on)
    if not is_on:
        subscribe(Topic.PREMIUM_DIGEST, hire())

    found = ended(tasks.enqueue_task("premium_only_task"))

    assert (found.status, found.reason, found.retry_count) == (TaskStatus.CANCELLED, reason, 0)
    assert mails.raw == []


@pytest.mark.usefixtures("system")
def test_a_daily_report_that_nobody_wants_is_skipped_and_one_of_a_quiet_day_is_sent(
    mails: MailServer, documents: Path, worker: Worker
) -> None:
    unwanted = ended(tasks.enqueue_task("send_daily_reports"))
    subscribe(Topic.DAILY_REPORT, hire())
    wanted = ended(tasks.enqueue_task("send_daily_reports"))

    assert (unwanted.status, unwanted.reason) == (
        TaskStatus.CANCELLED, "skipped: nobody is subscribed to daily_report"
    )  # fmt: skip
    assert wanted.status == TaskStatus.COMPLETED, wanted.error_message
    (mail,) = mails.mails
    assert str(mail["Subject"]).endswith(": 0 tasks, 0 failed")
    assert len(list(documents.glob("daily-report*.pdf"))) == 1


def test_of_many_actors_the_busiest_are_named_and_the_others_summed_up() -> None:
    actors = {f"domain.actor_{number}": Ended(100 - number, number, 1, number / 10) for number in range(MOST_LINES + 3)}

    found = lines(actors, MOST_LINES)

    assert len(found) == MOST_LINES + 1
    assert found[0] == ["domain.actor_0", "100", "0", "1", "0.00 s"]
    assert found[-1] == ["3 others", "177", "123", "3", "4.20 s"]


def test_the_same_figures_are_the_same_bytes_and_markup_in_a_name_is_text() -> None:
    page = page_of(summary({"<b>bold</b> & co": Ended(3, 1, 0, 0.5)}))

    first, again = render_pdf(page)[0], render_pdf(page)[0]

    assert first == again
    assert "<b>bold</b> & co" in PdfReader(BytesIO(first)).pages[0].extract_text()


@pytest.mark.parametrize("hour", [0, 9, 23])
def test_the_last_full_day_ended_at_midnight_utc(hour: int) -> None:
    assert midnight(datetime(2026, 11, 26, hour, 30, tzinfo=UTC)) == datetime(2026, 11, 26, tzinfo=UTC)
