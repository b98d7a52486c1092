"""The rows against the evidence. Every rule is a sentence that holds of a task; who breaks one is guilty of it.

Executions beyond the first are explained by what came before them: the earlier one raised (a retry), its process had
been killed, its process handed it back when it was told to stop, or the bus was away or lost its data meanwhile. The
rest is a finding. A fault explains only what it hit: an execution that went on, or whose outcome may not have been
written yet. (In a long soak nearly every process is killed in the end, and that alone explains nothing.) Those by death
and by the bus are bounded by how many tasks can have been executing, too: threads times faults. Where outcomes wait for
a database that is away, or slow, as many again as a worker may have begun ahead of them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from sqlalchemy import Engine, create_engine, func, select

from models.database import normalise_url
from models.task import TERMINAL, FailureReason, Task, TaskAttempt, TaskStatus
from tests.soak.evidence import Evidence, Execution
from workers.ledger.poison import MAX_LOST

UNKNOWN = "OutcomeUnknown"
HANDED_BACK = "shut_down"
UNWRITTEN_S = 10.0
"""For so long after a function's end, or after the database's return, its outcome may not be written yet."""
CLOCK_S = 0.05
"""Redis's clock decides when a delay is over, and the evidence has another's."""
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
        database: (from, to) of each time that the database was away.
        threads: of a worker process.
        workers: how many there are at one time.
        unwritten: tasks that a thread may have ended beside the one it executes, their outcomes not written yet.
    """

    killed: dict[int, float] = field(default_factory=dict)
    kills: int = 0
    bus: Sequence[tuple[float, float]] = ()
    bus_grace_s: float = 60.0
    database: Sequence[tuple[float, float]] = ()
    threads: int = 8
    workers: int = 1
    unwritten: int = 0


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
            *_cancel_rules(row, runs, seen.cancelled.get(task_id), is_asked=task_id in seen.asked),
            *_start_rules(token, runs, seen.not_before.get(task_id)),
            *_rerun_rules(row, runs, attempts, faults, verdict),
        ):
            verdict.guilty[broken].append(task_id)
    for cause, bound in (("death", faults.kills), ("bus", len(faults.bus) * faults.workers)):
        most = bound * faults.threads * (1 + faults.unwritten)
        if verdict.reruns[cause] > most:
            verdict.guilty[f"more reruns by {cause} than tasks can have been executing"].append(
                f"{verdict.reruns[cause]} > {most}"
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
    if row.status == TaskStatus.FAILED:
        yield from _failure_rules(row, runs, attempts)
    remembered = [run for run in runs if not _is_forgotten(run, row, faults)]
    if row.status == TaskStatus.CANCELLED and row.attempt == 0 and remembered:
        yield "it is cancelled as never started, and ran"


def _failure_rules(row: Any, runs: list[Execution], attempts: list[Any]) -> Iterator[str]:
    if row.reason == FailureReason.POISON:
        # why: no task of the soak takes its process down, so only the deaths of its workers can have convicted it.
        if sum(attempt.outcome == "lost" for attempt in attempts) < MAX_LOST:
            yield "it is failed as poison, and is innocent"
        return
    if not any(run.error == row.error_type and run.attempt == row.attempt for run in runs):
        yield "it is failed, and its last attempt raised no such error"
    if row.reason == FailureReason.RETRIES_EXHAUSTED and row.retry_count < row.max_retries:
        yield "it is failed for want of retries, and has some left"


def _start_rules(token: str | None, runs: list[Execution], not_before: float | None) -> Iterator[str]:
    if any(run.token != token for run in runs):
        yield "it ran with the parameters of another"
    if not_before is not None and any(run.started < not_before - CLOCK_S for run in runs):
        yield "it started before its time"


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


def _cancel_rules(row: Any, runs: list[Execution], answered: float | None, *, is_asked: bool) -> Iterator[str]:
    if row.status == TaskStatus.CANCELLED and not is_asked:
        yield "it is cancelled, and nobody asked for that"
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
        elif _is_hit(earlier, faults.killed.get(earlier.pid), faults) and later.started >= faults.killed[earlier.pid]:
            verdict.reruns["death"] += 1
        elif earlier.error is not None:
            verdict.reruns["retry"] += 1
        elif earlier.attempt in handed_back:
            verdict.reruns["handed back"] += 1
        elif any(earlier.started <= to and begin <= later.started <= to + faults.bus_grace_s
                 and _is_hit(earlier, begin, faults) for begin, to in faults.bus):  # fmt: skip
            verdict.reruns["bus"] += 1
        else:
            yield "it ran again without a reason"


def _is_hit(run: Execution, at: float | None, faults: Faults) -> bool:
    """Whether what happened then found the execution going on, or its outcome perhaps not written."""
    if at is None:
        return False
    if run.ended is None or at - run.ended <= UNWRITTEN_S:
        return True
    return any(begin - UNWRITTEN_S <= run.ended and at <= to + UNWRITTEN_S for begin, to in faults.database)
