"""`tickets`: they escalate, and their people are told; devices' events as well."""

from collections.abc import Callable
from typing import Any

from models import database
from models.person import Person
from models.ticket import Ticket, TicketHistory
from tests.factories.events import report_event
from tests.factories.tickets import open_ticket, rule_escalation
from tests.workers.actors.case import Arguments, Bad, Case, Flaw, Never
from tests.workers.actors.cases.email import MAIL_FAULTS, MAIL_FLAWS, mail_effect
from tests.workers.actors.cases.jobs import NO_ARGUMENT, NOTHING_OUTSIDE, all_ended
from tests.workers.actors.running import all_rows
from tests.workers.actors.world import World

LENA, OMAR, ROOM = "lena.fischer@example.org", "omar.aziz@example.org", "control.room@example.org"


def _everybody_left(world: World, arguments: Arguments) -> Arguments:
    with database.writing() as session:
        for who in all_rows(Person):
            who.is_active = False
            session.add(who)
    return arguments


_NOBODY = Flaw("everybody has left", _everybody_left, "nobody gets the mail .*: those whom the record names have left")


def _told(template: str, subject: str, *addresses: str) -> Callable[[World, Any], None]:
    def prove(world: World, result: Any) -> None:
        assert [told[:2] for told in world.told] == [(address, subject) for address in addresses]
        assert world.deliveries == [(template, address, "sent") for address in addresses]

    return prove


def _waiting(world: World) -> Arguments:
    rule_escalation(level=0)
    rule_escalation(level=1)
    rule_escalation("lifts")
    open_ticket()
    open_ticket(category="lifts", assignee=None, recipients=())
    open_ticket(state="on_hold")
    open_ticket(category="without a rule")
    return {}


def _levels(world: World) -> Any:
    return (
        sorted((one.category, one.state, one.level, one.version, one.assignee_id) for one in all_rows(Ticket)),
        sorted(
            (line.ticket_id, line.version, line.change, line.note, line.task_id) for line in all_rows(TicketHistory)
        ),
        world.sent_tasks,
    )


def _escalated(world: World, result: Any) -> None:
    assert sorted(result["escalated"]) == [1, 2]
    names = {one.person_id: one.name for one in all_rows(Person)}
    assert [(one.level, one.version, names[one.assignee_id or 0]) for one in all_rows(Ticket)] == [
        (1, 2, "Manager L1"), (1, 2, "Manager L1"), (0, 1, "Lena Fischer"), (0, 1, "Lena Fischer"),
    ]  # fmt: skip
    notes = [line.note for line in all_rows(TicketHistory) if line.version == 2]
    assert notes == ["it stood at level 0 for more than 1 h"] * 2
    all_ended(world)
    assert [told[1] for told in world.told if told[0] == OMAR] == [
        "Ticket 1 was escalated: Water under the pump room's door"
    ]


CASES = {
    "tickets.send_ticket_email": Case(
        prepare=lambda world: {"ticket_id": open_ticket().ticket_id},
        effect=mail_effect,
        proves=_told("ticket", "Ticket 1 was opened: Water under the pump room's door", LENA, OMAR),
        transient=MAIL_FAULTS,
        permanent=[
            *MAIL_FLAWS,
            _NOBODY,
            Flaw("no such ticket", lambda world, arguments: {"ticket_id": 4711}, "there is no ticket 4711: it was"),
        ],
        bad_input=[Bad({"ticket_id": 0}, "ticket_id"), Bad({"ticket_id": None}, "ticket_id")],
        legacy=("send_ticket_email",),
    ),
    "tickets.ticket_escalation": Case(
        prepare=_waiting,
        effect=_levels,
        proves=_escalated,
        transient=NOTHING_OUTSIDE,
        permanent=Never("it reads what is due, and nothing of that can be wrong for good"),
        bad_input=NO_ARGUMENT,
        legacy=("ticket_escalation",),
    ),
    "tickets.alert_sendmail": Case(
        prepare=lambda world: {"event_id": report_event().event_id},
        effect=mail_effect,
        proves=_told("alert_event", "Generator fault at Harbour Tower: DG set 2, panel A", ROOM),
        transient=MAIL_FAULTS,
        permanent=[
            *MAIL_FLAWS,
            _NOBODY,
            Flaw("no such event", lambda world, arguments: {"event_id": 4711}, "there is no alert event 4711: it was"),
        ],
        bad_input=[Bad({"event_id": -1}, "event_id"), Bad({"event_id": "x"}, "event_id")],
        legacy=("alert_sendmail",),
    ),
}
