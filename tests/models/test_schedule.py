"""A due time fires exactly once, whoever looks, and together with its task's row or not at all."""

import uuid
from datetime import timedelta

import pytest
from sqlmodel import col, select

from models import database, direct, schedule, task_moves, task_query
from models.schedule import RunOutcome, Schedule, ScheduleRun
from models.task import Task, new_task_id
from tests.models.rows import NOW, at_once, new_row

DUE = NOW - timedelta(seconds=2)
NEXT = NOW + timedelta(seconds=58)


def stored(**columns: object) -> Schedule:
    """A schedule that is due."""
    made = Schedule(
        schedule_id=f"s-{uuid.uuid4().hex}", actor="health.check_system", trigger={"kind": "interval", "seconds": 60},
        **{"next_run_at": DUE} | columns,
    )  # fmt: skip
    with database.writing() as session:
        session.add(made)
    return made


def fire(due: Schedule) -> bool:
    """Claim the due time and accept its task, as the agenda does."""
    task = new_row(schedule_id=due.schedule_id)
    with database.writing() as session:
        taken = schedule.claim(session, due, now=NOW, next_run_at=NEXT, task_id=task.task_id)
        if taken:
            task_moves.accept(direct.Within(session), [task])
    return taken


def now_stored(schedule_id: str) -> Schedule:
    with database.reading() as session:
        return session.get_one(Schedule, schedule_id)


def runs(schedule_id: str) -> list[ScheduleRun]:
    with database.reading() as session:
        return list(session.exec(select(ScheduleRun).where(col(ScheduleRun.schedule_id) == schedule_id)).all())


def tasks_of(schedule_id: str) -> list[Task]:
    with database.reading() as session:
        return list(session.exec(select(Task).where(col(Task.schedule_id) == schedule_id)).all())


@pytest.mark.usefixtures("any_database")
def test_a_claimed_time_is_recorded_with_its_task_and_lateness() -> None:
    due = stored()

    assert fire(due)

    (task,) = tasks_of(due.schedule_id)
    (run,) = runs(due.schedule_id)
    assert (run.due_at, run.outcome, run.task_id, run.lateness_ms) == (DUE, RunOutcome.SENT, task.task_id, 2_000)
    after = now_stored(due.schedule_id)
    assert (after.next_run_at, after.last_run_at, after.last_task_id, after.run_count) == (NEXT, NOW, task.task_id, 1)


@pytest.mark.usefixtures("any_database")
def test_of_several_schedulers_that_look_at_once_exactly_one_fires() -> None:
    for _ in range(8):
        due = stored()

        taken = at_once(*[lambda: fire(due)] * 4)  # noqa: B023 - all of them end within the round

        assert sorted(taken) == [False, False, False, True]
        assert (len(runs(due.schedule_id)), len(tasks_of(due.schedule_id))) == (1, 1)
        assert now_stored(due.schedule_id).run_count == 1


@pytest.mark.usefixtures("any_database")
def test_a_scheduler_that_dies_before_its_commit_has_done_nothing() -> None:
    due = stored()
    task = new_row(schedule_id=due.schedule_id)

    def fire_and_die() -> None:
        with database.writing() as session:
            assert schedule.claim(session, due, now=NOW, next_run_at=NEXT, task_id=task.task_id)
            assert task_moves.accept(direct.Within(session), [task])
            session.flush()
            raise SystemExit

    with pytest.raises(SystemExit):
        fire_and_die()

    assert (runs(due.schedule_id), tasks_of(due.schedule_id)) == ([], [])
    assert now_stored(due.schedule_id).next_run_at == DUE
    assert fire(due)


@pytest.mark.usefixtures("any_database")
def test_a_skipped_time_is_recorded_with_its_reason_and_is_no_run() -> None:
    due = stored(last_task_id="before", run_count=4)

    with database.writing() as session:
        assert schedule.claim(session, due, now=NOW, next_run_at=NEXT, task_id=None, reason="the previous one runs")

    (run,) = runs(due.schedule_id)
    assert (run.outcome, run.reason, run.task_id) == (RunOutcome.SKIPPED_OVERLAP, "the previous one runs", None)
    after = now_stored(due.schedule_id)
    assert (after.next_run_at, after.last_task_id, after.run_count) == (NEXT, "before", 4)


@pytest.mark.usefixtures("any_database")
def test_a_time_that_was_dealt_with_is_passed_over_although_the_schedule_was_set_back_to_it() -> None:
    due = stored()
    assert fire(due)
    first = now_stored(due.schedule_id).last_task_id
    with database.writing() as session:
        session.get_one(Schedule, due.schedule_id).next_run_at = DUE

    assert not fire(now_stored(due.schedule_id))

    after = now_stored(due.schedule_id)
    assert (after.next_run_at, after.last_task_id, after.run_count) == (NEXT, first, 1)
    assert len(tasks_of(due.schedule_id)) == 1


@pytest.mark.usefixtures("any_database")
def test_a_scheduler_that_looked_long_ago_moves_nothing_back() -> None:
    seen_long_ago = stored()
    assert fire(seen_long_ago)
    with database.writing() as session:
        session.get_one(Schedule, seen_long_ago.schedule_id).next_run_at = NEXT + timedelta(minutes=1)

    assert not fire(seen_long_ago)

    assert now_stored(seen_long_ago.schedule_id).next_run_at == NEXT + timedelta(minutes=1)


@pytest.mark.usefixtures("any_database")
def test_a_disabled_schedule_is_neither_due_nor_claimed() -> None:
    disabled = stored(enabled=False)

    with database.reading() as session:
        assert disabled.schedule_id not in [one.schedule_id for one in schedule.due(session, NOW)]

    assert not fire(disabled)


def test_what_is_due_comes_longest_due_first_and_the_next_time_is_known(empty_tables: str) -> None:
    with database.reading() as session:
        assert schedule.next_due_at(session) is None
    later, sooner = stored(next_run_at=NOW), stored(next_run_at=DUE)
    stored(next_run_at=NEXT)
    stored(next_run_at=None)

    with database.reading() as session:
        assert [one.schedule_id for one in schedule.due(session, NOW)] == [sooner.schedule_id, later.schedule_id]
        assert schedule.next_due_at(session) == DUE
        assert task_query.get(session, new_task_id()) is None
