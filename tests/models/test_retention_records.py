"""What is no task goes when it has had its time, in batches; what is not over, or still spoken of, stays."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from models import database, direct, retention_records
from models.audit import AuditEntry
from models.schedule import Schedule
from models.task import TaskLog, TaskStatus
from models.user_session import UserSession
from tests.factories.people import hire
from tests.factories.storing import NOW, store
from tests.factories.upkeep import audit, log_in, past_task, schedule_once
from tests.workers.actors.running import all_rows

DAY = timedelta(days=1)

pytestmark = pytest.mark.usefixtures("ledger_database")


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a handful of rows takes several pages and transactions."""
    monkeypatch.setattr(retention_records, "PAGE_ROWS", 3)
    monkeypatch.setattr(retention_records, "BATCH_ROWS", 2)


def change(schedule_id: str, **columns: object) -> None:
    """Change a schedule's row."""
    with database.writing() as session:
        row = session.get_one(Schedule, schedule_id)
        for name, value in columns.items():
            setattr(row, name, value)


def schedules() -> list[str]:
    return sorted(row.schedule_id for row in all_rows(Schedule))


def test_a_one_off_schedule_goes_a_day_after_its_time() -> None:
    schedule_once("yesterday", NOW - 2 * DAY)
    schedule_once("just-now", NOW - timedelta(hours=1))
    schedule_once("to-come", NOW + DAY)

    assert sum(retention_records.one_off_schedules(NOW)) == 1
    assert schedules() == ["just-now", "to-come"]


@pytest.mark.parametrize("changes", [
    {"next_run_at": NOW - 2 * DAY},  # nobody was awake: its run is to come
    {"trigger": {"kind": "crontab", "expression": "0 0 1 1 *"}},
    {"origin": "declared"},
    {"trigger": {"kind": "date", "run_date": "soon"}},
], ids=["still due", "recurring", "declared", "not understood"])  # fmt: skip
def test_a_schedule_that_may_run_again_or_is_the_timetables_stays(changes: dict[str, object]) -> None:
    schedule_once("kept", NOW - 2 * DAY)
    change("kept", **changes)

    assert sum(retention_records.one_off_schedules(NOW)) == 0
    assert schedules() == ["kept"]


@pytest.mark.parametrize(("status", "went"), [(TaskStatus.RUNNING, 0), (TaskStatus.FAILED, 1)])
def test_a_one_off_schedule_waits_for_the_end_of_its_run(status: TaskStatus, went: int) -> None:
    schedule_once("once", NOW - 2 * DAY, last_task_id=past_task(2 * DAY, status=status))

    assert sum(retention_records.one_off_schedules(NOW)) == went


def test_a_paused_one_off_goes_too_and_one_that_was_edited_meanwhile_stays() -> None:
    schedule_once("paused", NOW - 2 * DAY, enabled=False, next_run_at=NOW - 2 * DAY)
    schedule_once("edited", NOW - 2 * DAY)
    going = retention_records.one_off_schedules(NOW)

    went = [next(going)]
    change("edited" if schedules() == ["edited"] else "paused", updated_at=NOW)
    went += going

    assert sum(went) == 1
    assert len(schedules()) == 1


@pytest.mark.usefixtures("small_batches")
def test_change_records_of_what_is_gone_go_and_the_others_stay() -> None:
    task_id = past_task(40 * DAY)
    schedule_once("known", NOW + DAY)
    old = NOW - 31 * DAY
    for number in range(7):
        audit("tasks.cancel", f"gone-{number}", at=old)
    audit("schedules.delete", "gone", at=old)
    kept = [
        audit("tasks.retry", task_id, at=old),
        audit("schedules.pause", "known", at=old),
        audit("tasks.cancel", "gone", at=old, outcome="refused"),
        audit("tasks.cancel", "gone", at=NOW),
        audit("tasks.delete", "gone-1 gone-2", at=old),
        audit("tasks.enqueue", "email.send_alert", at=old),
        audit("queues.purge_queue", "email", at=old),
        audit("schedules.add", "", at=old),
    ]

    assert sum(retention_records.orphaned_changes(NOW - 30 * DAY)) == 8

    assert {entry.id for entry in all_rows(AuditEntry)} == {entry.id for entry in kept}


@pytest.mark.usefixtures("small_batches")
def test_log_lines_go_once_their_task_has_ended() -> None:
    ended, running = past_task(DAY), past_task(60 * DAY, status=TaskStatus.RUNNING)
    for task_id in [running, *[ended] * 4, "gone"]:
        store(
            TaskLog, {"task_id": task_id, "attempt": 1, "logged_at": NOW - 31 * DAY, "level": "i", "message": "m"}, {}
        )
    store(TaskLog, {"task_id": ended, "attempt": 1, "logged_at": NOW - DAY, "level": "i", "message": "m"}, {})

    assert sum(retention_records.log_lines(NOW - 30 * DAY)) == 5
    assert [(line.task_id, (NOW - line.logged_at).days) for line in all_rows(TaskLog)] == [(running, 31), (ended, 1)]


def test_a_line_of_a_task_that_was_reopened_since_the_page_was_read_stays() -> None:
    task_id = past_task(40 * DAY, status=TaskStatus.RUNNING)
    line = store(TaskLog, {"task_id": task_id, "attempt": 1, "logged_at": NOW, "level": "i", "message": "m"}, {})

    with direct.transaction() as to:
        assert retention_records._forget_lines(to, [line.id or 0]) == 0


@pytest.mark.usefixtures("small_batches")
def test_expired_sessions_go_batch_by_batch_and_who_asks_may_stop_between() -> None:
    person_id = hire()
    for number in range(5):
        log_in(f"s{number}", person_id=person_id)
    log_in("lives", person_id=person_id, expires_at=NOW + DAY)

    going: Iterator[int] = retention_records.user_sessions(NOW)
    assert next(going) == 2
    assert len(all_rows(UserSession)) == 4
    assert sum(going) == 3
    assert len(all_rows(UserSession)) == 1
