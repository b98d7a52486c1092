"""Subscriptions: which people get a mail that is not about a record of theirs."""

from enum import StrEnum

from sqlmodel import Field, SQLModel


class Topic(StrEnum):
    """What can be subscribed to."""

    SLA_REPORT = "sla_report"
    DAILY_REPORT = "daily_report"
    PREMIUM_DIGEST = "premium_digest"


class Subscription(SQLModel, table=True):
    """A person gets the mails of a topic."""

    __tablename__ = "subscriptions"

    topic: str = Field(primary_key=True, max_length=32)
    person_id: int = Field(primary_key=True, foreign_key="people.person_id", ondelete="CASCADE")
