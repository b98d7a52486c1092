"""Information reports. A report's `report_id` is the reference that people quote (`FIR-2026-000123`).

The documents that are made of them: models.document.
"""

from datetime import datetime

from sqlalchemy import Text
from sqlmodel import Field, SQLModel

from models.columns import UtcDateTime


class InformationReport(SQLModel, table=True):
    """A report that a person filed with a station."""

    __tablename__ = "information_reports"

    report_id: str = Field(primary_key=True, max_length=64)
    version: int = 1
    """Counts up with every change; a document belongs to one version."""
    complainant_name: str = Field(max_length=200)
    complainant_contact: str = Field(default="", max_length=200)
    station: str = Field(max_length=200)
    district: str = Field(default="", max_length=200)
    incident_place: str = Field(default="", max_length=300)
    incident_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    filed_at: datetime = Field(sa_type=UtcDateTime)
    summary: str = Field(default="", max_length=500)
    narrative: str = Field(default="", sa_type=Text)
    officer_name: str = Field(default="", max_length=200)
