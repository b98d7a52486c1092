"""`worker`: supervised worker processes."""

from typing import Annotated

import typer

from workers import callboard, start_checks
from workers.cli import complete
from workers.cli.up import JsonLines, say, speak_json
from workers.errors import CallboardError


def worker(
    processes: Annotated[int, typer.Option(min=1, max=256, help="Worker processes.")] = callboard.settings.processes,
    threads: Annotated[int, typer.Option(min=1, max=1_000, help="Threads of each.")] = callboard.settings.threads,
    queues: Annotated[
        str, typer.Option(help="Queues to serve, separated by commas; all by default.", autocompletion=complete.queues)
    ] = "",
    drain_s: Annotated[
        int, typer.Option("--drain-s", min=1, max=3_600, help="Seconds that running tasks get at the end.")
    ] = callboard.settings.shutdown_timeout_s,
    as_json: JsonLines = False,
) -> None:
    """Run worker processes, each of them restarted alone when it dies or hangs.

    SIGTERM and Ctrl-C let running tasks finish within --drain-s; SIGHUP restarts one process after the other.
    Exit code 1: a process died and CALLBOARD_RESTART_WORKERS is off; 2: the start was refused.
    """
    from workers.process.worker import work  # why: only this verb needs the process machinery.

    speak_json(as_json)
    settings = callboard.settings
    wanted = tuple(filter(None, (name.strip() for name in queues.split(","))))
    known = callboard.broker.get_declared_queues()
    unknown = sorted(set(wanted) - known)
    if unknown:
        raise CallboardError(
            f"--queues: no actor uses {', '.join(unknown)}: expected some of {', '.join(sorted(known))}"
        )
    for finding in start_checks.enforce(start_checks.run(settings, callboard.broker.client), settings):
        say("supervisor", f"warning: {finding}")
    callboard.broker.close()
    raise typer.Exit(work(settings, say, processes=processes, threads=threads, queues=wanted, drain_s=drain_s))
