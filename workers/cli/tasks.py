"""`tasks list|show|logs|watch|cancel|retry|delete|prune`: the status table in a terminal."""

import json
import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from models import task_query
from models.task import TaskStatus
from models.task_count import Count
from models.task_filter import TaskFilter
from workers import audit, bulk, callboard, fleet, tasks
from workers.cli.enqueue import follow
from workers.cli.filters import filtered, moment
from workers.cli.show import Json, Yes, age, ask_first, bar, print_json, print_table, print_text
from workers.errors import InvalidTask
from workers.tasks import CancelOutcome

app = typer.Typer(help="Look at tasks; cancel, retry and delete them.", no_args_is_help=True)
_TaskId = Annotated[str, typer.Argument(metavar="TASK_ID", help="The task's id.")]
_TaskIds = Annotated[list[str] | None, typer.Argument(metavar="TASK_ID…", help="Ids; or filters instead.")]
PATIENCE_S = 3.0
"""For how long a list is looked through for rows that a filter without an index finds."""
_DID = {bulk.Action.CANCEL: "cancelled", bulk.Action.RETRY: "reopened", bulk.Action.DELETE: "deleted"}


@app.command("list")
@filtered
def list_tasks(
    wanted: TaskFilter,
    limit: Annotated[int, typer.Option(help="1–1000 rows.", min=1, max=task_query.MAX_PAGE)] = 20,
    offset: Annotated[int, typer.Option(help="Rows to pass over.", min=0, max=task_query.MAX_OFFSET)] = 0,
    sort: Annotated[str, typer.Option(help="created_at, duration or priority; with - before it descending.")] = (
        "-created_at"
    ),
    cursor: Annotated[str | None, typer.Option(help="The next page, as the page before says.")] = None,
    as_json: Json = False,
) -> None:
    """List tasks, newest first."""
    if cursor is None:
        page, total = tasks.find_and_count(wanted, limit=limit, offset=offset, sort=sort)
    else:
        page = tasks.find_tasks(wanted, limit=limit, offset=offset, sort=sort, cursor=cursor)
        total = tasks.count_tasks(wanted)
    found, until_s = list(page.rows), time.monotonic() + PATIENCE_S
    # why: what keeps an API's page short is its time; a person at a terminal would only ask for the next one.
    goes_on = not offset and sort.endswith("created_at")
    while goes_on and page.is_partial and page.next_cursor and len(found) < limit and time.monotonic() < until_s:
        page = tasks.find_tasks(wanted, limit=limit - len(found), sort=sort, cursor=page.next_cursor)
        found += page.rows
    if goes_on and cursor is None and page.next_cursor is None and not page.is_partial:
        total = Count(len(found), is_estimate=False)
    rows = [tasks.as_dict(row) for row in found]
    if as_json:
        print_json({
            "tasks": rows, "total_count": total.number, "total_count_is_estimate": total.is_estimate,
            "next_cursor": page.next_cursor, "is_partial": page.is_partial,
        })  # fmt: skip
        return
    print_table(
        ("task", "actor", "status", "age"),
        [(row["task_id"], row["task_name"], row["status"], age(row["created_at"])) for row in rows],
        whole=("task", "status", "age"),
    )
    typer.echo(f"{len(rows)} of {'about ' if total.is_estimate else ''}{total.number:,}")
    if page.is_partial:
        typer.echo("not all were looked at: narrow the filter" + (", or go on" if page.next_cursor else ""), err=True)
    if page.next_cursor is not None:
        typer.echo(f"next page: --cursor {page.next_cursor}", err=True)


@app.command()
def show(task_id: _TaskId, as_json: Json = False) -> None:
    """Show one task: row, attempts, log lines."""
    row = _found(task_id)
    row["waiting_on"] = tasks.waiting_on(task_id)
    row["attempts"], row["logs"] = tasks.attempts(task_id), tasks.logs(task_id)
    if as_json:
        print_json(row)
        return
    for name, value in row.items():
        if name not in ("attempts", "logs") and value not in (None, [], {}):
            print_text(f"{name:<18} {_text(value)}")
    for attempt in row["attempts"]:
        ended = f"{attempt['outcome'] or 'running'}"
        error = f": {attempt['error_type']}: {attempt['error_message']}" if attempt["error_type"] else ""
        print_text(f"attempt {attempt['number']:<10} {ended} on {attempt['worker_id']}{error}")
    _show_lines(row["logs"])


@app.command()
def logs(task_id: _TaskId, as_json: Json = False) -> None:
    """Show what a task logged, all attempts."""
    _found(task_id)
    lines = tasks.logs(task_id, limit=task_query.MAX_PAGE)
    shown: list[dict[str, Any]] = []
    while lines:
        if as_json:
            shown += lines
        else:
            _show_lines(lines)
        lines = tasks.logs(task_id, after_id=lines[-1]["id"], limit=task_query.MAX_PAGE)
    if as_json:
        print_json(shown)


@app.command()
def watch(
    task_id: _TaskId,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Longest wait in seconds.")] = 300.0,
    as_json: Json = False,
) -> None:
    """Follow one task to its end. Exit code 0 if it completed, else 1."""
    _found(task_id)
    task = follow(task_id, timeout_s=timeout_s, quiet=as_json)
    if as_json:
        print_json(tasks.as_dict(task))
    else:
        typer.echo(f"{task.task_id} {task.status}" + (f" ({task.reason})" if task.reason else ""))
    if task.status != TaskStatus.COMPLETED:
        raise typer.Exit(1)


@app.command()
@filtered
def cancel(wanted: TaskFilter, task_ids: _TaskIds = None, yes: Yes = False, as_json: Json = False) -> None:
    """Cancel tasks: one that waits will not run, one that runs is asked to end.

    By ids, or all that the filters mean; then it says how many they are and asks first.
    """
    if task_ids is None or len(task_ids) != 1:
        _act(bulk.Action.CANCEL, wanted, task_ids, yes=yes, as_json=as_json)
        return
    (task_id,) = task_ids
    audit.record("tasks.cancel", task_id)
    outcome = tasks.request_cancel(task_id, by="CLI")
    if outcome in (CancelOutcome.ENDED, CancelOutcome.UNKNOWN):
        raise InvalidTask(f"task {task_id} is {_found(task_id)['status']}: it has ended", field="task_id")
    if as_json:
        print_json({"task_id": task_id, "outcome": outcome})
    elif outcome is CancelOutcome.CANCELLED:
        typer.echo(f"{task_id} cancelled")
    elif outcome is CancelOutcome.KILLED:
        typer.echo(f"{task_id} cancelled: its process was killed")
    elif callboard.broker.is_bus_up:
        typer.echo(f"{task_id} cancellation requested: `callboard tasks watch {task_id}` shows its end")
    else:
        typer.echo(f"{task_id} cancellation requested: Redis does not answer, and it is carried out when it does")


@app.command()
def edit(
    task_id: _TaskId,
    priority: Annotated[int | None, typer.Option(help="1 (last) to 10 (first).")] = None,
    eta: Annotated[str | None, typer.Option(help="Not before this time, such as 2026-11-22T12:00 (UTC).")] = None,
    now: Annotated[bool, typer.Option("--now", help="At once, whatever it was delayed to.")] = False,
    as_json: Json = False,
) -> None:
    """Give a task that waits another priority or time."""
    if now and eta is not None:
        raise InvalidTask("eta: expected either --eta or --now, got both", field="eta")
    if priority is None and eta is None and not now:
        raise InvalidTask("nothing to change: give --priority, --eta or --now", field="changes")
    at = None if now else tasks.UNCHANGED if eta is None else moment(eta, "eta", datetime.now(UTC))
    audit.record("tasks.change", task_id)
    tasks.change_task(task_id, priority=priority, eta=at)
    row = _found(task_id)
    if as_json:
        print_json(row)
    else:
        when = "" if row["eta"] is None else f", not before {_text(row['eta'])}"
        typer.echo(f"{task_id} waits with priority {row['priority']}{when}")


@app.command()
def group(
    group_id: Annotated[str, typer.Argument(metavar="GROUP_ID", help="The group's id, as its tasks' rows say.")],
    as_json: Json = False,
) -> None:
    """Show how many of a group's tasks have come to what."""
    found = fleet.get_group(group_id)
    if found is None:
        raise InvalidTask(f"there is no group {group_id[:100]!r}: a task's row names its own", field="group_id")
    if as_json:
        print_json(found)
        return
    said = ", ".join(f"{count:,} {status}" for status, count in sorted(found["by_status"].items()))
    over = f"; over since {_text(found['completed_at'])}" if found["completed_at"] else ""
    typer.echo(f"{found['size']:,} tasks: {said or 'none sent yet'}{over}")
    typer.echo(f"its tasks: callboard tasks list --group {group_id}", err=True)


@app.command()
@filtered
def retry(wanted: TaskFilter, task_ids: _TaskIds = None, yes: Yes = False, as_json: Json = False) -> None:
    """Have failed tasks run again, under their own ids.

    By ids, or all that the filters mean (those that were cancelled only with --status cancelled); then it says how
    many they are and asks first.
    """
    if task_ids is None or len(task_ids) != 1:
        _act(bulk.Action.RETRY, wanted, task_ids, yes=yes, as_json=as_json)
        return
    audit.record("tasks.retry", task_ids[0])
    tasks.retry_task(task_ids[0], by="CLI")
    if as_json:
        print_json({"task_id": task_ids[0], "outcome": "reopened"})
    else:
        typer.echo(f"{task_ids[0]} is pending again")


@app.command()
@filtered
def delete(wanted: TaskFilter, task_ids: _TaskIds = None, yes: Yes = False, as_json: Json = False) -> None:
    """Delete tasks that have ended, with their attempts and logs.

    By ids, or all that the filters mean; then it says how many they are and asks first.
    """
    _act(bulk.Action.DELETE, wanted, task_ids, yes=yes, as_json=as_json)


@app.command()
def prune(
    days: Annotated[int | None, typer.Option(help="Forget what ended so many days ago.", min=1)] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Forget ended tasks at once that upkeep would forget little by little.

    Without --days, those that are older than the settings say, which upkeep forgets anyway.
    """
    settings = callboard.settings
    kept_days = settings.task_retention_days if days is None else days
    if days is not None and days < settings.task_retention_days:
        ask_first(
            f"forget all tasks that ended more than {days} days ago, though {settings.task_retention_days} are set?",
            yes,
        )
    audit.record("tasks.prune", details={"days": kept_days})
    with bar("pruning", None, quiet=as_json) as advance:
        found = bulk.prune(
            result_days=min(settings.result_retention_days, kept_days), task_days=kept_days, on_turn=advance
        )
    if as_json:
        print_json(found)
    else:
        typer.echo(", ".join(f"{number} {what}" for what, number in found.items()))


def _act(action: bulk.Action, wanted: TaskFilter, task_ids: list[str] | None, *, yes: bool, as_json: bool) -> None:
    """Act on ids, or on what a filter means after saying how many they are."""
    if task_ids:
        if wanted.given():
            raise InvalidTask("expected ids or filters, got both: leave one out", field="filter")
        wanted = tasks.make_filter(ids=task_ids)
    else:
        meant = bulk.count(action, wanted)
        about = "about " if meant.is_estimate else ""
        if meant.number:
            ask_first(f"{action} {about}{meant.number:,} tasks?", yes)
    audit.record(f"tasks.{action}", " ".join(task_ids or [])[:200], details={
        name: str(value) for name, value in wanted.given().items() if name != "ids"})  # fmt: skip
    outcomes: dict[str, int] = {}
    with bar(f"{action}", len(task_ids) if task_ids else meant.number, quiet=as_json) as advance:
        while True:
            done = bulk.act(action, wanted, by="CLI", on_batch=advance)
            for outcome, number in done.outcomes.items():
                outcomes[outcome] = outcomes.get(outcome, 0) + number
            if not done.more or not done.outcomes.get(_DID[action]):
                break  # why: nothing left, or only what stays as it is.
    if as_json:
        print_json({"action": action, "outcomes": outcomes, "more": done.more})
    else:
        typer.echo(", ".join(f"{number} {what}" for what, number in outcomes.items()) or "no task matches")


def _show_lines(lines: list[dict[str, Any]]) -> None:
    for line in lines:
        print_text(f"{line['logged_at']:%H:%M:%S} {line['level']:<7} {line['message']}")


def _found(task_id: str) -> dict[str, Any]:
    row = tasks.get_task_status(task_id)
    if row is None:
        raise InvalidTask(f"there is no task {task_id!r}: see `callboard tasks list`", field="task_id")
    return row


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds")
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, (dict, list)) else str(value)
