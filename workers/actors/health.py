"""Health: what the machine, the database and the bus are like, whether providers answer, and alerts of both.

Idempotency key of a sample: its task. Of an alert: its key, of which at most one is open (a unique index); it is closed
by the first sample below the threshold (workers.alerts.watch). How long tasks wait is measured here too; of that the
rule `queue_age` makes an alert.

Providers: `probe_all_providers` sends a task for each, in one transaction and under ids that follow from its own, so
that a second run sends nothing new; while the last probe of a provider waits or runs, no other is sent. A sample is its
task's: a second run finds it. The rule `provider_down` looks at the newest sample of each, so an alert is opened
and closed where that changes. What a crash leaves: before the commit nothing, after it rows that the relay sends.
"""

import shutil
import socket
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Len

from models import alert_moves, database, direct, health_moves
from models.health_moves import Sample
from models.task import TaskType, derived_task_id, new_task_id
from workers import callboard
from workers.alerts import watch
from workers.errors import PermanentError
from workers.registry import actor
from workers.runner.current import current_task
from workers.settings import Settings

if TYPE_CHECKING:
    from models.health import ProviderSample

CPU_WINDOW_S = 0.5
TIME_LIMIT_S = 30.0
MAX_RETRIES = 1
PROBE_ALL_LIMIT_S = 120.0
PROBE_LIMIT_S = 60.0
MOST_PROVIDERS = 1_000


def measure(task_id: str) -> Sample:
    """Take one sample of this machine; raises what the database or Redis raise if they cannot be reached."""
    import psutil  # why: only this actor needs it.

    started_s = time.perf_counter()
    with direct.reading() as to:
        to.run("SELECT 1")
        database_ms = (time.perf_counter() - started_s) * 1000
        waits_since = health_moves.oldest_waiting_since(to)
    started_s = time.perf_counter()
    callboard.broker.client.ping()
    redis_ms = (time.perf_counter() - started_s) * 1000
    disk = shutil.disk_usage(callboard.settings.var_dir if callboard.settings.var_dir.exists() else ".")
    now = datetime.now(UTC)
    return Sample(
        task_id=task_id,
        sampled_at=now,
        hostname=socket.gethostname(),
        cpu_percent=psutil.cpu_percent(interval=CPU_WINDOW_S),
        memory_percent=psutil.virtual_memory().percent,
        disk_percent=100 * disk.used / disk.total,
        database_ms=database_ms,
        redis_ms=redis_ms,
        queue_age_s=0.0 if waits_since is None else max(0.0, (now - waits_since).total_seconds()),
    )


def thresholds(settings: Settings) -> dict[str, float]:
    """Sample column → the value above which it is an alert."""
    return {
        "cpu_percent": settings.health_cpu_percent,
        "memory_percent": settings.health_memory_percent,
        "disk_percent": settings.health_disk_percent,
        "database_ms": settings.health_round_trip_ms,
        "redis_ms": settings.health_round_trip_ms,
    }


def judge(sample: Sample, limits: dict[str, float]) -> list[str]:
    """Store the sample, and open and close alerts by it.

    A crash between the two leaves a sample without its alert; the next one says the same.

    Returns:
        The keys of the alerts that are open after it.
    """
    opened: list[str] = []
    hostname, at = sample.hostname, sample.sampled_at
    with direct.transaction() as to:
        health_moves.keep(to, sample)
        known = alert_moves.open_alerts(to)
    for column, limit in limits.items():
        key, value = f"health.{column}@{hostname}", float(getattr(sample, column))
        alert = known.get(key)
        if value > limit:
            opened.append(key)
            if alert is None:
                said = f"{column} of {hostname} is {value:.1f}, above {limit:g}"
                watch.open_(callboard, key, rule="health", message=said, now=at)
        elif alert is not None:
            watch.close(callboard, alert, at)
    return opened


@actor(
    task_type=TaskType.HEALTH,
    aliases=("system_health_check_job", "health_check"),
    max_retries=MAX_RETRIES,
    time_limit_s=TIME_LIMIT_S,
)
def check_system() -> dict[str, Any]:
    """Measure CPU, memory, disk, database, Redis and queue age; store the sample; alert over a threshold."""
    task = current_task()
    sample = measure(task.id or f"direct-{time.time_ns()}")
    shown = {name: getattr(sample, name) for name in Sample.__struct_fields__ if name != "task_id"}
    return {**shown, "alerts": judge(sample, thresholds(callboard.settings))}


# --- providers -------------------------------------------------------------------------------------------------------


def send_probes(task_id: str) -> list[str]:
    """Send a probe of each enabled provider; returns their names."""
    from models import provider

    probing = callboard.registry.resolve("health.probe_provider")
    with database.writing() as session:
        names = provider.enabled(session, limit=MOST_PROVIDERS)
        for name in names:
            message = probing.message_with_options(kwargs={"provider": name}, idempotency_key=f"probe:{name}")
            message = message.copy(message_id=derived_task_id(task_id, f"probe:{name}"))
            callboard.broker.send_in(session, message)
    return names


@actor(
    task_type=TaskType.HEALTH,
    aliases=("probe_all_providers_job",),
    max_retries=MAX_RETRIES,
    time_limit_s=PROBE_ALL_LIMIT_S,
)
def probe_all_providers() -> dict[str, Any]:
    """Send a probe of each provider that is enabled in the table `providers`, each as a task of its own."""
    return {"providers": send_probes(current_task().id or new_task_id())}


def probe_and_store(name: str, task_id: str) -> "ProviderSample":
    """Probe a provider and store what was found; a second call for a task returns what the first one stored.

    Raises:
        PermanentError: there is no such provider, or it cannot be probed as it stands.
    """
    from models import health
    from models.provider import Provider
    from workers.clients.probes import probe

    with database.reading() as session:
        provider, known = session.get(Provider, name), health.sample_of(session, task_id)
    if known is not None:
        return known
    if provider is None:
        raise PermanentError(f"there is no provider {name!r:.120}: it was taken out of the table providers, or the "
                             "name is wrong")  # fmt: skip
    found = probe(provider.kind, provider.target, provider.timeout_s)
    sample = health.ProviderSample(
        provider=name,
        sampled_at=datetime.now(UTC),
        is_up=found.is_up,
        latency_ms=found.latency_ms,
        error=found.error,
        task_id=task_id,
    )
    with database.writing() as session:
        return health.record_sample(session, sample)


@actor(task_type=TaskType.HEALTH, max_retries=MAX_RETRIES, time_limit_s=PROBE_LIMIT_S)
def probe_provider(provider: Annotated[str, Len(1, 100)]) -> dict[str, Any]:
    """Ask one provider whether it is there, and store the answer. A provider that is down is an answer, no failure.

    Args:
        provider: its name in the table `providers`.
    """
    sample = probe_and_store(provider, current_task().id or new_task_id())
    return sample.model_dump(mode="json", exclude={"task_id", "sampled_at"})
