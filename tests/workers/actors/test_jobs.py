"""Maintenance jobs beyond the table of all actors: races, policies, what is skipped."""

from datetime import UTC, datetime, timedelta

import dramatiq
import pytest
from dramatiq.middleware import SkipMessage

from models import database
from models.job import Job, JobState
from models.task import Task
from models.ticket import Ticket, TicketHistory
from tests.factories.jobs import assign_job, overdue_job, plan_maintenance
from tests.factories.storing import NOW, id_of
from tests.factories.tickets import open_ticket, rule_escalation
from tests.models.rows import at_once
from tests.workers.actors.running import all_rows, ended
from workers import tasks
from workers.actors import jobs, tickets
from workers.errors import PermanentError

pytestmark = pytest.mark.usefixtures("system")


@pytest.fixture(autouse=True)
def _on_each_database(ledger_database: str) -> None:
    """Each test runs on SQLite and on PostgreSQL."""


def test_three_workers_that_close_the_same_jobs_close_each_once_with_one_ticket() -> None:
    for number in range(8):
        overdue_job(title=f"Job {number}", opens_ticket=True)

    answers = at_once(*[jobs.autoclose_job.fn] * 3)

    assert sorted(job_id for answer in answers for job_id in answer["closed"]) == list(range(1, 9))
    assert sorted(ticket.job_id or 0 for ticket in all_rows(Ticket)) == list(range(1, 9))
    assert len(all_rows(TicketHistory)) == 8
    assert sorted(task.task_name for task in all_rows(Task)) == ["tickets.send_ticket_email"] * 8


def test_the_ticket_of_a_job_says_when_it_was_due_in_its_sites_time() -> None:
    overdue_job(due_at=datetime(2026, 11, 25, 9, 21, tzinfo=UTC), opens_ticket=True)

    jobs.autoclose_job.fn()

    (ticket,) = all_rows(Ticket)
    assert ticket.description.startswith("Job 1 was due on 25 November 2026, 14:51 IST and was closed: ")


def test_three_workers_that_make_the_same_jobs_make_each_once() -> None:
    for number in range(4):
        plan_maintenance(title=f"Plan {number}", horizon_s=5 * 86_400)

    answers = at_once(*[jobs.create_ppm_job.fn] * 3)

    made = [(job.plan_id, job.due_at) for job in all_rows(Job)]
    assert len(made) == len(set(made)) >= 20
    assert sorted(job_id for answer in answers for job_id in answer["created"]) == [job.job_id for job in all_rows(Job)]


def test_three_workers_that_escalate_the_same_tickets_raise_each_once() -> None:
    rule_escalation(level=0)
    rule_escalation(level=1)
    for _ in range(8):
        open_ticket()

    answers = at_once(*[tickets.ticket_escalation.fn] * 3)

    assert sorted(ticket_id for answer in answers for ticket_id in answer["escalated"]) == list(range(1, 9))
    assert {(ticket.level, ticket.version) for ticket in all_rows(Ticket)} == {(1, 2)}
    assert len(all_rows(TicketHistory)) == 16
    assert [task.task_name for task in all_rows(Task)] == ["tickets.send_ticket_email"] * 8


def test_three_sweeps_at_once_send_each_task_once() -> None:
    assign_job()
    overdue_job()
    rule_escalation()
    open_ticket()

    at_once(*[jobs.task_every_min.fn] * 3)

    assert sorted(task.task_name for task in all_rows(Task)) == [
        "email.send_reminder", "jobs.autoclose_job", "tickets.ticket_escalation"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("state", "due", "why"),
    [
        (JobState.COMPLETED, timedelta(days=-1), "job 1 is completed"),
        (JobState.ASSIGNED, timedelta(hours=1), "job 1 is not to be closed before "),
    ],
)
def test_a_job_that_is_not_to_be_closed_is_skipped_with_the_reason(
    state: JobState, due: timedelta, why: str, worker: dramatiq.Worker
) -> None:
    job = assign_job(due_at=NOW + due, state=state, closed_at=NOW if state is JobState.COMPLETED else None)

    found = ended(tasks.enqueue_task("jobs.autoclose_job", params={"job_id": job.job_id}))

    assert found.status == "cancelled"
    assert (found.reason or "").startswith(f"skipped: {why}")
    assert all_rows(Job)[0].state == state


def test_who_completes_a_job_in_time_is_not_overruled() -> None:
    job_id = id_of(overdue_job().job_id)
    with database.writing() as session:
        session.get_one(Job, job_id).state = JobState.COMPLETED

    assert jobs.close_job(job_id, datetime.now(UTC)) == (False, None)


def test_a_due_time_that_passed_while_nobody_looked_has_its_job_until_that_would_have_expired() -> None:
    plan = plan_maintenance(trigger={"kind": "interval", "hours": 1}, horizon_s=3_600, expires_after_s=3 * 3_600)

    jobs.create_ppm_job(id_of(plan.plan_id))

    due = sorted(job.due_at for job in all_rows(Job))
    assert len(due) == 4
    assert datetime.now(UTC) - timedelta(hours=3) <= due[0]
    assert due[-1] <= datetime.now(UTC) + timedelta(hours=1)


def test_a_plan_with_more_due_times_than_a_run_makes_has_the_rest_at_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.job_moves.MOST_A_PLAN", 3)
    plan = plan_maintenance(trigger={"kind": "interval", "hours": 12}, horizon_s=2 * 86_400)

    made = [jobs.create_ppm_job(id_of(plan.plan_id))["created"] for _ in range(3)]

    assert [len(one) for one in made] in ([3, 1, 0], [3, 2, 0])


def test_one_wrong_plan_holds_up_no_other() -> None:
    plan_maintenance(trigger={"kind": "cron", "hour": 99})
    plan_maintenance(title="Good")

    with pytest.raises(PermanentError, match=r"jobs were made; 1 plans are wrong. maintenance plan 1 can never be due"):
        jobs.create_ppm_job()

    assert {job.title for job in all_rows(Job)} == {"Good"}


def test_a_plan_that_is_disabled_is_skipped() -> None:
    plan = plan_maintenance(is_enabled=False)

    with pytest.raises(SkipMessage, match="is disabled"):
        jobs.create_ppm_job(id_of(plan.plan_id))


def test_a_plan_falls_due_in_its_sites_time() -> None:
    plan = plan_maintenance(trigger={"kind": "cron", "hour": 8, "minute": 0})

    jobs.create_ppm_job(id_of(plan.plan_id))

    assert {f"{job.due_at:%H:%M}" for job in all_rows(Job)} == {"02:30"}
