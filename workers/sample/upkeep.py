"""What maintenance and health work on: a feature that is off, sessions of which one has expired."""

import hashlib
from datetime import datetime, timedelta

from sqlmodel import SQLModel

from models.feature_flag import FeatureFlag
from models.user_session import UserSession
from workers.sample.people import ANITA, RAVI


def rows(now: datetime) -> list[SQLModel]:
    """A flag and two sessions."""
    return [
        FeatureFlag(name="premium_digest", is_on=False, changed_at=now - timedelta(days=30)),
        _session("one that has expired", RAVI, now - timedelta(hours=9), now - timedelta(hours=1)),
        _session("one that has not", ANITA, now - timedelta(hours=1), now + timedelta(hours=7)),
    ]


def _session(secret: str, person_id: int, created_at: datetime, expires_at: datetime) -> UserSession:
    digest = hashlib.sha256(secret.encode()).hexdigest()
    return UserSession(session_hash=digest, person_id=person_id, created_at=created_at, expires_at=expires_at)
