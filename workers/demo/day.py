"""The steps of the demo's day. Each says what it saw, or why it did not see what it should have.

Must not: print; know the command line.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from sqlmodel import Session, col, select

from models import database
from models.alert import Alert
from models.job import Job
from models.permit import WorkPermit
from models.person import Person
from models.task import TERMINAL, Task, TaskStatus
from models.ticket import Ticket
from workers import Callboard, fleet, sample, tasks
from workers.demo import mailbox, records
from workers.demo.mailbox import Mailbox
from workers.demo.records import Records
from workers.errors import CallboardError
from workers.sample import events, people

PATIENCE_S = 60.0
"""How long a step waits for what it must see; alerts are looked at every ten seconds."""
_LONGEST_DAY = timedelta(hours=1)
"""A demo that began before is over, whether or not it could clear away."""
_POLL_S = 0.1
REPORT = "FIR-2026-000101"
"""Of the sample."""


class DemoFailed(CallboardError):
    """A step did not see what it should have."""


@dataclass
class Day:
    """A run of the demo.

    Args:
        callboard: the composed system.
        stored: this run's records.
        mails: those that came since it began.
        door: the service that fails; listens once it is opened.
    """

    callboard: Callboard
    stored: Records
    mails: Mailbox
    door: "Door"

    def run(self, task_name: str, **params: Any) -> Task:
        """Send a task, and wait for its end; raises DemoFailed unless it completes."""
        task_id = tasks.enqueue_task(task_name, params=params)
        self.wait(lambda: _task(task_id).status in TERMINAL, f"{task_name} to end")
        task = _task(task_id)
        if task.status != TaskStatus.COMPLETED:
            raise DemoFailed(f"{task_name} {task.status} ({task.reason}): {task.error_message or 'no error'}")
        return task

    def wait(self, condition: Callable[[], Any], what: str, *, at_least_s: float = 0) -> None:
        """Wait until something is so; raises DemoFailed if it does not come to be.

        at_least_s: how long it takes where all is well.
        """
        within_s = at_least_s + PATIENCE_S
        deadline_s = time.monotonic() + within_s
        while not condition():
            if time.monotonic() > deadline_s:
                raise DemoFailed(f"not within {within_s:.0f} s: {what}; see `callboard doctor`")
            time.sleep(_POLL_S)

    def mail(self, person_id: int, about: str) -> Any:
        """Wait for a mail to a person whose subject has these words; returns it."""
        address = look(lambda session: session.get_one(Person, person_id).email)
        self.wait(lambda: self.mails.mails(to=address, about=about), f"a mail to {address} about {about!r}")
        return self.mails.mails(to=address, about=about)[-1]


class Door:
    """A service of the demo's own: its port is known before it listens, so that it can be found to be down."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Inside, it answers."""

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                """Say that all is well."""
                self.send_response(200)
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                """Say nothing."""

        with ThreadingHTTPServer(("127.0.0.1", self.port), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
            thread.start()
            yield
            server.shutdown()


def look(at: Callable[[Session], Any]) -> Any:
    """What a query finds."""
    with database.reading() as session:
        return at(session)


def _task(task_id: str) -> Task:
    task = tasks.get_task(task_id)
    if task is None:
        raise DemoFailed(f"task {task_id} has no row")
    return task


# --- the steps -------------------------------------------------------------------------------------------------------


def permit_is_decided(day: Day) -> str:
    """The verifier and both approvers decide by the links in their mails."""
    permit_id, settings = day.stored.permit_id, day.callboard.settings
    reference = look(lambda session: session.get_one(WorkPermit, permit_id).reference)
    day.run("email.send_workpermit_verification", permit_id=permit_id)
    mailbox.follow(settings, day.mail(people.VERA, reference), "Verify")
    for approver in (people.ASHA, people.ARUN):
        mailbox.follow(settings, day.mail(approver, f"approve work permit {reference}"), "Approve")
    told = day.mail(people.GATE, f"{reference} was approved")
    state = look(lambda session: session.get_one(WorkPermit, permit_id).state)
    return f"{reference} is {state}; the gate has {', '.join(mailbox.files(told))}"


def maintenance_is_planned(day: Day) -> str:
    """The jobs of all plans that fall due within their horizon."""
    made = len((day.run("jobs.create_ppm_job").result or {})["created"])
    planned = look(lambda session: len(session.exec(select(Job).where(col(Job.plan_id).is_not(None))).all()))
    if not planned:
        raise DemoFailed("no plan has a job")
    return f"{planned} jobs of plans are there, {made} of them new"


def minute_is_swept(day: Day) -> str:
    """A reminder, a job that is closed and becomes a ticket, a ticket that escalates."""
    day.run("jobs.task_every_min")
    day.mail(people.ANITA, f"Reminder: {_job(day.stored.soon_id).title}")
    day.mail(people.ANITA, f"was opened: Not done: {_job(day.stored.overdue_id).title}")
    day.mail(people.LENA, "was escalated")
    ticket = look(lambda session: session.get_one(Ticket, day.stored.ticket_id))
    has_it = look(lambda session: session.get_one(Person, ticket.assignee_id).name)
    return f"a reminder; a job closed with a ticket; ticket {ticket.ticket_id} at level {ticket.level}, {has_it} has it"


def _job(job_id: int) -> Job:
    job: Job = look(lambda session: session.get_one(Job, job_id))
    return job


def device_reports(day: Day) -> str:
    """What a device reported, and a face that did not match."""
    day.run("tickets.alert_sendmail", event_id=day.stored.event_id)
    day.run("email.send_mismatch_notification", event_id=events.AT_THE_GATE)
    return f"{day.mail(people.LENA, 'Generator fault')['Subject']}"


def report_is_printed(day: Day) -> str:
    """An information report as PDF, and its confirmation."""
    result = day.run("reports.generate_pdf", report_id=REPORT).result or {}
    day.run("email.send_confirmation", fir_id=REPORT, recipient_email="citizen@example.org")
    day.wait(lambda: day.mails.mails(to="citizen@example.org"), "the confirmation")
    return f"{REPORT}: {result.get('file_name') or result.get('path')}, confirmed"


def figures_are_sent(day: Day) -> str:
    """Statistics by the hour, the day's summary, and the vendors' service levels."""
    day.run("analytics.aggregate_task_statistics")
    day.run("reports.send_daily_reports")
    day.run("email.send_sla_report")
    told = day.mail(people.LENA, "SLA report")
    return f"{told['Subject']} ({', '.join(mailbox.files(told))})"


def house_is_kept(day: Day) -> str:
    """Cache, sessions, old data."""
    day.run("maintenance.warm_cache")
    day.run("maintenance.cleanup_expired_sessions")
    day.run("maintenance.cleanup_old_data")
    sampled = day.run("health.check_system").result or {}
    return f"cache warm, old data gone; CPU {sampled['cpu_percent']:.0f} %, database {sampled['database_ms']:.1f} ms"


def service_fails_and_recovers(day: Day) -> str:
    """A service that is down opens an alert; when it is back, the alert is over."""
    name = day.stored.provider

    def alert() -> Alert | None:
        wanted = select(Alert).where(col(Alert.key) == f"provider_down:{name}").order_by(col(Alert.alert_id).desc())
        found: Alert | None = look(lambda session: session.exec(wanted).first())
        return found

    day.run("health.probe_all_providers")
    day.wait(alert, f"an alert of {name}")
    with day.door.opened():
        day.run("health.probe_provider", provider=name)
        day.wait(
            lambda: (found := alert()) and found.closed_at,
            f"the end of the alert of {name}",
            at_least_s=day.callboard.settings.alert_clear_s,
        )
    over = alert()
    assert over is not None
    assert over.closed_at is not None
    return f"alert {over.alert_id} opened, and over after {(over.closed_at - over.opened_at).total_seconds():.0f} s"


STEPS: tuple[tuple[str, Callable[[Day], str]], ...] = (
    ("a work permit is decided about", permit_is_decided),
    ("maintenance is planned", maintenance_is_planned),
    ("the minute's sweep", minute_is_swept),
    ("devices report", device_reports),
    ("a report is printed", report_is_printed),
    ("figures are sent", figures_are_sent),
    ("the house is kept", house_is_kept),
    ("a service fails and recovers", service_fails_and_recovers),
)
"""What happens → the step."""


@dataclass(frozen=True)
class Told:
    """What came of a step.

    Args:
        seen: what it saw, or why it failed.
        took_s: how long.
        tasks: how many tasks were accepted meanwhile, those of schedules among them.
    """

    title: str
    is_done: bool
    seen: str
    took_s: float
    tasks: int
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


def begin(callboard: Callboard) -> Day:
    """Load the sample if there is none, and store this run's records.

    Raises:
        CallboardError: the database is a configured one, mail goes elsewhere, or no worker is alive.
    """
    if callboard.settings.smtp_url is not None:
        raise CallboardError("the demo reads its mails where `callboard up` catches them, and CALLBOARD_SMTP_URL sends "
                             "them elsewhere: unset it to try the demo")  # fmt: skip
    sample.load(callboard.settings)
    if not fleet.list_workers(alive=True)[1]:
        raise CallboardError("no worker is alive: start the system in another terminal with `callboard up` or make run")
    now = datetime.now(UTC)
    records.forget_providers(begun_before=now - _LONGEST_DAY)
    door = Door()
    name = records.name_of(now)
    mails = Mailbox.beginning_now(callboard.settings.var_dir / "mail")
    return Day(callboard, records.store(now, name=name, provider_url=door.url), mails, door)


def live(day: Day) -> Iterator[Told]:
    """Do all steps, one after the other; one that fails holds up none of the others."""
    try:
        for title, step in STEPS:
            before, began_s = tasks.get_task_count(), time.monotonic()
            try:
                seen, is_done = step(day), True
            except (CallboardError, OSError, ValueError) as error:
                seen, is_done = str(error), False
            yield Told(title, is_done, seen, time.monotonic() - began_s, tasks.get_task_count() - before)
    finally:
        records.forget_provider(day.stored.provider)
