"""Tickets, the rules by which they escalate, and what happened to them.

    open → on_hold → open     it does not escalate while it waits
    open, on_hold → resolved → closed; a resolved one may be opened again
    open, on_hold → cancelled

An open ticket that has stood at its level for longer than the rule of its category and level allows goes up by one:
a compare-and-set on `level`, together with its line of history and the task that mails, so that of several workers one
does it, once. Each change counts `version` up; a line of history is unique on ticket + version.
"""

from datetime import datetime
from enum import StrEnum
from typing import Final

from sqlalchemy import Index, Text, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from models.columns import UtcDateTime


class TicketState(StrEnum):
    """`tickets.state`."""

    OPEN = "open"
    ON_HOLD = "on_hold"
    RESOLVED = "resolved"
    CLOSED = "closed"
    CANCELLED = "cancelled"


TICKET_MOVES: Final[dict[TicketState, frozenset[TicketState]]] = {
    TicketState.OPEN: frozenset({TicketState.ON_HOLD, TicketState.RESOLVED, TicketState.CANCELLED}),
    TicketState.ON_HOLD: frozenset({TicketState.OPEN, TicketState.RESOLVED, TicketState.CANCELLED}),
    TicketState.RESOLVED: frozenset({TicketState.OPEN, TicketState.CLOSED}),
    TicketState.CLOSED: frozenset(),
    TicketState.CANCELLED: frozenset(),
}
"""The allowed moves."""


class TicketChange(StrEnum):
    """`ticket_history.change`."""

    OPENED = "opened"
    ESCALATED = "escalated"
    REASSIGNED = "reassigned"
    COMMENTED = "commented"
    STATE = "state"
    """It went to another state; the note says why."""


IS_OPEN = text("state = 'open'")
"""The words of the partial index: a query that wants it repeats them, as a bound value proves nothing to a planner."""


class Ticket(SQLModel, table=True):
    """Something that is wrong at a site."""

    __tablename__ = "tickets"
    __table_args__ = (
        Index(
            "ix_tickets_open_category_level_level_since_at",
            "category", "level", "level_since_at",
            sqlite_where=IS_OPEN,
            postgresql_where=IS_OPEN,
        ),
    )  # fmt: skip

    ticket_id: int | None = Field(default=None, primary_key=True)
    version: int = 1
    """Counts up with every change."""
    title: str = Field(max_length=200)
    description: str = Field(default="", sa_type=Text)
    site_id: int = Field(foreign_key="sites.site_id")
    category: str = Field(default="general", max_length=64)
    """Decides which rules escalate it."""
    state: str = Field(default=TicketState.OPEN, max_length=16)
    level: int = 0
    """How often it has escalated."""
    level_since_at: datetime = Field(sa_type=UtcDateTime)
    """Since when it has stood at this level."""
    assignee_id: int | None = Field(default=None, foreign_key="people.person_id")
    job_id: int | None = Field(default=None, foreign_key="jobs.job_id", ondelete="SET NULL", unique=True)
    """The job that nobody did, if it comes from one: a job becomes a ticket once."""
    opened_at: datetime = Field(sa_type=UtcDateTime)
    updated_at: datetime = Field(sa_type=UtcDateTime)
    closed_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When it was resolved or cancelled."""


class EscalationRule(SQLModel, table=True):
    """How long a ticket may stand at a level, and who gets it then. Without a rule it stays there."""

    __tablename__ = "escalation_rules"

    category: str = Field(primary_key=True, max_length=64)
    level: int = Field(primary_key=True)
    """At which the ticket stands."""
    after_s: int
    """For so long."""
    assignee_id: int | None = Field(default=None, foreign_key="people.person_id")
    """Who gets it at the next level; None: whoever has it."""


class TicketHistory(SQLModel, table=True):
    """A change of a ticket: written once, never changed."""

    __tablename__ = "ticket_history"
    __table_args__ = (UniqueConstraint("ticket_id", "version", name="uq_ticket_history_ticket_id_version"),)

    history_id: int | None = Field(default=None, primary_key=True)
    ticket_id: int = Field(foreign_key="tickets.ticket_id", ondelete="CASCADE")
    version: int
    """The ticket's, after the change."""
    change: str = Field(max_length=16)
    note: str = Field(default="", max_length=500)
    level: int
    """After the change, as the next two."""
    assignee_id: int | None = Field(default=None, foreign_key="people.person_id")
    state: str = Field(max_length=16)
    by: str = Field(max_length=200)
    """A person's name, or the actor's."""
    task_id: str | None = Field(default=None, max_length=64)
    """The task that made the change; None: a person."""
    at: datetime = Field(sa_type=UtcDateTime)


class TicketRecipient(SQLModel, table=True):
    """Who is told of a ticket besides its assignee."""

    __tablename__ = "ticket_recipients"

    ticket_id: int = Field(primary_key=True, foreign_key="tickets.ticket_id", ondelete="CASCADE")
    person_id: int = Field(primary_key=True, foreign_key="people.person_id", ondelete="CASCADE")
