"""Whose time limit holds: the message's, the actor's, the setting's."""

from typing import Any

import dramatiq
import pytest
from dramatiq import Message
from dramatiq.broker import MessageProxy

from tests import probes
from workers import callboard
from workers.middleware.time_limit import TimeLimit
from workers.runner import current
from workers.runner.current import CurrentTask


@pytest.mark.parametrize(
    ("actor", "options", "expected_s"),
    [
        (probes.too_long, {}, 0.3),
        (probes.too_long, {"time_limit": 500}, 0.5),
        (probes.add, {}, 2.0),
        (probes.add, {"time_limit": float("inf")}, None),
    ],
)
def test_the_narrowest_word_holds(
    actor: "dramatiq.Actor[..., Any]", options: dict[str, Any], expected_s: float | None
) -> None:
    message = MessageProxy(Message(queue_name="jobs", actor_name=actor.actor_name, args=(), kwargs={}, options=options))
    token = current.enter(CurrentTask(id="t-1"))

    TimeLimit(time_limit=2_000, interval=100).before_process_message(callboard.broker, message)

    assert current.current_task().time_limit_s == expected_s
    current.leave(token)
