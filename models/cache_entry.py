"""Cache entries: what is worth having in Redis before somebody asks for it."""

from datetime import datetime

from sqlmodel import Field, SQLModel

from models.columns import UtcDateTime


class CacheEntry(SQLModel, table=True):
    """A key, and what its value is made of."""

    __tablename__ = "cache_entries"

    key: str = Field(primary_key=True, max_length=100)
    """Its name in Redis, after the prefix."""
    dataset: str = Field(max_length=64)
    """Which query makes its value; the names are those that the actor knows."""
    ttl_s: int = 3_600
    """How long the value is kept in Redis."""
    is_enabled: bool = True
    warmed_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When its value was last put there."""
