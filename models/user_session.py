"""User sessions: who is logged in, until when."""

from datetime import datetime

from sqlalchemy import Index
from sqlmodel import Field, SQLModel

from models.columns import UtcDateTime


class UserSession(SQLModel, table=True):
    """A login of a person."""

    __tablename__ = "user_sessions"
    __table_args__ = (Index("ix_user_sessions_expires_at", "expires_at"),)

    session_hash: str = Field(primary_key=True, max_length=64)
    """SHA-256 of what the browser holds, in hexadecimal: who reads the table cannot log in with it."""
    person_id: int = Field(foreign_key="people.person_id", ondelete="CASCADE")
    created_at: datetime = Field(sa_type=UtcDateTime)
    expires_at: datetime = Field(sa_type=UtcDateTime)
