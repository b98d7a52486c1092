"""Every actor run twice for one task has one effect. An actor without a row in the table fails the suite."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from models import database
from models.alert import Alert
from models.document import Document
from models.health import HealthSample
from models.mail import EmailDelivery
from models.task import Task
from tests.factories.reports import file_report
from tests.workers.actors.running import all_rows, as_task
from tests.workers.alerts.conftest import Webhook, webhook
from tests.workers.clients.smtp_server import MailServer
from workers import callboard
from workers.alerts.watch import channels
from workers.registry import function_of

__all__ = ["webhook"]


@dataclass(frozen=True)
class Case:
    """How to call an actor, and what its effect is.

    Args:
        prepare: makes the records it needs and returns its arguments.
        effect: everything that a run changes outside its own row and log lines.
    """

    prepare: Callable[[], dict[str, Any]]
    effect: Callable[[MailServer, Path], Any]


def _an_alert() -> dict[str, Any]:
    with database.writing() as session:
        alert = Alert(key="k", message="disk is full", opened_at=datetime(2026, 11, 22, tzinfo=UTC))
        session.add(alert)
    return {"alert_id": alert.alert_id}


def _mails(mails: MailServer, _documents: Path) -> Any:
    return [envelope[1] for envelope in mails.envelopes], [one.message_id for one in all_rows(EmailDelivery)]


def _health(mails: MailServer, _documents: Path) -> Any:
    return len(all_rows(HealthSample)), len(all_rows(Alert)), len(all_rows(Task)), len(mails.raw)


def _documents(_mails: MailServer, documents: Path) -> Any:
    files = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in documents.iterdir()}
    return [document.model_dump() for document in all_rows(Document)], files


def _an_alert_for_a_channel() -> dict[str, Any]:
    (channel,) = channels(callboard.settings)
    return {**_an_alert(), "channel": channel}


CASES = {
    "alerts.deliver": Case(_an_alert_for_a_channel, lambda *_: [alert.told for alert in all_rows(Alert)]),
    "diagnostics.run_self_test": Case(lambda: {"steps": 2, "seconds": 0}, lambda *_: None),
    "email.send_alert": Case(_an_alert, _mails),
    "email.send_confirmation": Case(lambda: {"fir_id": "FIR-1", "recipient_email": "a@example.org"}, _mails),
    "health.check_system": Case(dict, _health),
    "reports.generate_pdf": Case(lambda: {"report_id": file_report().report_id}, _documents),
}


def test_every_actor_has_its_row_in_the_table() -> None:
    declared = {
        name
        for name, actor in callboard.registry.actors.items()
        if function_of(actor).__module__.startswith("workers.actors.")
    }

    assert declared == set(CASES)


@pytest.mark.parametrize("name", sorted(CASES))
def test_run_twice_one_effect(
    name: str,
    bus: object,
    sqlite_database: str,
    mails: MailServer,
    documents: Path,
    webhook: Webhook,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(callboard.settings, "alert_recipients", ("ops@example.org",))
    # One threshold is passed for certain, the others never, however busy the machine is.
    monkeypatch.setattr(callboard.settings, "health_memory_percent", 0.001)
    for threshold in ("health_cpu_percent", "health_disk_percent", "health_round_trip_ms"):
        monkeypatch.setattr(callboard.settings, threshold, float("inf"))
    case = CASES[name]
    arguments = case.prepare()
    function = function_of(callboard.registry.resolve(name))

    with as_task("task-1", attempt=1):
        function(**arguments)
    once = case.effect(mails, documents)
    with as_task("task-1", attempt=2):
        function(**arguments)

    assert case.effect(mails, documents) == once
    assert len(webhook.posted) <= 1
