"""`email`: notifications. What they have in common is MAIL_FAULTS; an actor's own are added to them."""

from typing import Any

from tests.factories.reports import file_report
from tests.factories.upkeep import raise_alert
from tests.workers.actors.case import Arguments, Bad, Case, Fault, Flaw
from tests.workers.actors.world import World

MAIL_FAULTS = (
    Fault("a 451", lambda world: world.mails.answers.update(DATA=["451 try later"]), "451 try later"),
    Fault(
        "a refused connection", World.refuse_mail, "cannot be reached .*: check that it runs", end=World.take_mail
    ),
)  # fmt: skip
"""The server is there again, or takes the mail, later."""


def _no_server(world: World, arguments: Arguments) -> Arguments:
    world.set("smtp_url", None)
    return arguments


def _refused(world: World, arguments: Arguments) -> Arguments:
    world.mails.answers["RCPT"] = ["550 no such user here"] * 10
    return arguments


MAIL_FLAWS = (
    Flaw("no server", _no_server, r"set CALLBOARD_SMTP_URL, or use `callboard up`"),
    Flaw("a 550", _refused, "550 no such user here"),
)
"""What no later try can mend."""


def mail_effect(world: World) -> Any:
    """Who has which mail, and what is on record of it."""
    return world.told, world.deliveries


def _confirmation(world: World) -> Arguments:
    return {"fir_id": file_report().report_id, "recipient_email": "meera.nair@example.org"}


def _confirmed(world: World, result: Any) -> None:
    assert [told[:2] for told in world.told] == [
        ("meera.nair@example.org", "Your information report FIR-2026-000777 was filed")
    ]
    assert world.deliveries == [("confirmation", "meera.nair@example.org", "sent")]
    assert result["deliveries"][0]["smtp_response"] == "250 OK"


def _alert(world: World) -> Arguments:
    world.set("alert_recipients", ("a@example.org", "b@example.org"))
    return {"alert_id": raise_alert(message="disk of h is 99.0, above 92").alert_id}


def _alerted(world: World, result: Any) -> None:
    subject = "Alert: disk of h is 99.0, above 92"
    assert [told[:2] for told in world.told] == [("a@example.org", subject), ("b@example.org", subject)]
    assert world.deliveries == [("alert", "a@example.org", "sent"), ("alert", "b@example.org", "sent")]


CASES = {
    "email.send_confirmation": Case(
        prepare=_confirmation,
        effect=mail_effect,
        proves=_confirmed,
        transient=MAIL_FAULTS,
        permanent=MAIL_FLAWS,
        bad_input=[
            Bad({"recipient_email": "a@b.de\r\nBcc: c@d.de"}, "recipient_email"),
            Bad({"fir_id": "F\x0b"}, "fir_id"),
        ],
        legacy=("afirgen_tasks.email.send_confirmation",),
    ),
    "email.send_alert": Case(
        prepare=_alert,
        effect=mail_effect,
        proves=_alerted,
        transient=MAIL_FAULTS,
        permanent=[
            *MAIL_FLAWS,
            Flaw("no such alert", lambda world, arguments: {"alert_id": 4711}, "there is no alert 4711"),
        ],
        bad_input=[Bad({"alert_id": 0}, "alert_id"), Bad({"event": "closed"}, "event")],
    ),
}
