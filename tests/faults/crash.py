"""Crash points for worker and sender processes (faults row 7). Importing this module arms the one that is named in
CALLBOARD_TEST_CRASH: the first process of the test that comes by there kills itself with SIGKILL.

    accepted    the row is to be there, the message not yet on the bus     before_enqueue, after Status
    published   the message is on the bus, `send` has not returned         after_enqueue
    fetched     the worker has the message, nothing is claimed             before_process_message, before Status
    claimed     the attempt is claimed, the function not entered           before_process_message, after Status
    returned    the function returned, nothing is recorded                 after_process_message, before Status
    recorded    the outcome is recorded in memory, not committed           after_process_message, after Status
    committed   the outcome is committed, the bus is not told              in the scribe, before submit_settlements
    told        the settlement is submitted, perhaps not executed          in the scribe, after submit_settlements
    acked       the outcome is the ledger's: committed or about to be; the bus may not know yet      after_ack

CALLBOARD_TEST_CRASH_ONCE names the file whose making decides who is the first.
"""

import os
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any

import dramatiq
from dramatiq.broker import Broker, MessageProxy

from workers.broker import Settlement
from workers.middleware.status import Status

SENDER_POINTS = ("accepted", "published")
WORKER_POINTS = ("fetched", "claimed", "returned", "recorded", "committed", "told", "acked")


def come_by(point: str) -> None:
    """Die here, if this is the point and nobody has died yet."""
    if os.environ.get("CALLBOARD_TEST_CRASH") != point:
        return
    try:
        os.close(os.open(os.environ["CALLBOARD_TEST_CRASH_ONCE"], os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


class Outer(dramatiq.Middleware):
    """Stands before Status: its before hooks run earlier, its after hooks later."""

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        come_by("fetched")

    def after_process_message(
        self, broker: Broker, message: MessageProxy, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        come_by("recorded")

    def after_ack(self, broker: Broker, message: MessageProxy) -> None:
        come_by("acked")

    def after_enqueue(self, broker: Broker, message: dramatiq.Message[Any], delay: int | None) -> None:
        come_by("published")


class Inner(dramatiq.Middleware):
    """Stands after Status."""

    def before_enqueue(self, broker: Broker, message: dramatiq.Message[Any], delay: int | None) -> None:
        come_by("accepted")

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        come_by("claimed")

    def after_process_message(
        self, broker: Broker, message: MessageProxy, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        come_by("returned")


class Told:
    """In place of the broker's `submit_settlements`: dies around it, for the outcomes that the scribe has committed."""

    def __init__(self, submit: Callable[[Sequence[Settlement]], None]) -> None:
        self._submit = submit

    def __call__(self, settlements: Sequence[Settlement]) -> None:
        by_scribe = threading.current_thread().name == "callboard-scribe"
        if by_scribe:
            come_by("committed")
        self._submit(settlements)
        if by_scribe:
            come_by("told")


if "CALLBOARD_TEST_CRASH" in os.environ:
    broker: Any = dramatiq.get_broker()
    broker.submit_settlements = Told(broker.submit_settlements)
    dramatiq.get_broker().add_middleware(Outer(), before=Status)
    dramatiq.get_broker().add_middleware(Inner(), after=Status)
