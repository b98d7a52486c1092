"""The rules: which conditions hold now. Each looks at what it needs and says what it saw; nothing is written here.

    task_failed      an actor's tasks failed for good within the last window; counts them
    failure_rate     of all tasks that ended within the window too many failed
    queue_age        the oldest message of a queue has waited too long
    no_worker        a queue has messages, and no live worker serves it
    missed_schedule  a schedule is overdue, or due times of it were left out because nobody was awake
    stuck_task       tasks run on long after their time limit: they cannot be interrupted, or nobody does
    provider_down    the newest sample of a provider, which is not switched off, says that it is down
    failed_import    a domain module cannot be imported

A rule that cannot look is left out of `Seen.judged`, and its alerts stay as they are: Redis is away, or the database
was until now, so that no worker could say that it lives.

Must not: write; import SQLAlchemy, as every worker process runs this.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from models import alert_moves, task_upkeep, totals
from models.alert_moves import Totals
from models.direct import Direct, marked, stamp
from models.task_moves import unstamp
from workers.broker import BusFull, BusRefused, BusUnavailable

if TYPE_CHECKING:
    from workers import Callboard

RATE_FROM: Final = 20
"""A failure rate of fewer tasks than this says nothing."""
PROVIDER_SAMPLE_FOR: Final = timedelta(minutes=15)
"""An older sample says nothing of now."""
BUS_TIMEOUT_S: Final = 1.0
MOST_ROWS: Final = 10_000
_UNTOLD: Final = frozenset({"alerts.deliver", "email.send_alert"})
"""An alert about these would be told by them."""


class Condition(msgspec.Struct, frozen=True):
    """What a rule saw. total, before: of a counted one, the running total now, and before this occurrence."""

    rule: str
    key: str
    message: str
    count: int = 1
    total: int | None = None
    before: int | None = None


@dataclass
class Seen:
    """What all rules saw. judged: the rules that could look. ended: totals, to be sampled."""

    conditions: list[Condition] = field(default_factory=list)
    judged: set[str] = field(default_factory=set)
    ended: Totals = field(default_factory=dict)


def look(callboard: "Callboard", to: Direct, now: datetime) -> Seen:
    """Ask every rule. Raises what the database raises."""
    seen = Seen()
    seen.ended = {}
    for row in totals.read(to, totals.TASKS):
        ended, failed = seen.ended.get(row["task_name"], (0, 0))
        counted = round(row["completed"] + row["failed"])
        seen.ended = {**seen.ended, row["task_name"]: (ended + counted, failed + round(row["failed"]))}
    rules: dict[str, Callable[[], Sequence[Condition]]] = {
        "failures": lambda: _failures(callboard, to, seen.ended, now),
        "queues": lambda: _queues(callboard, to, now),
        "missed_schedule": lambda: _schedules(callboard, to, now),
        "stuck_task": lambda: _stuck(callboard, to, now),
        "provider_down": lambda: _providers(to, now),
        "failed_import": lambda: _imports(callboard),
    }
    of_one_look = {"failures": ("task_failed", "failure_rate"), "queues": ("queue_age", "no_worker")}
    # why the rescue's: it is done as often as workers beat, so the same gap is in both.
    dead_after = timedelta(seconds=callboard.ledger.presence.dead_after_s)
    unknown = set() if task_upkeep.is_steady(to, "rescue", now, dead_after) else {"no_worker"}
    for name, rule in rules.items():
        try:
            seen.conditions += [one for one in rule() if one.rule not in unknown]
            seen.judged.update(one for one in of_one_look.get(name, (name,)) if one not in unknown)
        except (BusUnavailable, BusFull, BusRefused):
            continue
    return seen


def _failures(callboard: "Callboard", to: Direct, ended: Totals, now: datetime) -> list[Condition]:
    settings = callboard.settings
    window = timedelta(seconds=settings.alert_window_s)
    sampled = alert_moves.samples(to, window_since=now - window)
    if sampled is None:
        return []  # why: what failed before anybody looked is history.
    first, last = sampled
    found = []
    all_ended = all_failed = 0
    for actor, (count, failed) in ended.items():
        then_ended, then_failed = first.get(actor, (0, 0))
        all_ended, all_failed = all_ended + count - then_ended, all_failed + failed - then_failed
        if failed > then_failed and actor not in _UNTOLD:
            new = failed - then_failed
            said = f"{actor}: {new} failed for good within {settings.alert_window_s:g} s"
            before = last.get(actor, (0, 0))[1]
            before = then_failed if before >= failed else before
            found.append(Condition("task_failed", f"task_failed:{actor}", said, new, total=failed, before=before))
    percent = 100 * all_failed / all_ended if all_ended >= RATE_FROM else 0.0
    if percent > settings.alert_failure_percent:
        said = f"{percent:.0f} % of {all_ended} tasks failed for good within {settings.alert_window_s:g} s"
        found.append(Condition("failure_rate", "failure_rate", said, all_failed))
    return found


def _queues(callboard: "Callboard", to: Direct, now: datetime) -> list[Condition]:
    alive_since = stamp(to.dialect, callboard.ledger.presence.alive_since(now))
    sql = "SELECT queues FROM workers WHERE heartbeat_at >= ? AND stopped_at IS NULL"
    alive = [_list(row[0]) for row in to.run(marked(to, sql), (alive_since,))]
    found = []
    for queue in sorted(callboard.broker.get_declared_queues()):
        depth = callboard.broker.depth(queue, timeout_s=BUS_TIMEOUT_S)
        age_s = depth.oldest_age_s
        if age_s > callboard.settings.health_queue_age_s:
            why = " (it is paused)" if depth.paused else ""
            said = f"queue {queue}{why}: the oldest of {depth.waiting} messages has waited for {age_s:.0f} s"
            found.append(Condition("queue_age", f"queue_age:{queue}", said, depth.waiting))
        if depth.waiting and not any(served is None or queue in served for served in alive):
            said = f"queue {queue}: {depth.waiting} messages wait, and none of {len(alive)} live workers serves it"
            found.append(Condition("no_worker", f"no_worker:{queue}", said, depth.waiting))
    return found


def _schedules(callboard: "Callboard", to: Direct, now: datetime) -> list[Condition]:
    late = now - timedelta(seconds=callboard.settings.alert_late_s)
    sql = (
        "SELECT s.schedule_id, s.next_run_at, s.error FROM schedules AS s"
        " LEFT JOIN background_tasks AS t ON t.task_id = s.last_task_id"
        " WHERE s.enabled AND s.removed_at IS NULL AND s.next_run_at <= ?"
        " AND (t.status IS NULL OR t.status NOT IN ('pending', 'running'))"
    )
    found = {
        schedule_id: f"schedule {schedule_id} was due at {unstamp(due_at):%Y-%m-%d %H:%M:%S} UTC and was not sent: "
        f"{error or 'is `periodiq periodic` running?'}"
        for schedule_id, due_at, error in to.run(marked(to, sql), (stamp(to.dialect, late),))
    }
    sql = (
        "SELECT schedule_id, sum(coalesce(due_count, 1)) FROM schedule_runs"
        " WHERE outcome = 'skipped_misfire' AND due_at >= ? GROUP BY schedule_id"
    )
    since = stamp(to.dialect, now - timedelta(seconds=callboard.settings.alert_window_s))
    for schedule_id, count in to.run(marked(to, sql), (since,)):
        found.setdefault(schedule_id, f"schedule {schedule_id}: {count} due times were left out, as nobody was awake")
    return [Condition("missed_schedule", f"missed_schedule:{name}", said) for name, said in found.items()]


def _stuck(callboard: "Callboard", to: Direct, now: datetime) -> list[Condition]:
    settings = callboard.settings
    sql = (
        "SELECT task_id, task_name, options, started_at FROM background_tasks"
        f" WHERE status = 'running' AND status <> 'completed' LIMIT {MOST_ROWS}"
    )
    stuck: dict[str, list[tuple[float, str]]] = {}
    for task_id, actor_name, options, started_at in to.run(sql):
        actor, began = callboard.registry.find(actor_name), unstamp(started_at)
        given = (options if isinstance(options, dict) else msgspec.json.decode(options)).get("time_limit")
        limit_ms = given or (actor and actor.options.get("time_limit")) or settings.time_limit_s * 1000
        ran_s = (now - began).total_seconds() if began else 0.0
        if ran_s > limit_ms / 1000 + settings.alert_stuck_s:
            stuck.setdefault(actor_name, []).append((ran_s, task_id))
    found = []
    for actor_name, tasks in stuck.items():
        ran_s, task_id = max(tasks)
        said = f"{actor_name}: {len(tasks)} run on after their time limit; {task_id} for {ran_s:.0f} s"
        found.append(Condition("stuck_task", f"stuck_task:{actor_name}", said, len(tasks)))
    return found


def _providers(to: Direct, now: datetime) -> list[Condition]:
    sql = (
        f"{alert_moves.EACH_PROVIDER} SELECT s.provider, s.error FROM p JOIN provider_samples AS s"
        " ON s.provider = p.provider AND s.sampled_at ="
        " (SELECT max(n.sampled_at) FROM provider_samples AS n WHERE n.provider = p.provider)"
        " WHERE s.is_up = ? AND s.sampled_at >= ?"
        # why: nobody probes it any more, so nothing else would end the alert before its last sample is old.
        " AND NOT EXISTS (SELECT 1 FROM providers AS o WHERE o.provider = s.provider AND o.is_enabled = ?)"
    )
    rows = to.run(marked(to, sql), (False, stamp(to.dialect, now - PROVIDER_SAMPLE_FOR), False))
    return [
        Condition("provider_down", f"provider_down:{name}", f"provider {name} is down: {error or 'no answer'}")
        for name, error in rows
    ]


def _imports(callboard: "Callboard") -> list[Condition]:
    return [
        Condition("failed_import", f"failed_import:{failure.module}", f"{failure.module} cannot be imported, and its "
                  f"actors are missing: {failure.error}")
        for failure in callboard.registry.failures
    ]  # fmt: skip


def _list(value: object) -> list[str] | None:
    found = msgspec.json.decode(value) if isinstance(value, str) else value
    return found if isinstance(found, list) else None
