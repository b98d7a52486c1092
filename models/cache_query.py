"""What is worth having in the cache: named data sets, each one query of bounded length.

    DATASETS["sites"](session) → a value that JSON can hold

Must not: know the cache.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import update
from sqlmodel import Session, SQLModel, col, func, select

from models.cache_entry import CacheEntry
from models.feature_flag import FeatureFlag
from models.health import ProviderSample
from models.provider import Provider
from models.site import Site
from models.task_tables import Task
from models.ticket import EscalationRule
from models.vendor import Vendor

MOST_ROWS: Final = 10_000
"""Of one data set, and of entries."""

Dataset = Callable[[Session], Any]


def entries(session: Session) -> list[CacheEntry]:
    """The cache entries, by key; also those that are not enabled."""
    return list(session.exec(select(CacheEntry).order_by(col(CacheEntry.key)).limit(MOST_ROWS)))


def note_warmed(session: Session, keys: Sequence[str], at: datetime) -> None:
    """The values of these keys were put into the cache."""
    session.execute(update(CacheEntry).where(col(CacheEntry.key).in_(keys)).values(warmed_at=at))


def _rows(session: Session, table: type[SQLModel], *order: Any, where: Any = True) -> list[dict[str, Any]]:
    found = session.exec(select(table).where(where).order_by(*order).limit(MOST_ROWS))
    return [row.model_dump(mode="json") for row in found]


def _providers(session: Session) -> dict[str, Any]:
    """Each enabled provider by its name, as it was when it was probed last; None: it never was."""
    newest = (
        select(func.max(col(ProviderSample.sampled_at)))
        .where(col(ProviderSample.provider) == col(Provider.provider))
        .correlate(Provider)
        .scalar_subquery()
    )
    found = session.exec(
        select(Provider, ProviderSample)
        .outerjoin(
            ProviderSample,
            (col(ProviderSample.provider) == col(Provider.provider)) & (col(ProviderSample.sampled_at) == newest),
        )
        .where(col(Provider.is_enabled))
        .order_by(col(Provider.provider))
        .limit(MOST_ROWS)
    )
    return {
        provider.provider: None
        if sample is None
        else {"is_up": sample.is_up, "latency_ms": sample.latency_ms, "sampled_at": sample.sampled_at.isoformat()}
        for provider, sample in found
    }


def _unfinished(session: Session) -> dict[str, int]:
    """How many tasks are pending or running."""
    unfinished = {"pending", "running"}
    found = session.exec(
        select(Task.status, func.count())
        # why both: only with the second one is the partial index taken.
        .where(col(Task.status).in_(sorted(unfinished)), col(Task.status) != "completed")
        .group_by(col(Task.status))
    )
    return {**dict.fromkeys(sorted(unfinished), 0), **dict(found.all())}


DATASETS: Final[Mapping[str, Dataset]] = {
    "sites": lambda session: _rows(session, Site, col(Site.site_id)),
    "vendors": lambda session: _rows(session, Vendor, col(Vendor.vendor_id), where=col(Vendor.is_active)),
    "escalation_rules": lambda session: _rows(
        session, EscalationRule, col(EscalationRule.category), col(EscalationRule.level)
    ),
    "feature_flags": lambda session: {
        flag["name"]: flag["is_on"] for flag in _rows(session, FeatureFlag, col(FeatureFlag.name))
    },
    "providers": _providers,
    "unfinished_tasks": _unfinished,
}
"""What cache entries may name."""
