"""APScheduler: `add_job`, `@scheduled_job`, and `add_schedule` of version 4.

A scheduler that is made in one file is often used in another that imports no APScheduler: there a call counts if it
names a trigger as APScheduler does (`add_job(f, "interval", …)`, `trigger=…`).
"""

import ast
from collections.abc import Iterator

from periodic.elsewhere.found import Hit
from periodic.elsewhere.source import Source, text_of

WORDS = (b"add_job", b"scheduled_job", b"add_schedule")
KIND = "APScheduler"
_TRIGGERS = frozenset({"interval", "cron", "date", "calendarinterval"})
_TRIGGER_AT = {"add_job": 1, "scheduled_job": 0, "add_schedule": 1}
"""Method → which positional argument is the trigger."""


def find(source: Source) -> Iterator[Hit]:
    """A job each."""
    is_at_home = any("apscheduler" in name for name in source.modules)
    for node in source.nodes:
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        method = node.func.attr
        if method in _TRIGGER_AT and (is_at_home or _names_trigger(node, _TRIGGER_AT[method])):
            named = {one.arg: one.value for one in node.keywords}
            job = node.args[0] if node.args else named.get("func") or named.get("func_or_task_id")
            name = source.decorated.get(node) or text_of(job) or method
            yield Hit(node.lineno, KIND, name, f"{name} {ast.unparse(node)}")


def _names_trigger(call: ast.Call, at: int) -> bool:
    given = [one.value for one in call.keywords if one.arg == "trigger"] + call.args[at : at + 1]
    return any(
        (isinstance(one, ast.Constant) and one.value in _TRIGGERS)
        or (isinstance(one, ast.Call) and ast.unparse(one.func).endswith(("CronTrigger", "IntervalTrigger")))
        for one in given
    )
