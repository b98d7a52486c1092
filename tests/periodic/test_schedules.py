"""What people do with schedules, and how soon the scheduler follows."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from models import database
from models.schedule import Schedule
from models.task import Task, TaskStatus
from periodic import schedules
from periodic.agenda import Agenda
from periodic.declaration import Declaration, crontab
from tests.models.rows import at_once
from workers import callboard, tasks
from workers.errors import InvalidSchedule, ScheduleRefused, UnknownSchedule

NOON = datetime(2026, 11, 22, 12, 0, 30, tzinfo=UTC)
SELF_TEST = {"steps": 1, "seconds": 0}
DECLARED = Declaration("declared", "diagnostics.run_self_test", crontab("0 * * * *"), SELF_TEST)


@pytest.fixture(autouse=True)
def _on_each_database(bus: redis.Redis, ledger_database: str) -> None:
    """Each test runs on SQLite and on PostgreSQL."""


@pytest.fixture
def agenda() -> Agenda:
    """A scheduler's, with one declaration, synchronised."""
    made = Agenda(callboard, [DECLARED])
    made.wake(NOON)
    return made


def added(**fields: Any) -> dict[str, Any]:
    """A schedule of a person's, due every minute."""
    return schedules.add(
        "diagnostics.run_self_test", "interval", "mine", **{"params": SELF_TEST, "minutes": 1} | fields
    )


def set_due(schedule_id: str, at: datetime) -> None:
    with database.writing() as session:
        session.get_one(Schedule, schedule_id).next_run_at = at


def test_an_added_schedule_is_shown_with_words_and_next_time() -> None:
    shown = schedules.add(
        "health_check", "cron", "morning", hour=9, minute="10,50", time_zone="Europe/Berlin", overlap="allow"
    )

    assert (shown["id"], shown["name"], shown["actor"]) == ("morning", "morning", "health.check_system")
    assert (shown["origin"], shown["overlap"], shown["last_status"]) == ("user", "allow", None)
    assert "09:10" in shown["words"]
    assert "Europe/Berlin" in shown["words"]
    assert shown["next_run_at"] > datetime.now(UTC)
    assert schedules.list() == [shown] == [schedules.get("morning")]


def test_an_added_schedule_is_sent_by_a_scheduler_that_was_up_before(agenda: Agenda) -> None:
    added()
    set_due("mine", NOON)

    assert agenda.wake(NOON) == 1

    shown = schedules.get("mine")
    assert (shown["last_status"], shown["run_count"], shown["last_run_at"]) == ("pending", 1, NOON)
    (run,) = schedules.runs("mine")
    assert (run["outcome"], run["task_status"], run["task_id"]) == ("sent", "pending", shown["last_task_id"])


def test_an_id_can_be_taken_once_also_by_two_at_once() -> None:
    def add() -> str:
        try:
            added()
        except InvalidSchedule as error:
            return str(error)
        return "added"

    said = at_once(*[add] * 4)

    assert min(said) == "added"
    assert said.count("added") == 1
    with pytest.raises(InvalidSchedule, match="there is a schedule 'mine' already: edit it, or choose another id"):
        added()


def test_there_is_a_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callboard.settings, "schedules_max", 1)
    added()

    with pytest.raises(InvalidSchedule, match="there are 1 schedules, which is the most"):
        schedules.add("health_check", "cron", "other", hour=1)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"minutes": 0}, "interval"),
        ({"overlap": "maybe"}, "overlap"),
        ({"hour": 3}, "hour"),
        ({"max_retries": -1}, "max_retries"),
    ],
)
def test_what_cannot_be_is_not_added(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidSchedule) as refused:
        added(**fields)

    assert refused.value.field == field
    assert schedules.list() == []


def test_what_would_never_be_due_is_neither_added_nor_edited_so() -> None:
    with pytest.raises(
        InvalidSchedule, match=r"trigger: once, at 2024-12-25 00:00 \(UTC\) will never be due from now on"
    ):
        schedules.add("health_check", "date", "past", run_date="2024-12-25 00:00:00")
    added()
    with pytest.raises(InvalidSchedule, match="will never be due"):
        schedules.edit("mine", end_at="2020-01-01 00:00:00")

    assert [one["end_at"] for one in schedules.list()] == [None]


def test_a_bound_without_an_offset_is_meant_in_the_zone() -> None:
    shown = added(start_at="2036-07-01 09:00:00", time_zone="Europe/Berlin")

    assert shown["next_run_at"] == shown["start_at"] == datetime(2036, 7, 1, 7, tzinfo=UTC)


def test_an_edit_moves_the_next_time_and_a_bad_one_changes_nothing() -> None:
    added()

    shown = schedules.edit("mine", trigger={"kind": "cron", "hour": 9}, time_zone="America/New_York", name="nine")
    with pytest.raises(InvalidSchedule, match="time_zone"):
        schedules.edit("mine", time_zone="Nowhere", name="changed")
    with pytest.raises(InvalidSchedule, match=r"retries: a schedule has no such field: did you mean max_retries\?"):
        schedules.edit("mine", retries=1)

    assert schedules.get("mine") == shown
    assert shown["name"] == "nine"
    assert shown["next_run_at"].astimezone(shown["next_run_at"].tzinfo).minute == 0


def test_paused_nothing_is_sent_and_what_passed_was_not_missed(agenda: Agenda) -> None:
    schedules.pause("declared")
    assert agenda.wake(NOON + timedelta(hours=5)) == 0

    shown = schedules.resume("declared")

    assert (shown["enabled"], shown["overridden"]) == (True, [])
    assert shown["next_run_at"] > datetime.now(UTC)
    assert schedules.resume("declared")["next_run_at"] == shown["next_run_at"]
    assert schedules.runs("declared") == []


def test_a_persons_schedule_is_deleted_and_a_declared_one_is_not(agenda: Agenda) -> None:
    added()
    schedules.run("mine")

    schedules.delete("mine")
    with pytest.raises(ScheduleRefused, match=r"is declared in periodic/timetable\.py: pause it, or remove its line"):
        schedules.delete("declared")

    assert [one["id"] for one in schedules.list()] == ["declared"]
    assert [run["outcome"] for run in schedules.runs("mine")] == ["sent"]


def test_run_now_sends_a_task_and_leaves_the_next_time(agenda: Agenda) -> None:
    before = schedules.pause("declared")

    task_id = schedules.run("declared", by="ada")

    task = tasks.get_task(task_id)
    assert task is not None
    assert (task.schedule_id, task.params["kwargs"], task.enqueued_at is not None) == ("declared", SELF_TEST, True)
    after = schedules.get("declared")
    assert (after["next_run_at"], after["last_task_id"]) == (before["next_run_at"], task_id)
    assert schedules.runs("declared")[0]["reason"] == "run now, by ada"


@pytest.mark.parametrize(("overlap", "allowed"), [("skip", False), ("allow", True), ("cancel_running", True)])
def test_run_now_minds_the_overlap_policy_unless_it_is_forced(overlap: str, *, allowed: bool) -> None:
    added(overlap=overlap)
    first = schedules.run("mine")

    if allowed:
        schedules.run("mine")
    else:
        with pytest.raises(ScheduleRefused, match=f"the run before, {first}, is unfinished: cancel it"):
            schedules.run("mine")
        schedules.run("mine", force=True)

    assert tasks.get_task_count() == 2
    first_row = tasks.get_task(first)
    assert first_row is not None
    assert (first_row.cancel_requested_at is not None) is (overlap == "cancel_running")


def test_run_now_and_a_due_time_at_once_do_not_overlap(agenda: Agenda) -> None:
    for round_number in range(5):
        set_due("declared", NOON + timedelta(seconds=round_number))

        def run_now() -> None:
            try:
                schedules.run("declared")
            except ScheduleRefused:
                return

        at_once(run_now, lambda now=NOON + timedelta(seconds=round_number): agenda.wake(now))  # type: ignore[misc]  # mypy cannot infer lambdas with defaults
        agenda.wake(NOON + timedelta(seconds=round_number))

        assert tasks.get_task_count("pending") == 1
        with database.writing() as session:
            session.get_one(Task, schedules.get("declared")["last_task_id"]).status = TaskStatus.COMPLETED


def test_the_history_is_paged_newest_first(agenda: Agenda) -> None:
    for hour in range(1, 5):
        agenda.wake(NOON + timedelta(hours=hour))

    newest = schedules.runs("declared", limit=2)
    older = schedules.runs("declared", limit=2, before=newest[-1]["due_at"])

    assert [run["due_at"].hour for run in newest + older] == [16, 15, 14, 13]
    assert older[-1]["outcome"] == "sent"
    assert {run["outcome"] for run in newest} == {"skipped_overlap"}


def test_an_unknown_id_names_the_nearest(agenda: Agenda) -> None:
    for ask in (schedules.get, schedules.pause, schedules.resume, schedules.run, schedules.delete, schedules.runs):
        with pytest.raises(UnknownSchedule, match=r"there is no schedule 'declard': did you mean declared\?"):
            ask("declard")


def test_a_preview_says_when_and_in_words() -> None:
    found = schedules.preview({"kind": "crontab", "expression": "10,50 9 * * *"}, after=NOON, count=3)

    assert [time.isoformat() for time in found["next"]] == [
        "2026-11-23T09:10:00+00:00", "2026-11-23T09:50:00+00:00", "2026-11-24T09:10:00+00:00",
    ]  # fmt: skip
    assert "09:10" in found["words"]
    assert schedules.preview("crontab", expression="10,50 9 * * *", after=NOON, count=3) == found
    with pytest.raises(InvalidSchedule, match="count: expected 1–1000, got 1001"):
        schedules.preview({"kind": "interval", "minutes": 1}, count=1_001)


def test_a_date_runs_once_and_is_over(agenda: Agenda) -> None:
    schedules.add("health_check", "date", "once", run_date="2036-12-25 00:00:00")
    christmas = datetime(2036, 12, 25, tzinfo=UTC)
    assert schedules.get("once")["next_run_at"] == christmas
    schedules.pause("declared")

    assert agenda.wake(christmas) == 1
    assert agenda.wake(christmas + timedelta(days=1)) == 0

    assert schedules.get("once")["next_run_at"] is None


def test_an_override_of_a_declared_schedule_is_named(agenda: Agenda) -> None:
    shown = schedules.edit("declared", priority=9)

    assert (shown["overridden"], shown["declared"]["priority"]) == (["priority"], None)
    assert schedules.reset("declared")["overridden"] == []
    added()
    with pytest.raises(ScheduleRefused, match="is not declared in the timetable"):
        schedules.reset("mine")
