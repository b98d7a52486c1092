"""`queues list|pause|resume|purge`, `workers list` and `locks`: what serves tasks, in a terminal."""

from typing import Annotated, Any

import typer

from workers import audit, fleet, queues
from workers.cli import complete
from workers.cli.show import Json, Yes, age, ask_first, bar, print_json, print_table

app = typer.Typer(help="Look at queues, pause, resume and purge them.", no_args_is_help=True)
workers_app = typer.Typer(help="Look at worker processes.", no_args_is_help=True)

_Queue = Annotated[str, typer.Argument(metavar="QUEUE", help="Its name.", autocompletion=complete.queues)]


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the queues: what waits in them, for how long, and who serves them."""
    rows = queues.list_queues()
    if as_json:
        print_json(rows)
        return
    print_table(
        ("queue", "waiting", "delayed", "running", "dead", "oldest", "workers", ""),
        [
            (row["name"], row["waiting"], row["delayed"], row["running"], row["dead"], f"{row['oldest_age_s']:.0f} s",
             row["workers"], "paused" if row["paused"] else "")
            for row in rows
        ],
    )  # fmt: skip


@app.command()
def pause(queue: _Queue, as_json: Json = False) -> None:
    """Hand out nothing of a queue, until `resume`. What runs goes on, and sending does."""
    audit.record("queues.pause", queue)
    row = queues.pause_queue(queue)
    _tell(row, f"{queue} paused: {row['waiting']} waiting", as_json=as_json)


@app.command()
def resume(queue: _Queue, as_json: Json = False) -> None:
    """Hand a queue out again."""
    audit.record("queues.resume", queue)
    row = queues.resume_queue(queue)
    _tell(row, f"{queue} resumed: {row['waiting']} waiting", as_json=as_json)


@app.command()
def purge(queue: _Queue, yes: Yes = False, as_json: Json = False) -> None:
    """Cancel the pending tasks of a queue, delayed ones too. What runs goes on."""
    queues.check_queue(queue)
    ask_first(f"cancel all pending tasks of queue {queue}?", yes)
    audit.record("queues.purge", queue)
    total = {"queue": queue, "cancelled": 0, "requested": 0, "remaining": 1}
    with bar(f"purging {queue}", None, quiet=as_json) as advance:
        while total["remaining"]:
            part = queues.purge_queue(queue, by="CLI, purging the queue")
            did = part["cancelled"] + part["requested"]
            total = {**part, **{name: total[name] + part[name] for name in ("cancelled", "requested")}}
            if not did:
                break
            advance(did)
    requested = f", {total['requested']} asked to end" if total["requested"] else ""
    _tell(total, f"{queue} purged: {total['cancelled']} tasks cancelled{requested}", as_json=as_json)


@workers_app.command("list")
def list_workers(
    everyone: Annotated[bool, typer.Option("--all", help="Also those that have stopped or died.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=fleet.PAGE_MAX, help="Rows.")] = 100,
    as_json: Json = False,
) -> None:
    """List the worker processes that are alive, and what runs there."""
    rows, total = fleet.list_workers(alive=None if everyone else True, limit=limit)
    if as_json:
        print_json({"workers": rows, "total_count": total})
        return
    if not rows:
        typer.echo("no worker is alive: start one with `callboard worker`", err=True)
        return
    print_table(
        ("worker", "threads", "running", "heard of", ""),
        [
            (row["worker_id"], row["threads"], len(row["tasks"]), age(row["heartbeat_at"]),
             "" if row["alive"] else "stopped" if row["stopped_at"] else "dead")
            for row in rows
        ],
    )  # fmt: skip
    typer.echo(f"{len(rows)} of {total}")


def locks(as_json: Json = False) -> None:
    """List the named locks: who holds them, and how often they were waited for."""
    rows = fleet.list_locks()
    if as_json:
        print_json(rows)
        return
    print_table(
        ("lock", "held by", "for at most", "acquired", "contended", "lost"),
        [
            (row["name"], *(("-", "-") if row["holder"] is None else _held(row["holder"])), row["acquired"],
             row["contended"], row["lost"])
            for row in rows
        ],
    )  # fmt: skip


def _held(holder: dict[str, Any]) -> tuple[str, str]:
    return f"task {holder['task_id']}", f"{holder['expires_in_s']:.0f} s"


def _tell(row: dict[str, Any], said: str, *, as_json: bool) -> None:
    if as_json:
        print_json(row)
    else:
        typer.echo(said)
