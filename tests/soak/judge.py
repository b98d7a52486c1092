"""The rows against the evidence. Every rule is a sentence that holds of a task; who breaks one is guilty of it.

Executions beyond the first are explained by what came before them: the earlier one raised (a retry), its process was
killed, its process handed it back when it was told to stop, or the bus was away or lost its data meanwhile. The rest is
a finding. Those by death and by the bus are bounded by how many tasks can have been executing: threads times faults.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from sqlalchemy import Engine, create_engine, func, select

from models.database import normalise_url
from models.task import TERMINAL, Task, TaskAttempt, TaskStatus
from tests.soak.evidence import Evidence, Execution

UNKNOWN = "OutcomeUnknown"
HANDED_BACK = "shut_down"
_TASK, _ATTEMPT = Task.__table__, TaskAttempt.__table__  # type: ignore[attr-defined]  # SQLModel declares no __table__
_ENDED = [str(status) for status in TERMINAL]


@dataclass(frozen=True)
class Faults:
    """What was broken.

    Args:
        killed: process id → when it was killed.
        kills: how many workers were.
        bus: (from, to) of each time that the bus was away or lost its data.
        bus_grace_s: for so long after it, what it forgot may start again.
        threads: of a worker process.
        workers: how many there are at one time.
    """

    killed: dict[int, float] = field(default_factory=dict)
    kills: int = 0
    bus: Sequence[tuple[float, float]] = ()
    bus_grace_s: float = 60.0
    threads: int = 8
    workers: int = 1


@dataclass
class Ledger:
    """Rows as they stand, by task id."""

    rows: dict[str, Any]
    attempts: dict[str, list[Any]]


@dataclass
class Verdict:
    """What was found: rule → guilty task ids; and what is only counted."""

    guilty: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    statuses: Counter[str] = field(default_factory=Counter)
    reruns: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    """Executions of which nothing was heard after their process was killed."""
    unknown: int = 0


def engine(url: str) -> Engine:
    """For looking at the ledger, apart from the system's own."""
    return create_engine(normalise_url(url), pool_pre_ping=True)


def unfinished(at: Engine) -> int:
    """Rows that are not terminal."""
    with at.connect() as connection:
        statement = select(func.count()).select_from(_TASK).where(_TASK.c.status.not_in(_ENDED))
        return int(connection.execute(statement).scalar_one())


def read(at: Engine) -> Ledger:
    """All rows."""
    with at.connect() as connection:
        rows = {row.task_id: row for row in connection.execute(select(_TASK))}
        attempts: dict[str, list[Any]] = defaultdict(list)
        for row in connection.execute(select(_ATTEMPT).order_by(_ATTEMPT.c.number)):
            attempts[row.task_id].append(row)
    return Ledger(rows, attempts)


def judge(ledger: Ledger, seen: Evidence, faults: Faults) -> Verdict:
    """Apply every rule."""
    verdict = Verdict()
    verdict.statuses = Counter(row.status for row in ledger.rows.values())
    verdict.unknown = sum(error == UNKNOWN for error in seen.refused.values())
    verdict.in_flight = sum(run.ended is None for runs in seen.executions.values() for run in runs)
    for task_id in [*seen.accepted, *seen.executions]:
        if task_id not in ledger.rows:
            verdict.guilty["it was accepted or ran, and has no row"].append(task_id)
    for task_id, row in ledger.rows.items():
        runs, attempts = seen.executions.get(task_id, []), ledger.attempts.get(task_id, [])
        if row.status not in TERMINAL:
            verdict.guilty["its row is not terminal at rest"].append(task_id)
            continue
        token = _token(row)
        refused = seen.refused.get(token) if token else None
        if refused not in (None, UNKNOWN) and (runs or row.status == TaskStatus.COMPLETED):
            verdict.guilty["its send raised, and it ran"].append(task_id)
        for broken in (
            *_outcome_rules(row, runs, attempts, faults),
            *_attempt_rules(row, runs, attempts, faults),
            *_cancel_rules(row, runs, seen.cancelled.get(task_id)),
            *_rerun_rules(row, runs, attempts, faults, verdict),
        ):
            verdict.guilty[broken].append(task_id)
    for cause, bound in (("death", faults.kills), ("bus", len(faults.bus) * faults.workers)):
        if verdict.reruns[cause] > bound * faults.threads:
            verdict.guilty[f"more reruns by {cause} than tasks can have been executing"].append(
                f"{verdict.reruns[cause]} > {bound * faults.threads}"
            )
    return verdict


def _token(row: Any) -> str | None:
    args = row.params.get("args") or [None]
    token: str | None = args[0] or row.params.get("kwargs", {}).get("token")
    return token


def _outcome_rules(row: Any, runs: list[Execution], attempts: list[Any], faults: Faults) -> Iterator[str]:
    completed = [attempt.number for attempt in attempts if attempt.outcome == "completed"]
    if row.status == TaskStatus.COMPLETED:
        if len(completed) != 1:
            yield "it is completed without exactly one completed attempt"
        elif not any(run.value == row.result and run.attempt == completed[0] for run in runs):
            yield "its result is not what the completed attempt returned"
    elif completed:
        yield "it has a completed attempt and is not completed"
    raised = any(run.error == row.error_type and run.attempt == row.attempt for run in runs)
    if row.status == TaskStatus.FAILED and row.reason != "poison" and not raised:
        yield "it is failed, and its last attempt raised no such error"
    remembered = [run for run in runs if not _is_forgotten(run, row, faults)]
    if row.status == TaskStatus.CANCELLED and row.attempt == 0 and remembered:
        yield "it is cancelled as never started, and ran"


def _is_forgotten(run: Execution, row: Any, faults: Faults) -> bool:
    """Whether its process was killed before the ledger heard of it, and then the bus, the only one that knew, forgot:
    its data or its last second were lost."""
    until = row.completed_at.timestamp()
    return run.pid in faults.killed and any(begin <= until and to >= run.started for begin, to in faults.bus)


def _attempt_rules(row: Any, runs: list[Execution], attempts: list[Any], faults: Faults) -> Iterator[str]:
    if any(attempt.outcome is None for attempt in attempts):
        yield "it has an attempt without an outcome"
    if any(attempt.number > row.attempt for attempt in attempts):
        yield "it has an attempt after its last one"
    if sum(attempt.outcome == "retried" for attempt in attempts) != row.retry_count:
        yield "its retry_count is not the number of its retried attempts"
    numbers = {attempt.number for attempt in attempts}
    if any(run.attempt not in numbers and not _is_forgotten(run, row, faults) for run in runs):
        yield "it ran in an attempt that is not on record"
    by_number = {(run.attempt, run.error is not None) for run in runs if run.ended is not None}
    for attempt in attempts:
        happened = (attempt.number, attempt.outcome != "completed") in by_number
        if attempt.outcome in {"completed", "failed", "retried"} and not happened:
            yield f"it has a {attempt.outcome} attempt without such an execution"


def _cancel_rules(row: Any, runs: list[Execution], answered: float | None) -> Iterator[str]:
    if row.cancel_requested_at is not None and not runs and row.status != TaskStatus.CANCELLED:
        yield "its cancellation was requested, it never ran, and it is not cancelled"
    if answered is None:
        return
    if row.status != TaskStatus.CANCELLED:
        yield "it was answered cancelled, and is not"
    if any(run.started > answered for run in runs):
        yield "it ran after it was answered cancelled"


def _rerun_rules(
    row: Any, runs: list[Execution], attempts: list[Any], faults: Faults, verdict: Verdict
) -> Iterator[str]:
    ended_at = row.completed_at.timestamp()
    retried = {attempt.number for attempt in attempts if attempt.outcome == "retried"}
    handed_back = {attempt.number for attempt in attempts if attempt.outcome == HANDED_BACK}
    for earlier, later in pairwise(runs):
        if later.started > ended_at:
            yield "it ran again after its end"
        elif earlier.attempt in retried and earlier.error is not None:
            verdict.reruns["retry"] += 1  # also where its process was killed later: that was not the cause
        elif earlier.pid in faults.killed:
            verdict.reruns["death"] += 1
        elif earlier.error is not None:
            verdict.reruns["retry"] += 1
        elif earlier.attempt in handed_back:
            verdict.reruns["handed back"] += 1
        elif any(earlier.started <= to and later.started >= begin and later.started <= to + faults.bus_grace_s
                 for begin, to in faults.bus):  # fmt: skip
            verdict.reruns["bus"] += 1
        else:
            yield "it ran again without a reason"
