"""People whom mails reach, and who supervises whom.

Must not: say who may do what (workers.access), or hold addresses of vendors (models.vendor).
"""

from sqlmodel import Field, SQLModel


class Person(SQLModel, table=True):
    """Somebody who asks, approves, verifies, guards, repairs or is told."""

    __tablename__ = "people"

    person_id: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=200)
    email: str = Field(max_length=254)
    """Checked when a mail is sent (workers.clients.address)."""
    is_active: bool = True
    """Who has left gets no mail."""


class Supervision(SQLModel, table=True):
    """A supervisor of a person; both may have several."""

    __tablename__ = "supervisions"

    person_id: int = Field(primary_key=True, foreign_key="people.person_id", ondelete="CASCADE")
    supervisor_id: int = Field(primary_key=True, foreign_key="people.person_id", ondelete="CASCADE")
