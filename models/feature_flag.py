"""Feature flags: what is switched on here."""

from datetime import datetime

from sqlmodel import Field, Session, SQLModel

from models.columns import UtcDateTime


class FeatureFlag(SQLModel, table=True):
    """A feature that can be on or off."""

    __tablename__ = "feature_flags"

    name: str = Field(primary_key=True, max_length=100)
    is_on: bool = False
    changed_at: datetime = Field(sa_type=UtcDateTime)


def is_on(session: Session, name: str) -> bool:
    """Whether a feature is on; one without a row is off."""
    flag = session.get(FeatureFlag, name)
    return flag is not None and flag.is_on
