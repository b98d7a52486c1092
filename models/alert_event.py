"""Alert events: what a site's devices report, and who is told by which rule.

Not to be mixed up with `alerts` (models.alert), which are about Callboard itself.
"""

from datetime import datetime

from sqlmodel import Field, SQLModel

from models.columns import UtcDateTime


class AlertRule(SQLModel, table=True):
    """A kind of event, and whether its people are told."""

    __tablename__ = "alert_rules"

    rule_id: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=200, unique=True)
    is_enabled: bool = True
    """Where it is not, its events are kept and nobody is told."""


class AlertRuleRecipient(SQLModel, table=True):
    """A person whom a rule tells."""

    __tablename__ = "alert_rule_recipients"

    rule_id: int = Field(primary_key=True, foreign_key="alert_rules.rule_id", ondelete="CASCADE")
    person_id: int = Field(primary_key=True, foreign_key="people.person_id", ondelete="CASCADE")


class AlertEvent(SQLModel, table=True):
    """Something that a device at a site reported."""

    __tablename__ = "alert_events"

    event_id: int | None = Field(default=None, primary_key=True)
    rule_id: int = Field(foreign_key="alert_rules.rule_id")
    site_id: int = Field(foreign_key="sites.site_id")
    source: str = Field(max_length=200)
    """The device, as `DG set 2, panel A`."""
    message: str = Field(max_length=500)
    occurred_at: datetime = Field(sa_type=UtcDateTime)
