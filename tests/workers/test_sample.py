"""Sample data: only into the embedded database, and only into an empty one."""

import pytest
from sqlmodel import select

from models import database
from models.report import InformationReport
from tests.conftest import FAST
from workers import callboard, sample
from workers.errors import CallboardError
from workers.settings import Settings


def reports() -> list[InformationReport]:
    with database.reading() as session:
        return list(session.exec(select(InformationReport)).all())


def test_the_settings_of_these_tests_have_the_embedded_database() -> None:
    assert "CALLBOARD_DATABASE_URL" not in FAST
    assert callboard.settings.is_embedded_database


def test_an_empty_database_gets_reports_with_believable_facts(sqlite_database: str) -> None:
    assert sample.load(callboard.settings) == 3

    found = reports()
    assert [report.report_id for report in found] == [f"FIR-2026-00010{number}" for number in (1, 2, 3)]
    for report in found:
        assert report.complainant_contact.endswith("@example.org")
        assert report.incident_at is not None
        assert report.incident_at < report.filed_at
        assert report.summary
        assert report.narrative


def test_loading_again_adds_nothing(sqlite_database: str) -> None:
    sample.load(callboard.settings)

    assert sample.load(callboard.settings) == 0
    assert len(reports()) == 3


def test_a_report_of_somebodys_own_keeps_the_samples_out(sqlite_database: str) -> None:
    with database.writing() as session:
        session.add(
            InformationReport(report_id="MINE", complainant_name="N", station="S", filed_at=sample._REPORTS[0].filed_at)
        )

    assert sample.load(callboard.settings) == 0
    assert [report.report_id for report in reports()] == ["MINE"]


@pytest.mark.parametrize("url", ["postgresql://db.example.org/callboard", "sqlite:///elsewhere.db"])
def test_a_configured_database_never_gets_invented_records(sqlite_database: str, url: str) -> None:
    configured = Settings(CALLBOARD_DATABASE_URL=url)  # type: ignore[call-arg]

    with pytest.raises(CallboardError, match="unset CALLBOARD_DATABASE_URL"):
        sample.load(configured)

    assert reports() == []
