"""`bench`: how quick this installation is, with its own database, Redis and workers."""

from dataclasses import asdict
from typing import Annotated

import typer

from workers import audit
from workers import bench as measurement
from workers.cli.show import Json, bar, print_json


def bench(
    count: Annotated[int, typer.Option("--tasks", min=1, max=measurement.MAX_TASKS, help="How many tasks.")] = 1_000,
    timeout_s: Annotated[float, typer.Option("--timeout", min=1, max=3_600, help="Longest wait in seconds.")] = 120.0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the tasks' rows; else they are deleted.")] = False,
    as_json: Json = False,
) -> None:
    """Measure this installation with self-tests; exit code 1 if not all completed in time.

    They have the lowest priority, so that real work goes first, and share its workers. What has not ended in time, or
    by Ctrl-C, is cancelled.
    """
    audit.record("bench.run", details={"tasks": count})
    with measurement.Bench(count, keep=keep) as running:
        with bar("sending", count, quiet=as_json) as advance:
            running.send(advance)
        with bar("running", count, quiet=as_json) as advance:
            running.wait(timeout_s, advance)
        found = running.measured()
    if as_json:
        print_json(asdict(found))
    else:
        typer.echo(f"{found.tasks:,} tasks sent in {found.send_s:.2f} s ({found.sent_per_s:,.0f}/s)")
        by = f"{found.workers} workers with {found.threads} threads"
        typer.echo(f"{found.completed:,} completed in {found.drain_s:.2f} s ({found.completed_per_s:,.0f}/s) by {by}")
        typer.echo(f"waited p50 {found.wait_p50_s:.3f} s, p95 {found.wait_p95_s:.3f} s")
        typer.echo(f"ran p50 {found.run_p50_s * 1000:.1f} ms, p95 {found.run_p95_s * 1000:.1f} ms")
        if keep:
            typer.echo(f"their rows: callboard tasks list --correlation {found.correlation_id}")
    if found.completed < found.tasks:
        raise typer.Exit(1)
