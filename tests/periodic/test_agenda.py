"""The agenda: what is due is sent once, whoever wakes and whatever dies; time is an argument here."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import redis
from sqlmodel import select

from models import database, schedule_claim
from models.direct import Direct
from models.schedule import Schedule, ScheduleRun
from models.schedule_claim import Record
from models.task import Task, TaskStatus
from periodic.agenda import Agenda
from periodic.declaration import Declaration, crontab
from tests.servers import OwnRedis, wait_until
from workers import callboard, tasks
from workers.ledger import outbox
from workers.ledger.relay import relay

NOON = datetime(2026, 11, 22, 12, 0, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
OF_ANY_TIME_S = -10.0 * 366 * 24 * 3600
"""A grace with which the relay also takes what was claimed in a future that is only a test's."""
CHECK = Declaration("health", "health.check_system", crontab("* * * * *"), max_retries=1, time_limit_s=30)
HOURLY = Declaration("hourly", "diagnostics.run_self_test", crontab("0 * * * *"), {"steps": 1, "seconds": 0})


def runs() -> list[ScheduleRun]:
    with database.reading() as session:
        return list(session.exec(select(ScheduleRun).order_by(ScheduleRun.due_at)).all())  # type: ignore[arg-type]  # a column, not a datetime


def sent() -> list[Task]:
    with database.reading() as session:
        return list(session.exec(select(Task).order_by(Task.task_id)).all())


def row(schedule_id: str) -> Schedule:
    with database.reading() as session:
        return session.get_one(Schedule, schedule_id)


def change(schedule_id: str, **columns: object) -> None:
    """Change a row behind everybody's back."""
    with database.writing() as session:
        for name, value in columns.items():
            setattr(session.get_one(Schedule, schedule_id), name, value)


def finish(task: Task) -> None:
    with database.writing() as session:
        session.get_one(Task, task.task_id).status = TaskStatus.COMPLETED


@pytest.fixture
def make_agenda(bus: redis.Redis, ledger_database: str) -> Callable[..., Agenda]:
    """A scheduler process's agenda over the declarations given."""
    return lambda *declarations: Agenda(callboard, declarations or [CHECK])


def test_a_due_time_sends_one_task_with_the_schedules_policy(make_agenda: Callable[..., Agenda]) -> None:
    agenda = make_agenda()

    assert agenda.wake(NOON) == 0
    assert agenda.wake(NOON + MINUTE) == 1

    (task,) = sent()
    assert (task.task_name, task.schedule_id, task.max_retries) == ("health.check_system", "health", 1)
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


def test_the_next_wake_up_is_the_due_time_and_never_far_nor_past(make_agenda: Callable[..., Agenda]) -> None:
    agenda = make_agenda()
    agenda.wake(NOON)
    due_at = NOON + timedelta(seconds=30)

    assert agenda.next_wake(NOON) == NOON + timedelta(seconds=0.9)
    assert agenda.next_wake(due_at - timedelta(seconds=0.5)) == due_at
    assert agenda.next_wake(due_at + MINUTE) > due_at + MINUTE


def test_times_missed_while_nobody_was_awake_run_once_late(make_agenda: Callable[..., Agenda]) -> None:
    agenda = make_agenda(HOURLY)
    agenda.wake(NOON)

    agenda.wake(NOON + timedelta(hours=5))

    missed, run = runs()
    assert (missed.outcome, missed.due_at.hour, missed.due_count) == ("skipped_misfire", 13, 4)
    assert (run.outcome, run.due_at.hour, run.lateness_ms) == ("sent", 17, 30_000)
    assert row("hourly").next_run_at == datetime(2026, 11, 22, 18, tzinfo=UTC)


def test_run_all_makes_up_for_each_missed_time_one_after_another(make_agenda: Callable[..., Agenda]) -> None:
    agenda = make_agenda(replace(HOURLY, misfire="run_all"))
    agenda.wake(NOON)

    for _ in range(3):
        agenda.wake(NOON + timedelta(hours=3, minutes=5))
        finish(sent()[-1])
        finish(sent()[0])
    agenda.wake(NOON + timedelta(hours=3, minutes=5))

    assert [(run.outcome, run.due_at.hour) for run in runs()] == [("sent", 13), ("sent", 14), ("sent", 15)]


def test_run_all_with_overlap_makes_up_for_all_at_once(make_agenda: Callable[..., Agenda]) -> None:
    agenda = make_agenda(replace(HOURLY, misfire="run_all", overlap="allow"))
    agenda.wake(NOON)

    assert agenda.wake(NOON + timedelta(hours=8)) == 8
    assert all(task.enqueued_at for task in sent())


def test_cancel_running_asks_the_run_before_to_end_in_the_same_transaction(make_agenda: Callable[..., Agenda]) -> None:
    agenda = make_agenda(replace(HOURLY, overlap="cancel_running"))
    agenda.wake(NOON)
    agenda.wake(NOON + timedelta(hours=1))

    agenda.wake(NOON + timedelta(hours=2))

    first, second = sent()
    assert first.cancel_requested_at is not None
    assert first.reason == "by schedule hourly: its next run is due"
    assert second.cancel_requested_at is None
    assert runs()[1].reason == f"cancelled the run before, {first.task_id}"


def test_jitter_is_a_delay_of_the_task_and_not_of_the_claim(make_agenda: Callable[..., Agenda]) -> None:
    agenda = make_agenda(replace(HOURLY, jitter_s=600))
    agenda.wake(NOON)

    agenda.wake(datetime(2026, 11, 22, 13, tzinfo=UTC))

    (task,) = sent()
    assert task.eta is not None
    assert timedelta(0) < task.eta - datetime(2026, 11, 22, 13, tzinfo=UTC) <= timedelta(seconds=600)


def test_a_claim_whose_process_died_before_publishing_is_published_by_the_relay(
    make_agenda: Callable[..., Agenda], monkeypatch: pytest.MonkeyPatch
) -> None:
    agenda = make_agenda()
    agenda.wake(NOON)

    def die(*_arguments: object) -> None:
        raise SystemExit

    with monkeypatch.context() as dying:
        dying.setattr(outbox, "publish", die)  # why: a crash at that line
        with pytest.raises(SystemExit):
            agenda.wake(NOON + MINUTE)
    assert [task.enqueued_at for task in sent()] == [None]

    assert relay(callboard.broker, only=[sent()[0].task_id], grace_s=OF_ANY_TIME_S) == 1

    assert callboard.broker.depth("health").live == 1
    assert make_agenda().wake(NOON + MINUTE) == 0


def test_a_process_that_dies_before_the_commit_has_done_nothing(
    make_agenda: Callable[..., Agenda], monkeypatch: pytest.MonkeyPatch
) -> None:
    agenda = make_agenda()
    agenda.wake(NOON)

    def die(*_arguments: object) -> None:
        raise SystemExit

    with monkeypatch.context() as dying:
        dying.setattr(schedule_claim, "note_sent", die)  # why: the last statement before the commit
        with pytest.raises(SystemExit):
            agenda.wake(NOON + MINUTE)
    assert (runs(), sent()) == ([], [])

    assert make_agenda().wake(NOON + MINUTE) == 1


def test_a_schedule_that_this_code_cannot_send_waits_and_holds_up_no_other(
    make_agenda: Callable[..., Agenda],
) -> None:
    agenda = make_agenda(HOURLY, replace(HOURLY, schedule_id="unknown"), replace(HOURLY, schedule_id="broken"))
    agenda.wake(NOON)
    change("unknown", actor="of.newer_code")
    change("broken", trigger={"kind": "crontab", "expression": "what?"})

    assert agenda.wake(datetime(2026, 11, 22, 13, 0, 1, tzinfo=UTC)) == 1
    assert (row("unknown").error, row("broken").error) == (None, None)
    agenda.wake(NOON + timedelta(hours=1))

    assert "there is no actor 'of.newer_code'" in (row("unknown").error or "")
    assert "expression" in (row("broken").error or "")
    assert agenda.next_wake(NOON + timedelta(hours=1)) == NOON + timedelta(hours=1, seconds=0.9)
    change("unknown", actor="health.check_system", params={})
    assert agenda.wake(NOON + timedelta(hours=1, seconds=1)) == 1
    assert row("unknown").error is None


def test_one_that_the_database_refuses_does_not_hold_up_its_batch(
    make_agenda: Callable[..., Agenda], monkeypatch: pytest.MonkeyPatch
) -> None:
    agenda = make_agenda(*[replace(HOURLY, schedule_id=f"s{number}") for number in range(5)])
    agenda.wake(NOON)
    record = schedule_claim.record

    def refuse_one(to: Direct, records: list[Record], *, now: datetime) -> list[Record]:
        if any(one.schedule_id == "s2" for one in records):
            raise ValueError("refused")
        return record(to, records, now=now)

    monkeypatch.setattr(schedule_claim, "record", refuse_one)

    assert agenda.wake(NOON + timedelta(hours=1)) == 4
    assert row("s2").error == "ValueError: refused"


def test_a_thousand_due_at_once_are_claimed_in_one_wake_up(make_agenda: Callable[..., Agenda]) -> None:
    agenda = make_agenda(*[replace(HOURLY, schedule_id=f"s{number}") for number in range(1_000)])
    agenda.wake(NOON)

    assert agenda.wake(NOON + timedelta(hours=1)) == 1_000
    assert len(runs()) == 1_000
    assert all(task.enqueued_at for task in sent())


def test_the_clock_may_jump_forth_and_back(make_agenda: Callable[..., Agenda]) -> None:
    agenda = make_agenda(HOURLY)
    agenda.wake(NOON)
    agenda.wake(NOON + timedelta(hours=6))
    finish(sent()[0])

    for hour in range(1, 6):
        assert agenda.wake(NOON + timedelta(hours=hour)) == 0
    assert agenda.wake(NOON + timedelta(hours=7)) == 1

    assert [(run.outcome, run.due_at.hour) for run in runs()] == [("skipped_misfire", 13), ("sent", 18), ("sent", 19)]


def test_with_redis_away_claims_go_on_and_with_the_database_away_nothing_ends(
    own_redis: OwnRedis, sqlite_database: str
) -> None:
    agenda = Agenda(callboard, [CHECK])
    agenda.wake(NOON)
    own_redis.kill()

    assert agenda.wake(NOON + MINUTE) == 1
    assert [task.enqueued_at for task in sent()] == [None]
    database.bind("sqlite:////nowhere/at/all.db")
    assert agenda.wake(NOON + 2 * MINUTE) == 0
    assert agenda.next_wake(NOON + 2 * MINUTE) > NOON + 2 * MINUTE
    database.bind(sqlite_database)
    own_redis.start()

    wait_until(lambda: callboard.broker.is_bus_up, within_s=10, what="the bus to be tried again")
    assert relay(callboard.broker, only=[sent()[0].task_id], grace_s=OF_ANY_TIME_S) == 1
    finish(sent()[0])
    assert agenda.wake(NOON + 3 * MINUTE) == 1
    assert tasks.get_task_count() == 2
