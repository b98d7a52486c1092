"""Information reports."""

from datetime import UTC, datetime
from typing import Any

from models.report import InformationReport
from tests.factories.storing import store


def file_report(report_id: str = "FIR-2026-000777", **changes: Any) -> InformationReport:
    """Store a report and return it."""
    columns = {
        "report_id": report_id,
        "complainant_name": "Fathima Rahman & family",
        "station": "Lake View",
        "district": "Alappuzha",
        "incident_place": "House 12, Canal Street",
        "filed_at": datetime(2026, 11, 20, 7, 45, tzinfo=UTC),
        "summary": "Damage to a garden wall and <gate> by a lorry.",
        "narrative": "A lorry reversed into the wall during the night.",
        "officer_name": "Sub-Inspector L. Joseph",
    }
    return store(InformationReport, columns, changes)
