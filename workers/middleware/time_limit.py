"""Time limits: a task that runs longer than it may gets TimeLimitExceeded in its own thread, inside its window.

    before_process_message   the limit is written into the current task, from the message, the actor or the default
    the function is entered  its window has the deadline from here on (`workers.runner.surround`)
    the watcher              every `interval` ms interrupts the windows whose deadline has passed

Dramatiq's own TimeLimit raises wherever the thread is: in a slow hook it loses a retry or ends the thread
(spec/traps.md 4). A function in a C call is interrupted when it comes back; one that must not wait for it is declared
`isolated=True`.
"""

import logging
import math
import threading
import time

import dramatiq
from dramatiq.broker import Broker, MessageProxy

from workers.runner.current import current_task
from workers.runner.window import windows

_logger = logging.getLogger(__name__)


class TimeLimit(dramatiq.Middleware):
    """Soft limits.

    Args:
        time_limit: milliseconds, for actors that do not say.
        interval: milliseconds between two looks at the deadlines.
    """

    actor_options = {"time_limit"}  # noqa: RUF012 - Dramatiq's own form

    def __init__(self, *, time_limit: float, interval: int) -> None:
        self._time_limit_ms = time_limit
        self._interval_s = interval / 1000
        self._stopping = threading.Event()

    def before_worker_boot(self, broker: Broker, worker: dramatiq.Worker) -> None:
        """Start the watcher."""
        self._stopping = threading.Event()
        threading.Thread(target=self._watch, args=(self._stopping,), name="callboard-limits", daemon=True).start()

    def after_worker_shutdown(self, broker: Broker, worker: dramatiq.Worker) -> None:
        """Stop it."""
        self._stopping.set()

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Say how long the task may run."""
        actor = broker.get_actor(message.actor_name)
        limit_ms = message.options.get("time_limit") or actor.options.get("time_limit", self._time_limit_ms)
        current_task().time_limit_s = None if limit_ms == math.inf else limit_ms / 1000

    def _watch(self, stopping: threading.Event) -> None:
        while not stopping.wait(self._interval_s):
            for task_id in windows.expire(time.monotonic()):
                _logger.warning("task %s passed its time limit and is interrupted", task_id)
