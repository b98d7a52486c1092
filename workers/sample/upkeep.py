"""What maintenance and health work on: a feature that is off, sessions of which one has expired, what is cached, and
providers: Callboard's own API, its mail catcher, and a broker that is switched off.
"""

import hashlib
from datetime import datetime, timedelta

from sqlmodel import SQLModel

from models.cache_entry import CacheEntry
from models.feature_flag import FeatureFlag
from models.provider import Provider, ProviderKind
from models.user_session import UserSession
from workers.sample.people import ANITA, RAVI
from workers.settings import Settings


def rows(settings: Settings, now: datetime) -> list[SQLModel]:
    """A flag, two sessions, five cache entries, three providers."""
    return [
        FeatureFlag(name="premium_digest", is_on=False, changed_at=now - timedelta(days=30)),
        _session("one that has expired", RAVI, now - timedelta(hours=9), now - timedelta(hours=1)),
        _session("one that has not", ANITA, now - timedelta(hours=1), now + timedelta(hours=7)),
        *(
            CacheEntry(key=name, dataset=name)
            for name in ("sites", "vendors", "escalation_rules", "feature_flags", "providers")
        ),
        Provider(provider="api", kind=ProviderKind.HTTP, target=f"{settings.own_base}/health/live"),
        Provider(
            provider="mail",
            kind=ProviderKind.SMTP,
            target=f"127.0.0.1:{settings.mail_catcher_port}",
            # why: with a mail server there is no catcher, and one that is away is an alert.
            is_enabled=settings.smtp_url is None,
        ),
        Provider(provider="building-mqtt", kind=ProviderKind.MQTT, target="127.0.0.1:1883", is_enabled=False),
    ]


def _session(secret: str, person_id: int, created_at: datetime, expires_at: datetime) -> UserSession:
    digest = hashlib.sha256(secret.encode()).hexdigest()
    return UserSession(session_hash=digest, person_id=person_id, created_at=created_at, expires_at=expires_at)
