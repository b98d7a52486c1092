"""Running totals: each move is counted once, with it or not at all; folding changes no sum; nothing takes back."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from models import database, direct, schedule_claim, schema, task_moves, totals
from models.retention import Retention
from models.schedule import RunOutcome
from models.task import AttemptOutcome, TaskStatus
from models.task_moves import Loss, LostDelivery
from models.totals import SECONDS, Tally
from tests.models.conftest import fresh_postgres
from tests.models.rows import LATER, NOW, WORKER, accepted, at_once, end, in_status, running

FAILED = {"status": TaskStatus.FAILED, "outcome": AttemptOutcome.FAILED}
RETRIED = {"status": TaskStatus.PENDING, "outcome": AttemptOutcome.RETRIED, "retried": True}

pytestmark = pytest.mark.usefixtures("empty_tables")


def tasks() -> dict[str, float]:
    """What was counted of tasks, without zeros and without the time of runs."""
    with direct.reading() as to:
        rows = totals.read(to, totals.TASKS)
    return {name: totals.summed(rows, name) for name in totals.TASKS.counts if totals.summed(rows, name)}


def enqueued() -> dict[str, int]:
    with direct.reading() as to:
        return totals.enqueued(to)


def move(made: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    with direct.transaction() as to:
        return made(to, *arguments, **named)


def lose(task_id: str, *, failed_because: str | None = None) -> None:
    assert move(task_moves.lose, [Loss(task_id, 1, WORKER, failed_because)], LATER)


def cancel_lost(task_id: str) -> None:
    assert move(task_moves.cancel, task_id, reason="by test", now=LATER, lost=LostDelivery(1, WORKER))


def refuse(task_id: str) -> None:
    assert move(task_moves.refuse, task_id, reason="r", error_type="E", error_message="m", now=LATER)


MOVES: list[tuple[str, Callable[[], object], dict[str, int]]] = [
    ("accept", accepted, {}),
    ("start", running, {}),
    ("complete", lambda: end(running()), {"completed": 1}),
    ("complete, start not written", lambda: end(accepted()), {"completed": 1}),
    ("fail", lambda: end(running(), **FAILED), {"failed": 1}),
    ("retry", lambda: end(running(), **RETRIED), {"retried": 1}),
    ("hand back", lambda: end(running(), **RETRIED | {"retried": False}), {}),
    ("lose", lambda: lose(running()), {"lost": 1}),
    ("lose for good", lambda: lose(running(), failed_because="worker lost"), {"lost": 1, "failed": 1}),
    ("note a loss", lambda: move(task_moves.note_lost_delivery, accepted(), 1, "w-9", LATER), {"lost": 1}),
    ("cancel", lambda: in_status(TaskStatus.CANCELLED), {"cancelled": 1}),
    ("cancel after a loss", lambda: cancel_lost(accepted()), {"cancelled": 1, "lost": 1}),
    ("refuse", lambda: refuse(accepted()), {"failed": 1}),
    ("reopen", lambda: move(task_moves.reopen, in_status(TaskStatus.FAILED)), {"failed": 1, "reopened": 1}),
    ("withdraw", lambda: move(task_moves.withdraw, accepted()), {"withdrawn": 1}),
]


@pytest.mark.parametrize(("made", "expected"), [move[1:] for move in MOVES], ids=[move[0] for move in MOVES])
def test_each_move_is_counted(made: Callable[[], object], expected: dict[str, int]) -> None:
    made()

    assert tasks() == expected
    assert enqueued()["enqueued"] == 1


@pytest.mark.parametrize(
    "again",
    [
        end,
        lambda task_id: end(task_id, **FAILED),
        lambda task_id: move(task_moves.cancel, task_id, reason="r", now=LATER),
        lambda task_id: move(task_moves.reopen, task_id),
        lambda task_id: move(task_moves.withdraw, task_id),
        lambda task_id: move(task_moves.lose, [Loss(task_id, 1, WORKER)], LATER),
        lambda task_id: move(task_moves.note_lost_delivery, task_id, 1, WORKER, LATER),
    ],
)
def test_a_move_that_moves_nothing_counts_nothing(again: Callable[[str], object]) -> None:
    task_id = in_status(TaskStatus.COMPLETED)

    assert not again(task_id)

    assert tasks() == {"completed": 1}


def test_what_is_rolled_back_was_not_counted() -> None:
    task_id = in_status(TaskStatus.FAILED)

    def reopen_and_fail(to: direct.Direct) -> None:
        with to.atomic():
            assert task_moves.reopen(to, task_id)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        move(reopen_and_fail)

    assert tasks() == {"failed": 1}


def test_times_fall_into_the_same_buckets_on_both_databases() -> None:
    durations = [0, SECONDS[0], 0.0051, 0.3, 5, 1800, 1801]
    for duration in durations:
        for more in ({"result": "1"}, FAILED):
            end(running(), finished_at=NOW + timedelta(seconds=duration), waited_s=duration / 2, **more)

    with direct.reading() as to:
        (row,) = totals.read(to, totals.TASKS)
    assert [row[name] for name in totals.buckets("run")] == [4, 2, 0, 2, 0, 2, 0, 0, 0, 2, 2]
    assert row["run_sum"] == pytest.approx(2 * sum(durations))
    assert [row[name] for name in totals.buckets("wait")] == [6, 0, 0, 2, 0, 2, 0, 0, 0, 4, 0]
    assert row["wait_sum"] == pytest.approx(sum(durations))


def test_a_fold_leaves_one_row_and_the_same_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(totals, "FOLD_FROM", 2)
    for number in range(10):
        end(accepted(task_name=f"a.{number % 2}"))
    with direct.reading() as to:
        before = totals.read(to, totals.TASKS)

    folded = [move(totals.fold, totals.TASKS) for _ in range(2)]

    with direct.reading() as to:
        assert totals.read(to, totals.TASKS) == before
        assert to.run("SELECT count(*) FROM task_totals") == [(2,)]
    assert folded == [10, 2]


def test_nothing_is_lost_or_doubled_by_folds_and_moves_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(totals, "FOLD_FROM", 1)

    def complete() -> None:
        for _ in range(30):
            end(accepted())

    def fold() -> None:
        for _ in range(30):
            move(totals.fold, totals.TASKS)

    assert at_once(complete, complete, fold, fold) == [None] * 4

    assert tasks() == {"completed": 60}


def test_a_journal_without_keys_adds_up_to_one_row_also_when_it_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(totals, "FOLD_FROM", 0)
    move(totals.fold, totals.FLUSHES)
    for seconds in (0.001, 2.0):
        tally = Tally(totals.FLUSHES)
        tally.observe((), "seconds", seconds)
        move(lambda to, tally=tally: tally.write(to))

    move(totals.fold, totals.FLUSHES)

    with direct.reading() as to:
        (row,) = totals.read(to, totals.FLUSHES)
        assert to.run("SELECT count(*) FROM flush_totals") == [(1,)]
    assert (row["seconds_sum"], row["seconds_0"], row["seconds_5"]) == (pytest.approx(2.001), 1, 1)


@pytest.mark.parametrize(
    ("outcome", "count", "expected"),
    [
        (RunOutcome.SENT, 1, {"sent": 1, "late_sum": 60.0, "late_7": 1}),
        (RunOutcome.SKIPPED_MISFIRE, 7, {"missed": 7}),
        (RunOutcome.SKIPPED_MISFIRE, None, {"missed": 1}),
        (RunOutcome.SKIPPED_OVERLAP, 1, {"overlapped": 1}),
    ],
)
def test_a_run_of_a_schedule_is_counted_once(outcome: RunOutcome, count: int | None, expected: dict[str, int]) -> None:
    run = schedule_claim.Run(NOW, outcome, due_count=count)

    record = schedule_claim.Record("s", run, None)

    recorded = [move(schedule_claim.record, [record], now=LATER) for _ in range(2)]

    assert recorded == [[record], []]
    with direct.reading() as to:
        (row,) = totals.read(to, totals.SCHEDULES)
    assert {name: amount for name, amount in row.items() if amount} == expected


def test_retention_takes_nothing_back() -> None:
    for status in (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED):
        in_status(status)
    before = tasks(), enqueued()

    assert Retention(result_days=1, task_days=1).turn(NOW + timedelta(days=400))["tasks"] == 3

    assert (tasks(), enqueued()) == before


@pytest.mark.usefixtures("rebind")
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_totals_begin_with_what_the_rows_say(kind: str, request: pytest.FixtureRequest, tmp_path: Any) -> None:
    database.bind(
        f"sqlite:///{tmp_path / 'old.db'}"
        if kind == "sqlite"
        else fresh_postgres(request.getfixturevalue("postgres_url"))
    )
    schema.upgrade()
    for status in TaskStatus:
        in_status(status)
    schema.downgrade("0003")

    schema.upgrade()

    assert tasks() == {"completed": 1, "failed": 1, "cancelled": 1}
    assert enqueued() == {"enqueued": 5, "pending": 1, "running": 1}
    with database.reading() as session:
        assert session.execute(text("SELECT count(*) FROM task_totals")).scalar_one() == 1
