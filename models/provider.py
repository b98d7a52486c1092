"""Providers: services outside that actors depend on. What was measured of them: models.health.ProviderSample."""

from enum import StrEnum

from sqlmodel import Field, Session, SQLModel, col, select


class ProviderKind(StrEnum):
    """How a provider is probed."""

    HTTP = "http"
    SMTP = "smtp"
    MQTT = "mqtt"
    SNMP = "snmp"


class Provider(SQLModel, table=True):
    """A service that is probed."""

    __tablename__ = "providers"

    provider: str = Field(primary_key=True, max_length=100)
    """Its name, as `erp` or `core-switch`."""
    kind: str = Field(max_length=16)
    target: str = Field(max_length=500)
    """URL of HTTP (`https://erp.example.org/health`), else `host:port`. Holds no secret."""
    is_enabled: bool = True
    timeout_s: float = 5.0
    """For connecting and for each answer."""


def enabled(session: Session, *, limit: int) -> list[str]:
    """The names of those that are probed, in their order."""
    wanted = select(Provider.provider).where(col(Provider.is_enabled)).order_by(col(Provider.provider)).limit(limit)
    return list(session.exec(wanted))
