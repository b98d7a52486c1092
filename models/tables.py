"""Every table, imported in one place, so that SQLModel.metadata is complete for migrations and tests."""

from models.alert import Alert, AlertSample
from models.alert_event import AlertEvent, AlertRule, AlertRuleRecipient
from models.audit import AuditEntry
from models.cache_entry import CacheEntry
from models.document import Document
from models.face_event import FaceEvent
from models.feature_flag import FeatureFlag
from models.health import HealthSample, ProviderSample
from models.job import Job, JobAssignee, MaintenancePlan, PlanAssignee
from models.mail import EmailDelivery
from models.permit import PermitAttachment, PermitParty, UsedLink, WorkPermit
from models.person import Person, Supervision
from models.provider import Provider
from models.report import InformationReport
from models.schedule import Schedule, ScheduleRun
from models.site import Site
from models.subscription import Subscription
from models.task_hour import TaskHour
from models.task_tables import Chore, IdempotencyKey, Task, TaskAttempt, TaskGroup, TaskLog, WorkerProcess
from models.ticket import EscalationRule, Ticket, TicketHistory, TicketRecipient
from models.timetable import Timetable
from models.total_tables import TABLES as TOTALS
from models.user_session import UserSession
from models.vendor import SlaFigure, SlaPeriod, Vendor

__all__ = [
    "TOTALS",
    "Alert",
    "AlertEvent",
    "AlertRule",
    "AlertRuleRecipient",
    "AlertSample",
    "AuditEntry",
    "CacheEntry",
    "Chore",
    "Document",
    "EmailDelivery",
    "EscalationRule",
    "FaceEvent",
    "FeatureFlag",
    "HealthSample",
    "IdempotencyKey",
    "InformationReport",
    "Job",
    "JobAssignee",
    "MaintenancePlan",
    "PermitAttachment",
    "PermitParty",
    "Person",
    "PlanAssignee",
    "Provider",
    "ProviderSample",
    "Schedule",
    "ScheduleRun",
    "Site",
    "SlaFigure",
    "SlaPeriod",
    "Subscription",
    "Supervision",
    "Task",
    "TaskAttempt",
    "TaskGroup",
    "TaskHour",
    "TaskLog",
    "Ticket",
    "TicketHistory",
    "TicketRecipient",
    "Timetable",
    "UsedLink",
    "UserSession",
    "Vendor",
    "WorkPermit",
    "WorkerProcess",
]
