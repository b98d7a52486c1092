"""One request to stop is one, however many signals it comes as.

honcho, systemd (KillMode=control-group) and a terminal's Ctrl-C signal every process of a group, and Dramatiq's main
process passes the signal on as well: the worker process gets it twice within milliseconds, and takes the second one for
"now, without finishing". Here repeats within REPEAT_WITHIN_S of the first are ignored; a later one still counts.
"""

import signal
import threading
import time
from types import FrameType

import dramatiq
from dramatiq.broker import Broker

REPEAT_WITHIN_S = 2.0


class OneStop(dramatiq.Middleware):
    """Wraps the worker process's SIGTERM handler."""

    def before_worker_boot(self, broker: Broker, worker: dramatiq.Worker) -> None:
        """Wrap it, where there is one: in a process of `dramatiq`, and its main thread."""
        present = signal.getsignal(signal.SIGTERM)
        if not callable(present) or threading.current_thread() is not threading.main_thread():
            return
        handler = present
        first_s: float | None = None

        def once(number: int, frame: FrameType | None) -> None:
            nonlocal first_s
            now_s = time.monotonic()
            if first_s is not None and now_s - first_s < REPEAT_WITHIN_S:
                return
            first_s = first_s or now_s
            handler(number, frame)

        signal.signal(signal.SIGTERM, once)
