"""What maintenance and health work on: sessions, cache entries, feature flags, providers, documents, alerts, and what
is long past.
"""

import hashlib
import itertools
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from models.alert import Alert
from models.audit import AuditEntry
from models.cache_entry import CacheEntry
from models.document import Document, DocumentKind
from models.feature_flag import FeatureFlag
from models.health import HealthSample
from models.provider import Provider, ProviderKind
from models.schedule import Origin, Schedule
from models.task import TERMINAL, Task, TaskStatus
from models.user_session import UserSession
from tests.factories.people import hire
from tests.factories.storing import NOW, store
from tests.models import crowd

_numbers = itertools.count()


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


def past_task(ago: timedelta, *, status: TaskStatus = TaskStatus.COMPLETED, **changes: Any) -> str:
    """Store a task that was sent, and ended if it has, so long ago; returns its id."""
    at = NOW - ago
    columns = {
        "task_id": crowd.task_id(at, next(_numbers)),
        "task_name": "past.task",
        "queue": "past",
        "status": status,
        "attempt": 1,
        "result": {"said": "done"},
        "created_at": at,
        "enqueued_at": at,
        "started_at": at,
        "completed_at": at if status in TERMINAL else None,
    }
    return store(Task, columns, changes).task_id


def schedule_once(schedule_id: str, at: datetime, **changes: Any) -> Schedule:
    """Store a schedule that a person added: it is due at that time, once."""
    columns = {
        "schedule_id": schedule_id,
        "actor": "diagnostics.run_self_test",
        "trigger": {"kind": "date", "run_date": at.isoformat()},
        "origin": Origin.USER,
        "next_run_at": at if at > NOW else None,
        "created_at": NOW - timedelta(days=9),
        "updated_at": NOW - timedelta(days=9),
    }
    return store(Schedule, columns, changes)


def audit(action: str, target: str, **changes: Any) -> AuditEntry:
    """Store an entry of the audit log."""
    columns = {
        "at": NOW, "who": "ada", "via": "REST", "from_address": "127.0.0.1", "action": action, "target": target,
        "outcome": "done",
    }  # fmt: skip
    return store(AuditEntry, columns, changes)


def sample_health(hostname: str, at: datetime) -> HealthSample:
    """Store a sample of a machine."""
    measured = ("cpu_percent", "memory_percent", "disk_percent", "database_ms", "redis_ms", "queue_age_s")
    columns = {"task_id": f"sample-{at.timestamp()}", "sampled_at": at, "hostname": hostname}
    return store(HealthSample, {**columns, **dict.fromkeys(measured, 1.0)}, {})
