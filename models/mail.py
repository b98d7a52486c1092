"""Deliveries: one row for each mail to each person, so that a task that runs again mails nobody twice."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import UniqueConstraint
from sqlmodel import Field, SQLModel

from models.columns import UtcDateTime


class DeliveryOutcome(StrEnum):
    """`sending` is written before the SMTP conversation, the other two after the server's answer."""

    SENDING = "sending"
    SENT = "sent"
    REFUSED = "refused"


class EmailDelivery(SQLModel, table=True):
    """A mail to one recipient. Unique on task and recipient: the idempotency key of every notification."""

    __tablename__ = "email_deliveries"
    __table_args__ = (UniqueConstraint("task_id", "recipient", name="uq_email_deliveries_task_id_recipient"),)

    delivery_id: int | None = Field(default=None, primary_key=True)
    task_id: str = Field(max_length=64)
    recipient: str = Field(max_length=320)
    message_id: str = Field(max_length=200)
    """The Message-ID header, the same in every try, so that a mail sent twice can be recognised as one."""
    template: str = Field(max_length=100)
    subject: str = Field(max_length=300)
    outcome: str = Field(default=DeliveryOutcome.SENDING, max_length=16)
    smtp_response: str | None = Field(default=None, max_length=1_000)
    created_at: datetime = Field(sa_type=UtcDateTime)
    sent_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
