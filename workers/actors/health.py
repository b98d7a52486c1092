"""Health: what the machine, the database and the bus are like, and an alert where a threshold is passed.

Idempotency key of a sample: its task. Of an alert: its key, of which at most one is open (a unique index); it is closed
by the first sample below the threshold (workers.alerts.watch). How long tasks wait is measured here too; of that the
rule `queue_age` makes an alert.
"""

import shutil
import socket
import time
from datetime import UTC, datetime
from typing import Any

from models import alert_moves, direct, health_moves
from models.health_moves import Sample
from models.task import TaskType
from workers import callboard
from workers.alerts import watch
from workers.registry import actor
from workers.runner.current import current_task
from workers.settings import Settings

CPU_WINDOW_S = 0.5
TIME_LIMIT_S = 30.0
MAX_RETRIES = 1


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
