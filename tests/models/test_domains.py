"""The tables of the domains: what may be there once, and what goes with what."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import pytest
from sqlalchemy import DateTime, String, Text
from sqlalchemy.exc import IntegrityError
from sqlmodel import SQLModel, select

from models import database, tables
from models.health import ProviderSample
from models.job import JOB_MOVES, Job, JobAssignee
from models.permit import PERMIT_MOVES, PartyRole, UsedLink, WorkPermit
from models.ticket import TICKET_MOVES, TicketHistory
from tests.factories import events, jobs, people, permits, reports, sla, tickets, upkeep
from tests.factories.storing import NOW, id_of, store


def _approve(permit: WorkPermit, person_id: int) -> None:
    permits.join_permit(id_of(permit.permit_id), PartyRole.APPROVER, person_id)


def _use_link(permit: WorkPermit) -> None:
    party = permits.parties(id_of(permit.permit_id), PartyRole.APPROVER)[0]
    columns = {"nonce": "n", "party_id": party.party_id, "decision": "approved", "used_at": NOW, "expires_at": NOW}
    store(UsedLink, columns, {})


def _sample(seconds: Any) -> None:
    at = NOW.replace(second=next(seconds))
    store(ProviderSample, {"provider": "erp", "sampled_at": at, "is_up": True, "task_id": "t"}, {})


ONCE: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "a job for a due time of a plan": (
        lambda: jobs.plan_maintenance().plan_id, lambda plan_id: jobs.assign_job(plan_id=plan_id, due_at=NOW)
    ),
    "a ticket of a job": (lambda: jobs.overdue_job().job_id, lambda job_id: tickets.open_ticket(job_id=job_id)),
    "a line of history of a ticket's version": (
        tickets.open_ticket, lambda ticket: tickets.note_change(ticket, version=2)
    ),
    "a person in a role of a permit": (lambda: (permits.ask_for_permit(), people.hire()), lambda both: _approve(*both)),
    "a use of a link": (permits.ask_for_permit, _use_link),
    "a permit of a reference": (lambda: None, lambda _: permits.ask_for_permit()),
    "a vendor's figures of a period": (people.sign_vendor, sla.measure_vendor),
    "a sample of a task": (lambda: iter(range(2)), _sample),
}  # fmt: skip
"""What → what is needed for it, and storing it."""


@pytest.mark.parametrize("what", sorted(ONCE))
def test_the_database_itself_refuses_a_second(ledger_database: str, what: str) -> None:
    prepare, act = ONCE[what]
    given = prepare()
    act(given)

    with pytest.raises(IntegrityError):
        act(given)


def test_every_factory_stores_what_the_tables_take(ledger_database: str) -> None:
    site_id, person_id = people.build_site(), people.hire()

    permit = permits.ask_for_permit()
    permits.attach(id_of(permit.permit_id))
    tickets.rule_escalation()
    events.report_event(site_id=site_id)
    events.see_face(person_id=person_id)
    reports.file_report()
    upkeep.log_in(person_id=person_id)
    upkeep.know_provider()

    roles = [
        [party.role for party in permits.parties(id_of(permit.permit_id), role)]
        for role in PartyRole
    ]  # fmt: skip
    assert roles == [["verifier"], ["approver"] * 2, ["security"]]


def test_who_does_a_job_goes_with_it(ledger_database: str) -> None:
    job, ticket = jobs.assign_job(), tickets.open_ticket()

    with database.writing() as session:
        session.delete(session.get_one(Job, job.job_id))
        session.delete(session.get_one(tables.Ticket, ticket.ticket_id))

    with database.reading() as session:
        assert session.exec(select(JobAssignee)).all() == []
        assert session.exec(select(TicketHistory)).all() == []


@pytest.mark.parametrize("moves", [PERMIT_MOVES, JOB_MOVES, TICKET_MOVES], ids=["permit", "job", "ticket"])
def test_each_state_says_where_it_may_go(moves: Mapping[StrEnum, frozenset[StrEnum]]) -> None:
    states = set(type(next(iter(moves))))

    assert set(moves) == states
    assert set().union(*moves.values()) <= states


def test_no_time_is_naive_and_no_text_without_bound() -> None:
    loose = [
        f"{table.name}.{column.name}"
        for table in SQLModel.metadata.tables.values()
        for column in table.columns
        if type(column.type) is DateTime
        or (isinstance(column.type, String) and not isinstance(column.type, Text) and not column.type.length)
    ]

    assert loose == []
