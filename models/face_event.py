"""Face events: somebody was seen at a site as a person, and whether the face is that person's."""

from datetime import datetime
from enum import StrEnum

from sqlmodel import Field, SQLModel

from models.columns import UtcDateTime


class FaceVerdict(StrEnum):
    """`face_events.verdict`."""

    PENDING = "pending"
    MATCH = "match"
    MISMATCH = "mismatch"


class FaceEvent(SQLModel, table=True):
    """A person who came to a site."""

    __tablename__ = "face_events"

    event_id: int | None = Field(default=None, primary_key=True)
    person_id: int = Field(foreign_key="people.person_id")
    """Who the person said to be."""
    site_id: int = Field(foreign_key="sites.site_id")
    occurred_at: datetime = Field(sa_type=UtcDateTime)
    verdict: str = Field(default=FaceVerdict.PENDING, max_length=16)
    score: float | None = None
    """How alike the faces are, 0–1; None until they have been compared."""
