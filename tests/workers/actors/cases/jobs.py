"""`jobs`: maintenance jobs are made, reminded of and closed."""

from typing import Any

from models import database
from models.job import Job, JobAssignee, JobState, MaintenancePlan
from models.task import TERMINAL, Task
from models.ticket import Ticket, TicketHistory, TicketRecipient
from tests.factories.jobs import assign_job, overdue_job, plan_maintenance
from tests.factories.storing import id_of
from tests.factories.tickets import open_ticket, rule_escalation
from tests.servers import wait_until
from tests.workers.actors.case import Arguments, Bad, Case, Flaw, Never
from tests.workers.actors.running import all_rows
from tests.workers.actors.world import World

NOTHING_OUTSIDE = Never("it speaks to the database only, and that it is away has a test of its own")
NO_ARGUMENT = Never("it has no argument")


def all_ended(world: World) -> None:
    """Waits until what the task has sent is done as well."""
    wait_until(lambda: all(task.status in TERMINAL for task in all_rows(Task)), within_s=30, what="what it has sent")


def _overdue(world: World) -> Arguments:
    overdue_job(title="Empty the grease trap", opens_ticket=True)
    overdue_job(title="Oil the gate", assignees=())
    assign_job(title="Read the meters")
    return {}


def _jobs_and_tickets(world: World) -> Any:
    return (
        sorted((job.title, job.state, job.closed_by, job.closed_reason) for job in all_rows(Job)),
        sorted((ticket.title, ticket.level, ticket.job_id, ticket.version) for ticket in all_rows(Ticket)),
        sorted((line.version, line.change, line.note, line.task_id) for line in all_rows(TicketHistory)),
        len(all_rows(TicketRecipient)),
        world.sent_tasks,
    )


def _closed(world: World, result: Any) -> None:
    states = {job.title: job.state for job in all_rows(Job)}
    assert states == {
        "Empty the grease trap": JobState.AUTOCLOSED,
        "Oil the gate": JobState.AUTOCLOSED,
        "Read the meters": JobState.ASSIGNED,
    }
    (ticket,) = all_rows(Ticket)
    assert (ticket.title, ticket.category) == ("Not done: Empty the grease trap", "maintenance")
    assert result == {"closed": [1, 2], "tickets": [ticket.ticket_id]}
    closed = next(job for job in all_rows(Job) if job.job_id == ticket.job_id)
    assert closed.closed_by == "jobs.autoclose_job"
    assert "before it expired" in (closed.closed_reason or "")
    all_ended(world)
    assert [told[:2] for told in world.told] == [
        ("anita.das@example.org", "Ticket 1 was opened: Not done: Empty the grease trap")
    ]


def _planned(world: World) -> Arguments:
    plan_maintenance(assignees=("Anita Das", "Omar Aziz"), horizon_s=2 * 86_400)
    plan_maintenance(title="Never again", is_enabled=False, assignees=())
    return {}


def _jobs(world: World) -> Any:
    return (
        sorted((job.plan_id, job.due_at, job.remind_at, job.closes_at) for job in all_rows(Job)),
        sorted((link.job_id, link.person_id) for link in all_rows(JobAssignee)),
    )


def _made(world: World, result: Any) -> None:
    jobs = sorted(all_rows(Job), key=lambda job: job.due_at)
    assert result == {"created": [job.job_id for job in jobs]}
    assert {(job.plan_id, job.title, job.state) for job in jobs} == {(1, "Check the diesel set", JobState.ASSIGNED)}
    # Daily at 08:00 in Kolkata, two days ahead, and today's if it has not expired.
    assert {f"{job.due_at:%H:%M}" for job in jobs} == {"02:30"}
    assert len(jobs) in (2, 3)
    assert len({job.due_at for job in jobs}) == len(jobs)
    assert len(all_rows(JobAssignee)) == 2 * len(jobs)


def _wrong_trigger(world: World, arguments: Arguments) -> Arguments:
    with database.writing() as session:
        plan = session.get_one(MaintenancePlan, 1)
        plan.trigger = {"kind": "cron", "hour": 99}
    return arguments


def _a_minute(world: World) -> Arguments:
    assign_job(title="Read the meters")
    overdue_job(title="Oil the gate")
    rule_escalation()
    open_ticket()
    return {}


def _swept_so_far(world: World) -> Any:
    reminded = [(job.title, job.reminder_task_id is not None) for job in all_rows(Job)]
    named = {task.task_id for task in all_rows(Task)}
    assert all(job.reminder_task_id in named for job in all_rows(Job) if job.reminder_task_id)
    return sorted(reminded), world.sent_tasks


def _swept(world: World, result: Any) -> None:
    assert result == {"reminders": 1, "closings": 1, "escalations": 1}
    all_ended(world)
    assert {task.task_name for task in all_rows(Task)} == {
        "jobs.task_every_min", "email.send_reminder", "jobs.autoclose_job", "tickets.ticket_escalation",
        "tickets.send_ticket_email",
    }  # fmt: skip
    assert {job.title: job.state for job in all_rows(Job)} == {
        "Read the meters": JobState.ASSIGNED, "Oil the gate": JobState.AUTOCLOSED,
    }  # fmt: skip
    assert [id_of(ticket.level) for ticket in all_rows(Ticket)] == [1]


CASES = {
    "jobs.autoclose_job": Case(
        prepare=_overdue,
        effect=_jobs_and_tickets,
        proves=_closed,
        transient=NOTHING_OUTSIDE,
        permanent=[Flaw("no such job", lambda world, arguments: {"job_id": 4711}, "there is no job 4711: it was")],
        bad_input=[Bad({"job_id": 0}, "job_id"), Bad({"job_id": "x"}, "job_id")],
        legacy=("autoclose_job",),
    ),
    "jobs.create_ppm_job": Case(
        prepare=_planned,
        effect=_jobs,
        proves=_made,
        transient=NOTHING_OUTSIDE,
        permanent=[
            Flaw(
                "no such plan", lambda world, arguments: {"plan_id": 4711}, "there is no maintenance plan 4711: it was"
            ),
            Flaw("a trigger that is none", _wrong_trigger, "maintenance plan 1 can never be due: correct its trigger"),
        ],
        bad_input=[Bad({"plan_id": 0}, "plan_id"), Bad({"plan_id": 2**31}, "plan_id")],
        legacy=("create_ppm_job",),
    ),
    "jobs.task_every_min": Case(
        prepare=_a_minute,
        effect=_swept_so_far,
        proves=_swept,
        transient=NOTHING_OUTSIDE,
        permanent=Never("it reads what is due, and nothing of that can be wrong for good"),
        bad_input=NO_ARGUMENT,
        legacy=("task_every_min",),
    ),
}
