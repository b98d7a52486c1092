"""Health: what the machine, the database and the bus are like, and an alert where a threshold is passed.

Idempotency key of a sample: its task. Of an alert: its key, of which at most one is open (a unique index); it is closed
by the first sample below the threshold.
"""

import logging
import shutil
import socket
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from models import database
from models.task import TaskType
from workers import callboard
from workers.actors.email import send_alert
from workers.registry import actor
from workers.runner.current import current_task
from workers.settings import Settings

if TYPE_CHECKING:
    from models.health import HealthSample

CPU_WINDOW_S = 0.5
TIME_LIMIT_S = 30.0
MAX_RETRIES = 1
NOTICE_GRACE_S = 60.0
"""A notice that was decided on this long ago and has no task was lost with its process, and is sent again."""

_logger = logging.getLogger(__name__)


def measure(task_id: str) -> "HealthSample":
    """Take one sample of this machine; raises what the database or Redis raise if they cannot be reached."""
    # why: only this actor needs it; and a worker loads SQLAlchemy when a task needs it (so below, too).
    import psutil
    from sqlalchemy import text

    from models import task_query
    from models.health import HealthSample

    started_s = time.perf_counter()
    with database.reading() as session:
        session.execute(text("SELECT 1"))
        database_ms = (time.perf_counter() - started_s) * 1000
        oldest = task_query.oldest_pending(session)
    started_s = time.perf_counter()
    callboard.broker.client.ping()
    redis_ms = (time.perf_counter() - started_s) * 1000
    disk = shutil.disk_usage(callboard.settings.var_dir if callboard.settings.var_dir.exists() else ".")
    now = datetime.now(UTC)
    return HealthSample(
        task_id=task_id,
        sampled_at=now,
        hostname=socket.gethostname(),
        cpu_percent=psutil.cpu_percent(interval=CPU_WINDOW_S),
        memory_percent=psutil.virtual_memory().percent,
        disk_percent=100 * disk.used / disk.total,
        database_ms=database_ms,
        redis_ms=redis_ms,
        queue_age_s=0.0 if oldest is None else max(0.0, (now - oldest.created_at).total_seconds()),
    )


def thresholds(settings: Settings) -> dict[str, float]:
    """Sample column → the value above which it is an alert."""
    return {
        "cpu_percent": settings.health_cpu_percent,
        "memory_percent": settings.health_memory_percent,
        "disk_percent": settings.health_disk_percent,
        "database_ms": settings.health_round_trip_ms,
        "redis_ms": settings.health_round_trip_ms,
        "queue_age_s": settings.health_queue_age_s,
    }


def judge(sample: "HealthSample", limits: dict[str, float]) -> list[str]:
    """Store the sample and open and close alerts by it, in one transaction.

    Returns:
        The keys of the alerts that are open after it.
    """
    from models.health import Alert, add_alert, open_alert

    opened: list[str] = []
    with database.writing() as session:
        session.merge(sample)
        for column, limit in limits.items():
            key = f"health.{column}@{sample.hostname}"
            value = float(getattr(sample, column))
            alert = open_alert(session, key)
            if value > limit:
                opened.append(key)
                if alert is None:
                    said = f"{column} of {sample.hostname} is {value:.1f}, above {limit:g}"
                    if add_alert(session, Alert(key=key, message=said, opened_at=sample.sampled_at)):
                        _logger.warning("alert: %s", said)
            elif alert is not None:
                alert.closed_at = sample.sampled_at
                _logger.warning("alert over: %s", alert.message)
    return opened


def send_notices() -> None:
    """Mail each open alert once.

    The task's id is put on the alert first, compare and set, so that of two checks only one sends. A crash before the
    send leaves an id without a task: after NOTICE_GRACE_S the notice is sent again.
    """
    from models.health import take_notice, untold_alerts

    if not callboard.settings.alert_recipients:
        return
    lost_before = _first_id_at(datetime.now(UTC) - timedelta(seconds=NOTICE_GRACE_S))
    with database.reading() as session:
        untold = untold_alerts(session, lost_before=lost_before)
    for alert in untold:
        message = send_alert.message(alert_id=alert.alert_id)
        with database.writing() as session:
            mine = take_notice(session, alert, message.message_id)
        if mine:
            callboard.broker.enqueue(message)


def _first_id_at(moment: datetime) -> str:
    """Sorts before every task id made from this moment on: a UUIDv7 begins with its milliseconds."""
    digits = f"{int(moment.timestamp() * 1000):012x}"
    return f"{digits[:8]}-{digits[8:]}"


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
    alerts = judge(sample, thresholds(callboard.settings))
    send_notices()
    return {**sample.model_dump(mode="json", exclude={"task_id"}), "alerts": alerts}
