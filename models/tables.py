"""Every table, imported in one place, so that SQLModel.metadata is complete for migrations and tests."""

from models.alert import Alert, AlertSample
from models.audit import AuditEntry
from models.health import HealthSample, ProviderSample
from models.mail import EmailDelivery
from models.report import InformationReport, ReportDocument
from models.schedule import Schedule, ScheduleRun, Timetable
from models.task_tables import Chore, IdempotencyKey, Task, TaskAttempt, TaskGroup, TaskLog, WorkerProcess
from models.total_tables import TABLES as TOTALS

__all__ = [
    "TOTALS",
    "Alert",
    "AlertSample",
    "AuditEntry",
    "Chore",
    "EmailDelivery",
    "HealthSample",
    "IdempotencyKey",
    "InformationReport",
    "ProviderSample",
    "ReportDocument",
    "Schedule",
    "ScheduleRun",
    "Task",
    "TaskAttempt",
    "TaskGroup",
    "TaskLog",
    "Timetable",
    "WorkerProcess",
]
