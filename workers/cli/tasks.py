"""`tasks list|show|watch|cancel`: the status table in a terminal."""

import json
from datetime import datetime
from typing import Annotated, Any

import typer

from models import database, task_query
from models.task import TaskStatus
from workers import audit, callboard, tasks
from workers.cli.enqueue import follow
from workers.errors import InvalidTask
from workers.tasks import CancelOutcome

app = typer.Typer(help="Look at tasks and cancel them.", no_args_is_help=True)
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_TaskId = Annotated[str, typer.Argument(help="The task's id.")]


@app.command("list")
def list_tasks(
    status: Annotated[str | None, typer.Option(help="Only of this status.")] = None,
    task_type: Annotated[str | None, typer.Option("--type", help="Only of this type.")] = None,
    limit: Annotated[int, typer.Option(help="1–1000 rows.", min=1, max=task_query.MAX_PAGE)] = 20,
    offset: Annotated[int, typer.Option(help="Rows to pass over.", min=0, max=task_query.MAX_OFFSET)] = 0,
    as_json: _Json = False,
) -> None:
    """List tasks, newest first."""
    rows = tasks.list_tasks(status, task_type, limit=limit, offset=offset)
    total = tasks.get_task_count(status, task_type)
    if as_json:
        typer.echo(json.dumps({"tasks": rows, "total_count": total}, default=str, indent=2))
        return
    from rich.console import Console  # why: rich is slow to import and most verbs do not need it.
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("task", no_wrap=True)
    table.add_column("actor", overflow="fold")
    table.add_column("status", no_wrap=True)
    table.add_column("age", no_wrap=True, justify="right")
    for row in rows:
        table.add_row(row["task_id"], row["task_name"], row["status"], age(row["created_at"]))
    Console().print(table)
    typer.echo(f"{len(rows)} of {total}")


@app.command()
def show(task_id: _TaskId, as_json: _Json = False) -> None:
    """Show one task: row, attempts, log lines."""
    row = _found(task_id)
    row["waiting_on"] = tasks.waiting_on(task_id)
    with database.reading() as session:
        row["attempts"] = [attempt.model_dump(exclude={"task_id"}) for attempt in task_query.attempts(session, task_id)]
        row["logs"] = [
            line.model_dump(include={"attempt", "logged_at", "level", "message"})
            for line in task_query.logs(session, task_id)
        ]
    if as_json:
        typer.echo(json.dumps(row, default=str, indent=2))
        return
    for name, value in row.items():
        if name not in ("attempts", "logs") and value not in (None, [], {}):
            typer.echo(f"{name:<18} {_text(value)}")
    for attempt in row["attempts"]:
        ended = f"{attempt['outcome'] or 'running'}"
        error = f": {attempt['error_type']}: {attempt['error_message']}" if attempt["error_type"] else ""
        typer.echo(f"attempt {attempt['number']:<10} {ended} on {attempt['worker_id']}{error}")
    for line in row["logs"]:
        typer.echo(f"{line['logged_at']:%H:%M:%S} {line['level']:<7} {line['message']}")


@app.command()
def watch(
    task_id: _TaskId,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Longest wait in seconds.")] = 300.0,
) -> None:
    """Follow one task to its end. Exit code 0 if it completed, else 1."""
    _found(task_id)
    task = follow(task_id, timeout_s=timeout_s, quiet=False)
    typer.echo(f"{task.task_id} {task.status}" + (f" ({task.reason})" if task.reason else ""))
    if task.status != TaskStatus.COMPLETED:
        raise typer.Exit(1)


@app.command()
def cancel(task_id: _TaskId) -> None:
    """Cancel a task: one that waits will not run, one that runs is asked to end."""
    audit.record("tasks.cancel", task_id)
    outcome = tasks.request_cancel(task_id, by="CLI")
    if outcome not in (CancelOutcome.CANCELLED, CancelOutcome.REQUESTED):
        raise InvalidTask(f"task {task_id} is {_found(task_id)['status']}: it has ended", field="task_id")
    if outcome is CancelOutcome.CANCELLED:
        typer.echo(f"{task_id} cancelled")
    elif callboard.broker.is_bus_up:
        typer.echo(f"{task_id} cancellation requested: `callboard tasks watch {task_id}` shows its end")
    else:
        typer.echo(f"{task_id} cancellation requested: Redis does not answer, and it is carried out when it does")


def _found(task_id: str) -> dict[str, Any]:
    row = tasks.get_task_status(task_id)
    if row is None:
        raise InvalidTask(f"there is no task {task_id!r}: see `callboard tasks list`", field="task_id")
    return row


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds")
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, (dict, list)) else str(value)


def age(moment: datetime) -> str:
    """How long ago it was, in its largest unit."""
    seconds = (datetime.now(moment.tzinfo) - moment).total_seconds()
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
