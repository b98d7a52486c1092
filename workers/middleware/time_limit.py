"""Time limits: Dramatiq's, except that an interrupt cannot land after the task has left its window.

Dramatiq's watcher takes note of a passed deadline under a lock and raises the exception after it: in between the task
may have ended, and the exception lands in a later hook, whose caller it kills (spec/traps.md 4). Here both happen under
the lock, and leaving the window takes back an exception that is still on its way; one that lands while leaving is
dropped, because the function has ended. What still lands before that (while Dramatiq logs an error) ends the attempt
without an outcome; the ledger then hands the task back, so that no row is wrong.
"""

import ctypes
import logging
import threading
from time import monotonic
from typing import Any

import dramatiq
from dramatiq.broker import Broker, MessageProxy
from dramatiq.middleware import TimeLimitExceeded, raise_thread_exception
from dramatiq.middleware.time_limit import _CtypesTimeoutManager

_logger = logging.getLogger(__name__)


class _Windows(_CtypesTimeoutManager):
    """Deadlines by thread; a window is open from `add_timeout` to `remove_timeout`."""

    def _handle_deadlines(self) -> None:
        now_s = monotonic()
        with self.mu:
            for thread_id, deadline_s in self.deadlines.items():
                if deadline_s is not None and now_s >= deadline_s:
                    self.deadlines[thread_id] = None
                    raise_thread_exception(thread_id, TimeLimitExceeded)
                    _logger.warning("a task passed its time limit and is interrupted")

    def remove_timeout(self, thread_id: int) -> None:
        """Close the window of the calling thread."""
        with self.mu:
            self.deadlines[thread_id] = None
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), None)


class TimeLimit(dramatiq.middleware.TimeLimit):
    """Dramatiq's TimeLimit with windows that close.

    Args:
        time_limit: milliseconds, for actors that do not say.
        interval: milliseconds between two looks at the deadlines.
    """

    def __init__(self, *, time_limit: float, interval: int) -> None:
        super().__init__(time_limit=time_limit, interval=interval)
        self.manager = _Windows(interval, logger=_logger)

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Close the window, whatever lands meanwhile."""
        while True:
            try:
                self.manager.remove_timeout(threading.get_ident())
            except TimeLimitExceeded:
                continue
            return

    after_skip_message = after_process_message
