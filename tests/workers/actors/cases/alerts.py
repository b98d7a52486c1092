"""`alerts`: notices to webhooks. One that was taken just before its worker died is posted again, which is said of it
in the actor's docstring, so what a webhook got counts once for each alert and event."""

from typing import Any

from models.alert import Alert
from tests.factories.upkeep import raise_alert
from tests.workers.actors.case import Arguments, Bad, Case, Fault, Flaw
from tests.workers.actors.running import all_rows
from tests.workers.actors.world import World
from workers import callboard
from workers.alerts.watch import channels


def _alert(world: World) -> Arguments:
    (channel,) = channels(callboard.settings)
    return {"alert_id": raise_alert().alert_id, "channel": channel}


def _effect(world: World) -> Any:
    return {str(one) for one in world.webhook.posted}, [alert.told for alert in all_rows(Alert)]


def _told(world: World, result: Any) -> None:
    assert world.webhook.titles == ["Alert: k"]
    (alert,) = all_rows(Alert)
    assert alert.told == [f"{result['channel']} opened"]


CASES = {
    "alerts.deliver": Case(
        prepare=_alert,
        effect=_effect,
        proves=_told,
        transient=[Fault("a 503", lambda world: world.webhook.answers.append(503), r"did not take the notice \(503\)")],
        permanent=[
            Flaw("no such alert", lambda world, arguments: {**arguments, "alert_id": 4711}, "there is no alert 4711"),
            Flaw(
                "no such channel",
                lambda world, arguments: {**arguments, "channel": "json-0"},
                "CALLBOARD_ALERT_CHANNELS was changed",
            ),
        ],
        bad_input=[Bad({"channel": ""}, "channel"), Bad({"alert_id": -1}, "alert_id"), Bad({"event": "x"}, "event")],
    )
}
