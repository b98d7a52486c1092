"""A send inside a task is not torn by an interrupt."""

from collections.abc import Iterator
from typing import Any

import dramatiq
import pytest

from models.task import TaskStatus
from tests import probes
from tests.workers.runner.conftest import as_task
from workers import Callboard, tasks
from workers.errors import Cancelled
from workers.runner.current import CurrentTask
from workers.runner.surround import run_here
from workers.runner.window import windows


class InMidSend(dramatiq.Middleware):
    """Interrupts the sending task between its row and its message."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def before_enqueue(self, broker: Any, message: Any, delay: int | None) -> None:
        """The row stands, the bus has not seen the message."""
        self.sent.append(message.message_id)
        assert windows.interrupt("t-1", Cancelled)


@pytest.fixture
def mid_send(system: Callboard) -> Iterator[InMidSend]:
    """The middleware, installed last."""
    middleware = InMidSend()
    system.broker.add_middleware(middleware)
    yield middleware
    system.broker.middleware.remove(middleware)


def test_an_interrupt_in_mid_send_lands_when_the_message_is_on_the_bus(system: Callboard, mid_send: InMidSend) -> None:
    with as_task(CurrentTask(id="t-1")) as task, pytest.raises(Cancelled):
        run_here(task, probes.add.send, (1, 2), {})

    (task_id,) = mid_send.sent
    row = tasks.get_task(task_id)
    assert row is not None
    assert row.status == TaskStatus.PENDING
    assert system.broker.depth("jobs").waiting == 1
