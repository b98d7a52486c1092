"""`enqueue ACTOR key=value… [--wait]`: send a task, and watch it to its end."""

import json
import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from models import database, task_query
from models.task import TERMINAL, Task, TaskStatus
from workers import audit, callboard, tasks
from workers.cli import complete
from workers.cli.filters import moment
from workers.cli.show import Json, print_json, print_text
from workers.errors import InvalidTask
from workers.runner.log_format import escape

POLL_S = 0.1


def enqueue(
    actor: Annotated[str, typer.Argument(metavar="ACTOR", help="Name of the actor, as `callboard actors` lists them.",
                                         autocompletion=complete.actors)],
    params: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE…", help="Parameters; a value that "
                                                       "starts with {, [ or \" is JSON.")] = None,
    params_json: Annotated[str | None, typer.Option("--params", help="All parameters as one JSON object.")] = None,
    priority: Annotated[int | None, typer.Option(help="1 (last) to 10 (first).")] = None,
    task_type: Annotated[str | None, typer.Option("--type", help="Refuse the task unless it is of this type.")] = None,
    max_retries: Annotated[int | None, typer.Option(help="Retries after failures.")] = None,
    delay_s: Annotated[float | None, typer.Option("--delay", help="Not before this many seconds.")] = None,
    eta: Annotated[str | None, typer.Option(help="Not before this time, such as 2026-11-22T12:00 (UTC).")] = None,
    key: Annotated[str | None, typer.Option(help="Idempotency key: while a task has it, no second is sent.")] = None,
    tags: Annotated[list[str] | None, typer.Option("--tag", help="To find it by. Repeat it.")] = None,
    correlation_id: Annotated[str | None, typer.Option("--correlation", help="Correlation id: of all that belongs "
                                                       "together.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end and show the result.")] = False,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Longest wait in seconds.")] = 300.0,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Send a task; with --wait, show its progress and its result.

    Exit code with --wait: 0 completed, 1 failed, cancelled or not ended in time.

    Example: callboard enqueue email.send_confirmation fir_id=FIR-2026-000101 recipient_email=me@example.org --wait
    """
    named = parse_params(params or [], params_json)
    audit.record("tasks.enqueue", actor)
    at = None if eta is None else moment(eta, "eta", datetime.now(UTC))
    message = tasks.enqueue(
        actor, task_type, named, priority, max_retries, delay_s=delay_s, eta=at, tags=tags,
        correlation_id=correlation_id, idempotency_key=key,
    )  # fmt: skip
    task_id = message.message_id
    is_duplicate, is_bus_up = tasks.is_duplicate(message), callboard.broker.is_bus_up
    if is_duplicate:
        typer.echo("nothing was sent: this earlier task has the key", err=True)
    if not is_bus_up:
        why, until = ("is full", "it has room") if callboard.broker.is_bus_full else ("does not answer", "it is back")
        typer.echo(f"Redis {why}: the task is accepted, and goes out by itself when {until}", err=True)
    if not wait:
        if as_json:
            delivery = "sent" if is_bus_up else "deferred"
            print_json({"task_id": task_id, "delivery": delivery, "duplicate": is_duplicate})
        else:
            typer.echo(task_id)
        return
    if not as_json:
        typer.echo(f"task {task_id}", err=True)
    try:
        task = follow(task_id, timeout_s=timeout_s, quiet=as_json)
    except KeyboardInterrupt:
        typer.echo(f"the task goes on: callboard tasks watch {task_id}", err=True)
        raise
    if as_json:
        print_json(tasks.as_dict(task))
    else:
        _show_end(task)
    if task.status != TaskStatus.COMPLETED:
        raise typer.Exit(1)


def follow(task_id: str, *, timeout_s: float, quiet: bool) -> Task:
    """Show a task's progress until it ends or `timeout_s` has passed; returns its row as last seen."""
    from rich.console import Console  # why: rich is slow to import and most verbs do not need it.
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    deadline_s = time.monotonic() + timeout_s
    columns = (
        SpinnerColumn(),
        TextColumn("{task.fields[name]}"),
        BarColumn(bar_width=24),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
    )
    last_log = 0
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as bar:
        shown = bar.add_task("pending", total=1.0, name=task_id[-12:])
        while True:
            with database.reading() as session:
                task = task_query.get(session, task_id)
                lines = task_query.logs(session, task_id, after_id=last_log)
            if task is None:
                raise InvalidTask(f"there is no task {task_id!r}: see `callboard tasks list`", field="task_id")
            for line in lines:
                last_log = line.id or last_log
                if not quiet:
                    said = escape(line.message)
                    bar.console.print(f"{line.logged_at:%H:%M:%S} {line.level:<7} {said}", markup=False)
            bar.update(shown, completed=task.progress or 0.0, description=_state(task), name=task.task_name)
            if task.status in TERMINAL or time.monotonic() > deadline_s:
                return task
            time.sleep(POLL_S)


def _state(task: Task) -> str:
    if task.status == TaskStatus.PENDING and task.retry_count:
        return f"waiting for retry {task.retry_count} of {task.max_retries}: {(task.error_message or '')[:60]}"
    return f"{task.status} {task.progress_message or ''}".rstrip()


def _show_end(task: Task) -> None:
    if task.status == TaskStatus.COMPLETED:
        assert task.started_at is not None
        assert task.completed_at is not None
        took_s = (task.completed_at - task.started_at).total_seconds()
        typer.echo(f"{task.task_id} completed in {took_s:.2f} s")
        typer.echo(json.dumps(tasks.as_dict(task)["result"], indent=2, ensure_ascii=False))
    elif task.status in TERMINAL:
        why = f"{task.error_type}: {task.error_message}" if task.error_type else ""
        print_text(f"callboard: {task.task_id} {task.status} ({task.reason}) {why}".rstrip(), err=True)
    else:
        typer.echo(f"callboard: {task.task_id} is still {task.status}: is a worker running? "
                   f"Follow it with `callboard tasks watch {task.task_id}`", err=True)  # fmt: skip


def parse_params(pairs: list[str], params_json: str | None = None) -> dict[str, Any]:
    """Parameters as people give them: `key=value` each, over one JSON object. Raises InvalidTask."""
    named: dict[str, Any] = {}
    if params_json is not None:
        try:
            named = json.loads(params_json)
        except (ValueError, RecursionError) as error:
            raise InvalidTask(f"--params: expected a JSON object ({error})", field="params") from None
        if not isinstance(named, dict):
            raise InvalidTask(f"--params: expected a JSON object, got {params_json[:50]!r}", field="params")
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InvalidTask(f"expected key=value, got {pair[:100]!r}", field="params")
        named[name] = _value(value)
    return named


def _value(text: str) -> Any:
    """JSON lists, objects, quoted text and null as such; everything else is text, converted by the actor's types."""
    if text != "null" and not text.startswith(("{", "[", '"')):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidTask(f"expected JSON after the equals sign ({error}), got {text[:50]!r}: a value that begins with "
                          '{, [ or " is JSON; quote text as "…"', field="params") from None  # fmt: skip
