"""`callboard worker`: N worker processes, each a `dramatiq workers` of its own, under our supervisor.

Why not `dramatiq workers --processes N`: there, one process that dies ends the command and its siblings' work
(spec/traps.md 12). Here it is started again alone, and one that hangs or finds itself unwell counts as one that died.

    SIGTERM, SIGINT   all are told at once; running tasks get `drain_s`, then are handed back; status 0
    SIGINT again      what still runs is killed; its tasks are found lost
    SIGHUP            rolling restart: one after the other, each up before the next is told to stop
    a death           that one is started again; with CALLBOARD_RESTART_WORKERS=false all stop, status 1
    kill -9           of this process: its workers stop as if they had been told to (see `supervisor`)
"""

import signal
import sys
from collections.abc import Collection
from pathlib import Path

from workers.process.supervisor import Child, ChildFailed, Say, Supervisor
from workers.settings import Settings

HAND_BACK_S = 4.0
"""What a stopping worker needs besides its running tasks; with the default of 25 s it stays below the 30 s that
Kubernetes gives."""
BOOT_UNWATCHED_S = 5
"""For so long at most Dramatiq waits for a worker to boot before it looks whether it lives and listens to signals (its
own default is 30 s). A slower start is not cut short: Dramatiq only goes on without having seen it. A worker
that is killed while it says that it has booted takes the lock of that with it, and Dramatiq's main process waits for
ever: the supervisor finds it without a worker (HEADLESS_AFTER_S there)."""
EXIT_DONE = 0
EXIT_DIED = 1


def work(settings: Settings, say: Say, *, processes: int, threads: int, queues: Collection[str], drain_s: int) -> int:
    """Run workers until told to stop; to be called in the main thread.

    Args:
        say: (process name, line) → shown.
        processes, threads: how many, and how many threads each.
        queues: to serve; none for all.
        drain_s: how long running tasks may take at the end.

    Returns:
        The exit status: 0, or 1 if a worker died that is not to be started again.
    """
    supervisor = Supervisor(
        environment={
            "CALLBOARD_THREADS": str(threads),
            "CALLBOARD_SHUTDOWN_TIMEOUT_S": str(drain_s),
            "CALLBOARD_LOG_FORMAT": settings.log_format,
        },
        say=say,
    )
    signal.signal(signal.SIGINT, lambda *_: supervisor.interrupt())
    signal.signal(signal.SIGTERM, lambda *_: supervisor.request_stop())
    signal.signal(signal.SIGHUP, lambda *_: supervisor.request_renewal())
    status = EXIT_DONE
    try:
        for child in children(settings, processes=processes, threads=threads, queues=queues, drain_s=drain_s):
            supervisor.start(child)
        say("supervisor", f"{processes} worker processes with {threads} threads each are started; SIGHUP renews them")
        supervisor.watch()
    except ChildFailed as error:
        say("supervisor", str(error))
        status = EXIT_DIED
    finally:
        say("supervisor", f"stopping: running tasks may take {drain_s} s …")
        supervisor.stop()
        say("supervisor", "stopped")
    return status


def children(settings: Settings, *, processes: int, threads: int, queues: Collection[str], drain_s: int) -> list[Child]:
    """The worker processes for a supervisor. Arguments as of `work`; a child is killed after drain_s + HAND_BACK_S."""
    command = [
        *(str(Path(sys.executable).parent / "dramatiq"), "workers", "--processes", "1", "--threads", str(threads)),
        *("--worker-shutdown-timeout", str(drain_s * 1000)),
        *("--worker-fork-timeout", str(BOOT_UNWATCHED_S * 1000)),
        *(("--queues", *queues) if queues else ()),
    ]
    return [
        Child(
            f"worker.{number}",
            command,
            grace_s=drain_s + HAND_BACK_S,
            stall_timeout_s=settings.stall_timeout_s,
            restart=settings.restart_workers,
        )
        for number in range(1, processes + 1)
    ]
