"""Sample data: only into the embedded database, and only into an empty one."""

from collections import Counter
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr
from sqlmodel import SQLModel, col, select

from models import database
from models.job import Job
from models.provider import Provider
from models.report import InformationReport
from models.ticket import EscalationRule, Ticket
from models.triggers import row as trigger_row
from tests.conftest import FAST
from tests.workers.actors.running import all_rows
from workers import callboard, sample
from workers.clients.address import check_address
from workers.errors import CallboardError
from workers.sample.jobs import FORGOTTEN
from workers.sample.tickets import PUMP_ROOM
from workers.settings import Settings

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


def test_the_settings_of_these_tests_have_the_embedded_database() -> None:
    assert "CALLBOARD_DATABASE_URL" not in FAST
    assert callboard.settings.is_embedded_database


def test_an_empty_database_gets_every_row_of_every_domain(sqlite_database: str) -> None:
    loaded = sample.load(callboard.settings)

    assert loaded == Counter(str(row.__tablename__) for row in sample.rows(callboard.settings, NOW))
    assert {type(row) for row in sample.rows(callboard.settings, NOW)} == {type(row) for row in _stored(loaded)}


def _stored(tables: dict[str, int]) -> list[SQLModel]:
    kinds = {type(row) for row in sample.rows(callboard.settings, NOW)}
    assert {str(kind.__tablename__) for kind in kinds} == set(tables)
    return [row for kind in kinds for row in all_rows(kind)]


def test_the_reports_are_believable(sqlite_database: str) -> None:
    sample.load(callboard.settings)

    found = all_rows(InformationReport)
    assert [report.report_id for report in found] == [f"FIR-2026-00010{number}" for number in (1, 2, 3)]
    for report in found:
        assert report.complainant_contact.endswith("@example.org")
        assert report.incident_at is not None
        assert report.incident_at < report.filed_at
        assert report.summary
        assert report.narrative


def test_every_address_can_be_mailed_to_and_every_plan_falls_due() -> None:
    rows = sample.rows(callboard.settings, NOW)

    addresses = [getattr(row, "email") for row in rows if hasattr(row, "email")]  # noqa: B009 - rows of several tables
    assert [check_address(address) for address in addresses] == addresses
    triggers = [trigger_row.from_row(row.trigger) for row in rows if isinstance(row, sample.jobs.MaintenancePlan)]
    assert triggers
    assert all(trigger.next_after(NOW) for trigger in triggers)


def _providers(**settings: object) -> dict[str, tuple[str, bool]]:
    rows = sample.rows(callboard.settings.model_copy(update=settings), NOW)
    return {row.provider: (row.target, row.is_enabled) for row in rows if isinstance(row, Provider)}


def test_the_providers_are_where_the_settings_say_so_that_none_is_an_alert_by_itself() -> None:
    plain = _providers(api_port=18_001, mail_catcher_port=18_002, smtp_url=None)
    other = _providers(api_host="::", smtp_url=SecretStr("smtp://mail.example.org"))

    assert plain["api"] == ("http://127.0.0.1:18001/health/live", True)
    assert plain["mail"] == ("127.0.0.1:18002", True)
    assert other["api"][0].startswith("http://[::1]:")
    assert not other["mail"][1]


def test_there_is_a_job_to_close_and_a_ticket_to_escalate(sqlite_database: str) -> None:
    sample.load(callboard.settings, NOW)

    with database.reading() as session:
        to_close = session.exec(select(Job).where(col(Job.closes_at) <= NOW)).all()
        ticket = session.get_one(Ticket, PUMP_ROOM)
        rule = session.get_one(EscalationRule, (ticket.category, ticket.level))
    assert [job.job_id for job in to_close] == [FORGOTTEN]
    assert (NOW - ticket.level_since_at).total_seconds() > rule.after_s


def test_loading_again_adds_nothing(sqlite_database: str) -> None:
    sample.load(callboard.settings)

    assert sample.load(callboard.settings) == {}
    assert len(all_rows(InformationReport)) == 3


def test_a_report_of_somebodys_own_keeps_the_samples_out(sqlite_database: str) -> None:
    with database.writing() as session:
        session.add(InformationReport(report_id="MINE", complainant_name="N", station="S", filed_at=NOW))

    assert sample.load(callboard.settings) == {}
    assert [report.report_id for report in all_rows(InformationReport)] == ["MINE"]


@pytest.mark.parametrize("url", ["postgresql://db.example.org/callboard", "sqlite:///elsewhere.db"])
def test_a_configured_database_never_gets_invented_records(sqlite_database: str, url: str) -> None:
    configured = Settings(CALLBOARD_DATABASE_URL=url)  # type: ignore[call-arg]

    with pytest.raises(CallboardError, match="unset CALLBOARD_DATABASE_URL"):
        sample.load(configured)

    assert all_rows(InformationReport) == []
