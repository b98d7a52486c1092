"""A worker process watches itself: a thread that has died or is stuck ends the process, and its supervisor starts anew.

Dramatiq notices neither (spec/traps.md 12): a worker thread that an exception killed outside of its task takes its
message along and is missed by nobody, and a process whose fetching thread is stuck looks healthy and does nothing.

    well      the process writes a byte to its supervisor's pipe (its pulse), INTERVAL_S apart
    unwell    what is wrong is logged; then the process sends itself SIGTERM, once, and is
    ending    as at any stop: nothing more is fetched, running tasks finish within the grace, the rest is handed back;
              the pulse goes on, and the process ends with status EXIT_UNWELL. It is ended the hard way END_WITHIN_S
              after the grace, if something that is stuck keeps it from ending

A process that stands still as a whole (stopped, deadlocked) writes no pulse: its supervisor kills it. One whose
supervisor is gone (the pipe has no reader) stops as if it had been told to. Without a supervisor (plain
`dramatiq workers`) the rest holds: the command ends with EXIT_UNWELL, and its process manager starts it again.

A crash at any of these points is the crash of a worker: its messages come back when its lease ends.
"""

import logging
import multiprocessing
import os
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterable
from multiprocessing.util import Finalize

import dramatiq
from dramatiq.broker import Broker

from workers.broker import CallboardBroker

EXIT_UNWELL = 70
"""Exit status of a worker process that found itself unwell (sysexits.h: an internal error)."""
INTERVAL_S = 0.5
END_WITHIN_S = 5.0
_ASLEEP_AFTER_S = 5.0
"""A watcher that finds itself this late (or half a stall time-out, if that is less) was stopped with its process, and
starts counting anew."""
_logger = logging.getLogger(__name__)


class Watch(dramatiq.Middleware):
    """See the module's docstring.

    Args:
        stall_timeout_s: how long a hub or settler may show no sign of life.
        shutdown_timeout_s: how long running tasks may take when the process ends.
        pulse_fd: the supervisor's pipe; None without a supervisor.
        also: further threads that must live as long as the worker runs.
    """

    def __init__(
        self,
        *,
        stall_timeout_s: float,
        shutdown_timeout_s: float,
        pulse_fd: int | None = None,
        also: Callable[[], Iterable[threading.Thread]] = tuple,
    ) -> None:
        self._stall_timeout_s = stall_timeout_s
        self._shutdown_timeout_s = shutdown_timeout_s
        self._pulse_fd = pulse_fd
        self._also = also
        self._closing = threading.Event()

    def after_worker_boot(self, broker: Broker, worker: dramatiq.Worker) -> None:
        """Begin to watch; only in a worker process of `dramatiq`, which is ours to end."""
        if multiprocessing.parent_process() is None or not isinstance(broker, CallboardBroker):
            return
        if self._pulse_fd is not None:
            if _is_pipe(self._pulse_fd):
                os.set_blocking(self._pulse_fd, False)
            else:  # the variable was inherited by a process that is not the supervisor's child
                self._pulse_fd = None
        threading.Thread(target=self._run, args=(broker, worker), name="callboard-watch", daemon=True).start()

    def before_worker_shutdown(self, broker: Broker, worker: dramatiq.Worker) -> None:
        """From here on threads end because they are told to."""
        self._closing.set()

    def _run(self, broker: CallboardBroker, worker: dramatiq.Worker) -> None:
        awake_since_s = last_s = time.monotonic()
        main_process = multiprocessing.parent_process()
        assert main_process is not None
        asleep_after_s = min(_ASLEEP_AFTER_S, self._stall_timeout_s / 2)
        while not self._closing.is_set():
            now_s = time.monotonic()
            if now_s - last_s > asleep_after_s:
                awake_since_s = now_s
            last_s = now_s
            found = symptoms(
                broker, worker, self._also(), stall_timeout_s=self._stall_timeout_s, awake_s=now_s - awake_since_s
            )
            if not main_process.is_alive():
                found.append("its main process is gone")  # killed: nobody would pass on a signal or a log line
            if found and not self._closing.is_set():
                self._end(found)
            self._beat()
            self._closing.wait(INTERVAL_S)
        while True:  # the stop takes its time; the process ends under this thread
            self._beat()
            time.sleep(INTERVAL_S)

    def _end(self, found: list[str]) -> None:
        _logger.critical("this worker process is unwell and ends itself, to be started again: %s", "; ".join(found))
        # why: the main thread ends as at any stop, with status 0; this runs after it, as the last thing.
        Finalize(None, os._exit, args=(EXIT_UNWELL,), exitpriority=-1_000)
        limit = threading.Timer(self._shutdown_timeout_s + END_WITHIN_S, os._exit, args=(EXIT_UNWELL,))
        limit.daemon = True
        limit.start()
        self._closing.set()
        os.kill(os.getpid(), signal.SIGTERM)

    def _beat(self) -> None:
        if self._pulse_fd is None:
            return
        try:
            os.write(self._pulse_fd, b".")
        except BlockingIOError:
            return  # the supervisor stands still; what it has not read yet says enough
        except OSError:
            self._pulse_fd = None
            if not self._closing.is_set():
                _logger.error("the supervisor of this worker process is gone; it stops")
                self._closing.set()
                os.kill(os.getpid(), signal.SIGTERM)


def _is_pipe(descriptor: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    except OSError:
        return False


def symptoms(
    broker: CallboardBroker,
    worker: dramatiq.Worker,
    also: Iterable[threading.Thread] = (),
    *,
    stall_timeout_s: float,
    awake_s: float,
) -> list[str]:
    """What is wrong with this worker; empty if it is well.

    Args:
        also: further threads that must live.
        stall_timeout_s: how long a hub or settler may be silent.
        awake_s: how long this process is known to have been running without a break; no silence counts as longer.
    """
    alive = sum(thread.is_alive() for thread in worker.workers)
    found = [] if alive >= worker.worker_threads else [f"{alive} of {worker.worker_threads} worker threads are left"]
    watched = [*((f"consumer of {name}", thread) for name, thread in list(worker.consumers.items())),
               *((thread.name, thread) for thread in also)]  # fmt: skip
    found += [f"the thread {name} has ended" for name, thread in watched if not thread.is_alive()]
    for health in broker.health():
        found += [f"the thread {name} has ended" for name in health.dead_threads]
        for what, silent_s in (("hub", health.hub_silent_s), ("settler", health.settler_silent_s)):
            if min(silent_s, awake_s) > stall_timeout_s:
                found.append(f"the bus's {what} has been stuck for {min(silent_s, awake_s):.0f} s")
    return found
