"""A middleware that takes its time, as one that writes a status does."""

from __future__ import annotations

import time
from typing import Any

import dramatiq
from dramatiq.broker import Broker, MessageProxy


class Slow(dramatiq.Middleware):
    """Takes a while after each task, as a status write does; says whether it was left in peace."""

    def __init__(self) -> None:
        self.interrupted = 0
        self.done = 0

    def after_process_message(
        self, broker: Broker, message: MessageProxy, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        """Run bytecode for longer than the time limit."""
        until_s = time.monotonic() + 0.4
        try:
            while time.monotonic() < until_s:
                time.sleep(0.001)  # why: an interrupt lands between two of these
        except BaseException:
            self.interrupted += 1
            raise
        self.done += 1
