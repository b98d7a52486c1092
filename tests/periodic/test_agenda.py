"""The agenda: what is due is sent once, whoever wakes and whatever dies; time is an argument here."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import redis
from sqlmodel import select

from models import database
from models.schedule import Schedule, ScheduleRun
from models.task import Task, TaskStatus
from models.triggers import Crontab, Interval
from periodic.agenda import Agenda
from periodic.timetable import TIMETABLE, Declaration
from tests.servers import OwnRedis, wait_until
from workers import callboard, tasks

NOON = datetime(2026, 11, 22, 12, 0, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOURLY = Declaration("hourly", "diagnostics.run_self_test", Crontab("0 * * * *"), {"steps": 1, "seconds": 0})


def runs() -> list[ScheduleRun]:
    with database.reading() as session:
        return list(session.exec(select(ScheduleRun).order_by(ScheduleRun.due_at)).all())  # type: ignore[arg-type]  # a column, not a datetime


def sent() -> list[Task]:
    with database.reading() as session:
        return list(session.exec(select(Task).order_by(Task.task_id)).all())


def finish(task: Task) -> None:
    with database.writing() as session:
        session.get_one(Task, task.task_id).status = TaskStatus.COMPLETED


@pytest.fixture
def make_agenda(bus: redis.Redis, ledger_database: str) -> Callable[..., Agenda]:
    """A scheduler process's agenda over the declarations given."""
    return lambda *declarations: Agenda(callboard, declarations or TIMETABLE)


def test_a_due_time_sends_one_task_with_the_schedules_policy(make_agenda: Callable[..., Agenda]) -> None:
    agenda = make_agenda()

    assert agenda.wake(NOON) == 0
    assert agenda.wake(NOON + MINUTE) == 1

    (task,) = sent()
    assert (task.task_name, task.schedule_id, task.max_retries) == ("health.check_system", "system-health-check", 1)
    assert task.options["time_limit"] == 30_000
    assert task.enqueued_at is not None
    assert callboard.broker.depth("health").live == 1
    (run,) = runs()
    assert (run.due_at, run.outcome, run.task_id) == (NOON + timedelta(seconds=30), "sent", task.task_id)
    assert run.lateness_ms == 30_000


def test_waking_again_in_the_same_minute_sends_nothing(make_agenda: Callable[..., Agenda]) -> None:
    agenda = make_agenda()
    agenda.wake(NOON)
    agenda.wake(NOON + MINUTE)

    for second in range(29):
        assert agenda.wake(NOON + MINUTE + timedelta(seconds=second)) == 0
    assert make_agenda().wake(NOON + MINUTE) == 0

    assert len(sent()) == 1


def test_many_processes_that_wake_together_send_one_task(make_agenda: Callable[..., Agenda]) -> None:
    agendas = [make_agenda() for _ in range(6)]
    agendas[0].wake(NOON)
    start = threading.Barrier(6)

    def race(agenda: Agenda) -> None:
        start.wait()
        agenda.wake(NOON + MINUTE)

    racers = [threading.Thread(target=race, args=(agenda,)) for agenda in agendas]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()

    assert len(sent()) == 1
    assert len(runs()) == 1


def test_a_run_is_skipped_and_recorded_while_the_previous_one_is_unfinished(make_agenda: Callable[..., Agenda]) -> None:
    agenda = make_agenda()
    agenda.wake(NOON)
    agenda.wake(NOON + MINUTE)

    agenda.wake(NOON + 2 * MINUTE)
    finish(sent()[0])
    agenda.wake(NOON + 3 * MINUTE)

    assert [run.outcome for run in runs()] == ["sent", "skipped_overlap", "sent"]
    assert "is unfinished" in (runs()[1].reason or "")
    assert len(sent()) == 2


def test_times_missed_while_nobody_was_awake_run_once_late(make_agenda: Callable[..., Agenda]) -> None:
    agenda = make_agenda(HOURLY)
    agenda.wake(NOON)

    agenda.wake(NOON + timedelta(hours=5))

    (run,) = runs()
    assert run.due_at == datetime(2026, 11, 22, 13, tzinfo=UTC)
    with database.reading() as session:
        assert session.get_one(Schedule, "hourly").next_run_at == datetime(2026, 11, 22, 18, tzinfo=UTC)


def test_a_claim_whose_process_died_before_publishing_is_published_by_the_next(
    make_agenda: Callable[..., Agenda],
) -> None:
    agenda = make_agenda()
    agenda.wake(NOON)
    with database.reading() as session:
        due = session.get_one(Schedule, "system-health-check")
    agenda._claim(due, NOON + MINUTE)
    assert callboard.broker.depth("health").live == 0

    assert make_agenda().wake(NOON + MINUTE + timedelta(seconds=1)) == 1

    assert callboard.broker.depth("health").live == 1
    assert [task.enqueued_at is not None for task in sent()] == [True]


def test_a_changed_declaration_takes_effect_and_one_that_is_bad_stops_no_other(
    make_agenda: Callable[..., Agenda],
) -> None:
    make_agenda(HOURLY).wake(NOON)
    often = Declaration("hourly", "diagnostics.run_self_test", Interval(60), {"steps": 1, "seconds": 0})
    bad = Declaration("bad", "diagnostics.run_self_tset", Interval(60))

    agenda = make_agenda(often, bad)
    agenda.wake(NOON)

    assert agenda.wake(NOON + MINUTE) == 1
    with database.reading() as session:
        stored = session.get_one(Schedule, "bad")
    assert stored.enabled is False
    assert "did you mean diagnostics.run_self_test" in (stored.error or "")


def test_check_names_bad_and_double_declarations(make_agenda: Callable[..., Agenda]) -> None:
    twin = Declaration("twin", "diagnostics.run_self_test", Interval(60), {"steps": 1, "seconds": 0})
    misfit = Declaration("misfit", "diagnostics.run_self_test", Interval(60), {"steps": 0})

    assert make_agenda().problems() == []
    found = make_agenda(HOURLY, twin, misfit).problems()

    assert len(found) == 2
    assert "twin: diagnostics.run_self_test with the same parameters is scheduled by hourly already" in found[0]
    assert "misfit: params.steps: Input should be greater than or equal to 1" in found[1]


def test_the_next_wake_up_is_the_due_time_and_never_far_nor_past(make_agenda: Callable[..., Agenda]) -> None:
    agenda = make_agenda()
    agenda.wake(NOON)
    due_at = NOON + timedelta(seconds=30)

    assert agenda.next_wake(NOON) == NOON + timedelta(seconds=0.9)
    assert agenda.next_wake(due_at - timedelta(seconds=0.5)) == due_at
    assert agenda.next_wake(due_at + MINUTE) > due_at + MINUTE


def test_errors_of_redis_and_of_the_database_end_nothing(own_redis: OwnRedis, sqlite_database: str) -> None:
    agenda = Agenda(callboard, TIMETABLE)
    agenda.wake(NOON)
    own_redis.kill()

    assert agenda.wake(NOON + MINUTE) == 0
    assert agenda.next_wake(NOON + MINUTE) > NOON + MINUTE
    database.bind("sqlite:////nowhere/at/all.db")
    assert agenda.wake(NOON + MINUTE) == 0
    assert agenda.next_wake(NOON + MINUTE) > NOON + MINUTE
    database.bind(sqlite_database)
    own_redis.start()

    wait_until(lambda: callboard.broker.is_bus_up, within_s=10, what="the bus to be tried again")

    assert agenda.wake(NOON + MINUTE + timedelta(seconds=5)) == 1
    assert [task.status for task in sent()] == ["pending"]
    assert tasks.get_task_count() == 1
