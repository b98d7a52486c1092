"""The filters of tasks as options of a verb, the same for every verb that lists or acts on many."""

import functools
import inspect
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from models.task_filter import TaskFilter
from workers import tasks
from workers.cli import complete
from workers.errors import InvalidTask

_Text = str | None
_OPTIONS: dict[str, Any] = {
    "status": Annotated[_Text, typer.Option(help="pending, running, completed, failed or cancelled.",
                                            autocompletion=complete.statuses)],
    "task_type": Annotated[_Text, typer.Option("--type", help="Type, such as email.", autocompletion=complete.types)],
    "task_name": Annotated[_Text, typer.Option("--name", help="Actor's name.", autocompletion=complete.actors)],
    "queue": Annotated[_Text, typer.Option(help="Queue.", autocompletion=complete.queues)],
    "priority": Annotated[int | None, typer.Option(help="1 (last) to 10 (first).")],
    "tag": Annotated[_Text, typer.Option(help="One of its tags.")],
    "correlation_id": Annotated[_Text, typer.Option("--correlation", help="Correlation id.")],
    "q": Annotated[_Text, typer.Option("-q", help="Text in id, name, correlation id, reason or error.")],
    "since": Annotated[_Text, typer.Option(help="Created then or later: 2026-11-22T12:00, or 2h for two hours ago.")],
    "until": Annotated[_Text, typer.Option(help="Created before then.")],
    "parent_id": Annotated[_Text, typer.Option("--parent", help="Id of the task that sent it.")],
    "group_id": Annotated[_Text, typer.Option("--group", help="Id of its group.")],
    "schedule_id": Annotated[_Text, typer.Option("--schedule", help="Id of the schedule that sent it.",
                                                 autocompletion=complete.schedules)],
}  # fmt: skip
_AGO = re.compile(r"(\d{1,6})([smhd])", re.ASCII)
_UNIT_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def filtered(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the options of all filters; it gets them as one argument, `wanted`."""
    own = [one for one in inspect.signature(verb).parameters.values() if one.name != "wanted"]
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)
        for name, option in _OPTIONS.items()
    ]

    @functools.wraps(verb)
    def with_filters(**given: Any) -> None:
        fields = {name: given.pop(name) for name in _OPTIONS}
        verb(wanted=_filter_of(fields), **given)

    del with_filters.__wrapped__  # why: typer would take the verb's own signature.
    keyword = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own]
    with_filters.__signature__ = inspect.Signature([*keyword, *options])  # type: ignore[attr-defined]  # as inspect has it
    with_filters.__annotations__ = {one.name: one.annotation for one in [*keyword, *options]}
    return with_filters


def _filter_of(fields: dict[str, Any]) -> TaskFilter:
    for name in ("since", "until"):
        if fields[name] is not None:
            fields[name] = moment(fields[name], name, datetime.now(UTC))
    return tasks.make_filter(**fields)


def moment(said: str, field: str, now: datetime) -> datetime:
    """A time as people say it: ISO 8601 (UTC where it has no offset), or so long ago. Raises InvalidTask."""
    ago = _AGO.fullmatch(said)
    if ago:
        return now - timedelta(seconds=int(ago[1]) * _UNIT_S[ago[2]])
    try:
        found = datetime.fromisoformat(said)
    except ValueError:
        raise InvalidTask(
            f"--{field}: expected a time such as 2026-11-22T12:00, or 30m, 2h, 7d for so long ago; got {said[:50]!r}",
            field=field,
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
