"""SLA mails: which period is the last full one, and figures that do not flatter."""

from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pytest
from dramatiq import Worker
from pypdf import PdfReader

from models import database, sla_query
from models.document import Document
from models.subscription import Topic
from models.task import TaskStatus
from models.vendor import SlaFigure, SlaPeriod
from tests.factories.people import hire, sign_vendor, subscribe
from tests.factories.sla import OCTOBER, measure_vendor
from tests.workers.actors.conftest import documents, mails
from tests.workers.actors.running import all_rows, as_task, ended
from tests.workers.clients.smtp_server import MailServer
from workers import tasks
from workers.clients.pdf import render_pdf
from workers.notifications import sla

__all__ = ["documents", "mails"]
MONDAY = datetime(2026, 11, 23, 7, tzinfo=UTC)


def period(name: str, starts_at: datetime, days: int) -> None:
    with database.writing() as session:
        session.add(SlaPeriod(period=name, starts_at=starts_at, ends_at=starts_at + timedelta(days=days)))


def test_the_last_full_period_is_the_one_that_ended_last(sqlite_database: str) -> None:
    period("2026-10", datetime(2026, 10, 1, tzinfo=UTC), 31)
    period("2026-11", datetime(2026, 11, 1, tzinfo=UTC), 30)
    period("2026-W46", datetime(2026, 11, 9, tzinfo=UTC), 7)
    period("2026-W47", datetime(2026, 11, 16, tzinfo=UTC), 7)
    period("2026-W48", datetime(2026, 11, 23, tzinfo=UTC), 7)

    with database.reading() as session:
        assert sla_query.last_full_period(session, MONDAY) == "2026-W47"
        assert sla_query.last_full_period(session, datetime(2026, 12, 1, tzinfo=UTC)) == "2026-11"
        assert sla_query.last_full_period(session, datetime(2026, 1, 1, tzinfo=UTC)) is None


@pytest.mark.parametrize(
    ("has_period", "says"), [(False, "no SLA period has ended yet"), (True, "nobody is subscribed")]
)
@pytest.mark.usefixtures("system")
def test_the_timetables_report_is_skipped_where_there_is_nothing_to_report(
    worker: Worker, mails: MailServer, has_period: bool, says: str
) -> None:
    if has_period:
        measure_vendor()

    found = ended(tasks.enqueue_task("email.send_sla_report"))

    assert found.status == TaskStatus.CANCELLED
    assert found.reason is not None
    assert found.reason.startswith("skipped: ")
    assert says in found.reason
    assert mails.connections == 0


@pytest.mark.usefixtures("system")
def test_the_timetables_report_is_of_the_last_full_period(worker: Worker, mails: MailServer, documents: Path) -> None:
    measure_vendor()
    subscribe(Topic.SLA_REPORT, hire("Maya Iyer"))
    subscribe(Topic.SLA_REPORT, hire("Gone Girl", is_active=False))

    assert ended(tasks.enqueue_task("email.send_sla_report")).status == TaskStatus.COMPLETED

    assert [(mail["To"], mail["Subject"]) for mail in mails.mails] == [
        ("maya.iyer@example.org", "SLA report for October 2026: 0 of 1 vendor met the target")
    ]


@pytest.mark.usefixtures("system")
def test_other_figures_of_the_same_period_are_another_document(mails: MailServer, documents: Path) -> None:
    figure = measure_vendor()
    subscribe(Topic.SLA_REPORT, hire("Maya Iyer"))
    for in_time in (37, 37, 40):
        with database.writing() as session:
            session.get_one(SlaFigure, (OCTOBER, figure.vendor_id)).jobs_in_time = in_time
        with as_task(f"task-{len(mails.raw)}"):
            sla.REPORT.send(OCTOBER)

    assert len(mails.raw) == 3
    assert len(all_rows(Document)) == len(list(documents.iterdir())) == 2


@pytest.mark.parametrize(("value", "shown"), [(94.99, "94.9 %"), (95.0, "95.0 %"), (100.0, "100.0 %"), (0.0, "0.0 %")])
def test_a_target_that_was_missed_by_little_does_not_look_met(value: float, shown: str) -> None:
    assert sla.percent(value) == shown


@pytest.mark.parametrize(("name", "shown"), [("2026-10", "October 2026"), ("2026-W07", "week 7 of 2026")])
def test_a_period_is_in_words(name: str, shown: str) -> None:
    assert sla_query.period_name(name) == shown


@pytest.mark.usefixtures("sqlite_database")
def test_a_long_report_repeats_its_head_on_each_sheet_and_loses_no_vendor() -> None:
    for number in range(90):
        measure_vendor(sign_vendor(name=f"Vendor <{number}> & sons"))
    with database.reading() as session:
        report = sla._find_report(session, OCTOBER)

    content, sheets = render_pdf(sla.page_of(report))

    texts = [" ".join(page.extract_text().split()) for page in PdfReader(BytesIO(content)).pages]
    assert len(texts) == sheets >= 3
    assert all(head in text for head in sla._HEAD for text in texts), "a head that is broken inside a word"
    shown = " ".join(texts)
    assert [number for number in range(90) if f"Vendor <{number}> & sons" not in shown] == []
