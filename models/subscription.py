"""Subscriptions: which people get a mail that is not about a record of theirs."""

from enum import StrEnum

from sqlmodel import Field, Session, SQLModel, col, select

from models.person import Person


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


def subscribers(session: Session, topic: Topic) -> list[Person]:
    """The people who get a topic's mails and have not left, by name."""
    return list(
        session.exec(
            select(Person)
            .where(
                col(Person.person_id) == col(Subscription.person_id),
                col(Subscription.topic) == topic,
                col(Person.is_active),
            )
            .order_by(col(Person.name), col(Person.person_id))
        )
    )
