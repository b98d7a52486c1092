"""A due time fires exactly once, whoever looks, and together with its task's row or not at all."""

import uuid
from datetime import timedelta

import pytest
from sqlmodel import col, select

from models import database, direct, schedule_claim, task_moves
from models.direct import Direct
from models.schedule import RunOutcome, Schedule, ScheduleRun
from models.schedule_claim import DueSchedule, Record, Run
from models.task import Task, TaskStatus
from tests.models.rows import NOW, at_once, new_row

DUE = NOW - timedelta(seconds=2)
NEXT = NOW + timedelta(seconds=58)
SENT = Run(DUE, RunOutcome.SENT)


def stored(**columns: object) -> str:
    """A schedule that is due; its id."""
    schedule_id = f"s-{uuid.uuid4().hex}"
    with database.writing() as session:
        session.add(
            Schedule(
                schedule_id=schedule_id, actor="health.check_system", trigger={"kind": "interval", "seconds": 60},
                **{"next_run_at": DUE} | columns,
            )
        )  # fmt: skip
    return schedule_id


def seen(schedule_id: str) -> DueSchedule:
    """The schedule as a scheduler reads it."""
    with direct.reading() as to:
        return next(one for one in schedule_claim.due(to, NOW) if one.schedule_id == schedule_id)


def claim(to: Direct, due: DueSchedule, run: Run = SENT) -> bool:
    """Claim the due time and accept its task, as the agenda does."""
    task = new_row(schedule_id=due.schedule_id)
    if not schedule_claim.move_on(to, [(due, NEXT)]):
        return False
    is_sent = run.outcome is RunOutcome.SENT
    recorded = schedule_claim.record(to, [Record(due.schedule_id, run, task.task_id if is_sent else None)], now=NOW)
    if recorded and is_sent:
        task_moves.accept(to, [task])
        schedule_claim.note_sent(to, recorded, NOW)
    return bool(recorded)


def fire(due: DueSchedule, run: Run = SENT) -> bool:
    """Claim in a transaction of its own."""
    with direct.transaction() as to, to.atomic():
        return claim(to, due, run)


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
    schedule_id = stored()

    assert fire(seen(schedule_id))

    (task,) = tasks_of(schedule_id)
    (run,) = runs(schedule_id)
    assert (run.due_at, run.outcome, run.task_id, run.lateness_ms) == (DUE, RunOutcome.SENT, task.task_id, 2_000)
    after = now_stored(schedule_id)
    assert (after.next_run_at, after.last_run_at, after.last_task_id, after.run_count) == (NEXT, NOW, task.task_id, 1)


@pytest.mark.usefixtures("any_database")
def test_of_several_schedulers_that_look_at_once_exactly_one_fires() -> None:
    for _ in range(8):
        schedule_id = stored()
        due = seen(schedule_id)

        taken = at_once(*[lambda: fire(due)] * 4)  # noqa: B023 - all of them end within the round

        assert sorted(taken) == [False, False, False, True]
        assert (len(runs(schedule_id)), len(tasks_of(schedule_id))) == (1, 1)
        assert now_stored(schedule_id).run_count == 1


@pytest.mark.usefixtures("any_database")
def test_a_scheduler_that_dies_before_its_commit_has_done_nothing() -> None:
    schedule_id = stored()
    due = seen(schedule_id)

    def fire_and_die() -> None:
        with direct.transaction() as to, to.atomic():
            assert claim(to, due)
            raise SystemExit

    with pytest.raises(SystemExit):
        fire_and_die()

    assert (runs(schedule_id), tasks_of(schedule_id)) == ([], [])
    assert now_stored(schedule_id).next_run_at == DUE
    assert fire(due)


@pytest.mark.usefixtures("any_database")
def test_a_skipped_time_is_recorded_with_its_reason_and_is_no_run() -> None:
    schedule_id = stored(last_task_id="before", run_count=4)

    assert fire(seen(schedule_id), Run(DUE, RunOutcome.SKIPPED_OVERLAP, "the run before is unfinished"))

    (run,) = runs(schedule_id)
    assert (run.outcome, run.reason, run.task_id) == ("skipped_overlap", "the run before is unfinished", None)
    after = now_stored(schedule_id)
    assert (after.next_run_at, after.last_task_id, after.run_count) == (NEXT, "before", 4)


@pytest.mark.usefixtures("any_database")
def test_many_skipped_times_are_one_record() -> None:
    schedule_id = stored()

    fire(seen(schedule_id), Run(DUE, RunOutcome.SKIPPED_MISFIRE, "nobody was awake", due_until=NOW, due_count=None))

    (run,) = runs(schedule_id)
    assert (run.due_at, run.due_until, run.due_count) == (DUE, NOW, None)


@pytest.mark.usefixtures("any_database")
def test_a_time_that_was_dealt_with_is_passed_over_although_the_schedule_was_set_back_to_it() -> None:
    schedule_id = stored()
    assert fire(seen(schedule_id))
    first = now_stored(schedule_id).last_task_id
    with database.writing() as session:
        session.get_one(Schedule, schedule_id).next_run_at = DUE

    assert not fire(seen(schedule_id))

    after = now_stored(schedule_id)
    assert (after.next_run_at, after.last_task_id, after.run_count) == (NEXT, first, 1)
    assert len(tasks_of(schedule_id)) == 1


@pytest.mark.usefixtures("any_database")
@pytest.mark.parametrize("change", [{"next_run_at": NEXT}, {"last_task_id": "run by hand"}, {"enabled": False}])
def test_a_scheduler_that_looked_before_a_change_claims_nothing(change: dict[str, object]) -> None:
    schedule_id = stored()
    seen_before = seen(schedule_id)
    with database.writing() as session:
        for name, value in change.items():
            setattr(session.get_one(Schedule, schedule_id), name, value)

    assert not fire(seen_before)

    assert now_stored(schedule_id).next_run_at == change.get("next_run_at", DUE)
    assert tasks_of(schedule_id) == []


@pytest.mark.usefixtures("any_database")
@pytest.mark.parametrize("change", [{"enabled": False}, {"removed_at": NOW}, {"next_run_at": None}])
def test_a_schedule_that_is_disabled_or_removed_or_has_ended_is_not_due(change: dict[str, object]) -> None:
    schedule_id = stored(**change)

    with direct.reading() as to:
        assert schedule_id not in [one.schedule_id for one in schedule_claim.due(to, NOW)]


@pytest.mark.usefixtures("any_database")
@pytest.mark.parametrize("status", list(TaskStatus))
def test_whether_the_run_before_is_unfinished_comes_with_what_is_due(status: TaskStatus) -> None:
    before = new_row()
    with database.writing() as session:
        task_moves.accept(direct.Within(session), [before])
        session.get_one(Task, before.task_id).status = status

    due = seen(stored(last_task_id=before.task_id))

    assert due.last_is_unfinished is (status in ("pending", "running"))


def test_what_is_due_comes_longest_due_first_and_the_next_time_is_known(empty_tables: str) -> None:
    with direct.reading() as to:
        assert schedule_claim.next_due_at(to, after=DUE) is None
    later, sooner = stored(next_run_at=NOW), stored(next_run_at=DUE)
    stored(next_run_at=NEXT)
    stored(next_run_at=None)

    with direct.reading() as to:
        assert [one.schedule_id for one in schedule_claim.due(to, NOW)] == [sooner, later]
        assert schedule_claim.next_due_at(to, after=DUE) == NOW
        assert schedule_claim.next_due_at(to, after=NOW) == NEXT
