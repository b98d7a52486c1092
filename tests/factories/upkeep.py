"""What maintenance and health work on: sessions, cache entries, feature flags, providers, documents, alerts."""

import hashlib
from datetime import timedelta
from pathlib import Path
from typing import Any

from models.alert import Alert
from models.cache_entry import CacheEntry
from models.document import Document, DocumentKind
from models.feature_flag import FeatureFlag
from models.provider import Provider, ProviderKind
from models.user_session import UserSession
from tests.factories.people import hire
from tests.factories.storing import NOW, store


def log_in(name: str = "s1", **changes: Any) -> UserSession:
    """Store a session that has expired an hour ago; `person_id` is made unless given."""
    columns = {
        "session_hash": hashlib.sha256(name.encode()).hexdigest(),
        "created_at": NOW - timedelta(hours=9),
        "expires_at": NOW - timedelta(hours=1),
    }
    if "person_id" not in changes:
        columns["person_id"] = hire()
    return store(UserSession, columns, changes)


def cache(key: str, dataset: str, **changes: Any) -> CacheEntry:
    """Store a key that is to be warmed."""
    return store(CacheEntry, {"key": key, "dataset": dataset}, changes)


def switch(name: str, *, is_on: bool) -> FeatureFlag:
    """Store a feature flag."""
    return store(FeatureFlag, {"name": name, "is_on": is_on, "changed_at": NOW}, {})


def know_provider(provider: str = "erp", **changes: Any) -> Provider:
    """Store a provider; its `target` is the test's own server."""
    return store(Provider, {"provider": provider, "kind": ProviderKind.HTTP, "target": "", "timeout_s": 1.0}, changes)


def keep_document(directory: Path, name: str = "a.pdf", content: bytes = b"%PDF-1.4 a", **changes: Any) -> Document:
    """Store a document and its file, made 400 days ago."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_bytes(content)
    columns = {
        "kind": DocumentKind.INFORMATION_REPORT,
        "subject": name,
        "version": 1,
        "path": name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
        "pages": 1,
        "created_at": NOW - timedelta(days=400),
    }
    return store(Document, columns, changes)


def raise_alert(**changes: Any) -> Alert:
    """Store an open alert about Callboard itself."""
    return store(Alert, {"key": "k", "message": "disk is full", "opened_at": NOW}, changes)
