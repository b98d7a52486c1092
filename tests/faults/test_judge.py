"""The soak's judge: each rule finds the one who breaks it, and the innocent pass."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from models.task import TaskStatus
from tests.soak.evidence import Evidence, Execution
from tests.soak.judge import Faults, Ledger, judge

END_S = 1_000.0


def row(**columns: Any) -> SimpleNamespace:
    usual = {
        "status": TaskStatus.COMPLETED,
        "reason": None,
        "result": "value",
        "error_type": None,
        "attempt": 1,
        "retry_count": 0,
        "max_retries": 3,
        "params": {"args": ["token"], "kwargs": {}},
        "cancel_requested_at": None,
        "completed_at": datetime.fromtimestamp(END_S, UTC),
    }
    return SimpleNamespace(**{**usual, **columns})


def attempt(number: int = 1, outcome: str | None = "completed") -> SimpleNamespace:
    return SimpleNamespace(number=number, outcome=outcome)


def ran(number: int = 1, *, started: float = 10.0, pid: int = 1, **end: Any) -> Execution:
    return Execution("id", "token", number, pid, started, **{"ended": started + 1, "value": "value", **end})


def found(
    rows: list[SimpleNamespace],
    attempts: list[SimpleNamespace],
    runs: list[Execution],
    faults: Faults | None = None,
    **seen: Any,
) -> list[str]:
    ledger = Ledger({"id": rows[0]} if rows else {}, {"id": attempts})
    evidence = Evidence(**{"asked": {"id"}, **seen})
    evidence.accepted["id"] = "token"
    if runs:
        evidence.executions["id"] = runs
    return sorted(judge(ledger, evidence, faults or Faults()).guilty)


FAILED = {"status": TaskStatus.FAILED, "result": None, "error_type": "ValueError"}
CANCELLED = {"status": TaskStatus.CANCELLED, "attempt": 0}
NO_LONGER_WANTED = {"cancel_requested_at": datetime.fromtimestamp(END_S, UTC)}
NOT_CANCELLED = "its cancellation was requested, it never ran, and it is not cancelled"
EXHAUSTED = {**FAILED, "reason": "retries exhausted", "max_retries": 1}
POISON = {**FAILED, "reason": "poison", "attempt": 10}
SOME_LEFT = "it is failed for want of retries, and has some left"
NO_SUCH_ERROR = "it is failed, and its last attempt raised no such error"
RAISED: dict[str, Any] = {"value": None, "error": "ValueError"}


@pytest.mark.parametrize(
    ("rows", "attempts", "runs"),
    [
        ([row()], [attempt()], [ran()]),
        ([row(**FAILED)], [attempt(outcome="failed")], [ran(**RAISED)]),
        ([row(**POISON)], [attempt(number, "lost") for number in range(1, 11)], []),
        (
            [row(**EXHAUSTED, attempt=2, retry_count=1)],
            [attempt(1, "retried"), attempt(2, "failed")],
            [ran(**RAISED), ran(2, started=20, **RAISED)],
        ),
        ([row(attempt=2, retry_count=1)], [attempt(1, "retried"), attempt(2)], [ran(**RAISED), ran(2, started=20)]),
        ([row(**CANCELLED)], [], []),
        ([row(**CANCELLED | NO_LONGER_WANTED)], [], []),
        ([row(**NO_LONGER_WANTED)], [attempt()], [ran()]),
        ([row(**CANCELLED | {"attempt": 1})], [attempt(outcome="lost")], [ran(ended=None, value=None)]),
    ],
)
def test_what_is_true_passes(rows: list[Any], attempts: list[Any], runs: list[Execution]) -> None:
    assert found(rows, attempts, runs) == []


@pytest.mark.parametrize(
    ("rows", "attempts", "runs", "rule"),
    [
        ([], [], [ran()], "it was accepted or ran, and has no row"),
        ([row(status=TaskStatus.RUNNING)], [attempt(outcome=None)], [], "its row is not terminal at rest"),
        ([row(result="other")], [attempt()], [ran()], "its result is not what the completed attempt returned"),
        ([row(**FAILED)], [attempt(outcome="failed")], [ran()], NO_SUCH_ERROR),
        ([row(**EXHAUSTED)], [attempt(outcome="failed")], [ran(**RAISED)], SOME_LEFT),
        ([row(**POISON)], [attempt(1, "lost"), attempt(2, "crashed")], [], "it is failed as poison, and is innocent"),
        ([row(params={"args": ["another"]})], [attempt()], [ran()], "it ran with the parameters of another"),
        ([row(**CANCELLED)], [], [ran()], "it is cancelled as never started, and ran"),
        ([row(**FAILED | NO_LONGER_WANTED)], [attempt(outcome="failed")], [], NOT_CANCELLED),
        ([row()], [attempt()], [ran(), ran(started=12.0)], "it ran again without a reason"),
        ([row()], [attempt()], [ran(), ran(started=END_S + 1)], "it ran again after its end"),
        ([row(retry_count=1)], [attempt()], [ran()], "its retry_count is not the number of its retried attempts"),
        ([row()], [attempt(), attempt(1, None)], [ran()], "it has an attempt without an outcome"),
        ([row()], [], [ran()], "it is completed without exactly one completed attempt"),
    ],
)  # fmt: skip
def test_what_is_false_is_found(rows: list[Any], attempts: list[Any], runs: list[Execution], rule: str) -> None:
    assert rule in found(rows, attempts, runs)


def test_a_run_of_a_killed_worker_may_be_missing_only_where_the_bus_forgot_it() -> None:
    cancelled = {"rows": [row(**CANCELLED)], "attempts": [], "runs": [ran(pid=7, ended=None, value=None)]}

    assert found(**cancelled, faults=Faults({7: 11.0}, kills=1, bus=[(12.0, 13.0)])) == []
    assert found(**cancelled, faults=Faults({7: 11.0}, kills=1, bus=[(1.0, 2.0)])) == [
        "it is cancelled as never started, and ran",
        "it ran in an attempt that is not on record",
    ]


def test_a_rerun_by_death_passes_up_to_what_can_have_been_executing() -> None:
    killed = {"rows": [row(attempt=2)], "attempts": [attempt(1, "lost"), attempt(2)]}
    runs = [ran(pid=7, ended=None, value=None), ran(2, started=20.0)]

    assert found(**killed, runs=runs, faults=Faults({7: 11.0}, kills=1, threads=1)) == []
    assert found(**killed, runs=runs, faults=Faults({7: 11.0}, kills=0, threads=1)) == [
        "more reruns by death than tasks can have been executing"
    ]


def test_a_kill_explains_only_what_it_hit() -> None:
    """In a long soak nearly every process is killed in the end."""
    rerun = {"rows": [row(attempt=2)], "attempts": [attempt(1, "lost"), attempt(2)]}
    runs = [ran(pid=7), ran(2, started=500.0)]
    rule = "it ran again without a reason"

    assert found(**rerun, runs=runs, faults=Faults({7: 12.0}, kills=1)) == []
    assert found(**rerun, runs=runs, faults=Faults({7: 499.0}, kills=1)) == [rule]
    assert found(**rerun, runs=runs, faults=Faults({7: 499.0}, kills=1, database=[(11.5, 495.0)])) == []
    assert found(**rerun, runs=[ran(pid=7), ran(2, started=11.5)], faults=Faults({7: 12.0}, kills=1)) == [rule]


def test_a_bus_that_was_away_explains_only_what_it_hit() -> None:
    rerun = {"rows": [row(attempt=2)], "attempts": [attempt(1, "lost"), attempt(2)]}
    runs = [ran(), ran(2, started=500.0)]

    assert found(**rerun, runs=runs, faults=Faults(bus=[(12.0, 490.0)])) == []
    assert found(**rerun, runs=runs, faults=Faults(bus=[(488.0, 490.0)])) == ["it ran again without a reason"]


def test_a_task_that_nobody_cancelled_may_not_be_cancelled() -> None:
    rule = "it is cancelled, and nobody asked for that"

    assert found([row(**CANCELLED)], [], [], asked=set()) == [rule]
    assert found([row(**CANCELLED | {"attempt": 1})], [attempt(outcome="cancelled")], [ran()], asked=set()) == [rule]


def test_a_delayed_task_may_not_start_before_its_time() -> None:
    assert found([row()], [attempt()], [ran(started=10.0)], not_before={"id": 10.0}) == []
    assert found([row()], [attempt()], [ran(started=10.0)], not_before={"id": 11.0}) == ["it started before its time"]


def test_a_send_that_raised_may_not_run_and_a_cancelled_task_may_not_start() -> None:
    assert "its send raised, and it ran" in found([row()], [attempt()], [ran()], refused={"token": "BusUnavailable"})
    assert found([row()], [attempt()], [ran()], refused={"token": "OutcomeUnknown"}) == []
    assert "it ran after it was answered cancelled" in found([row()], [attempt()], [ran()], cancelled={"id": 5.0})
