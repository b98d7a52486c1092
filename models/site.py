"""Sites: the places where permits, jobs and tickets are."""

from sqlmodel import Field, SQLModel


class Site(SQLModel, table=True):
    """A building or a yard."""

    __tablename__ = "sites"

    site_id: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=200)
    address: str = Field(default="", max_length=300)
    time_zone: str = Field(default="UTC", max_length=64)
    """IANA name, in which times are shown to its people and its plans fall due."""
