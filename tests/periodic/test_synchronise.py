"""Declarations become rows; what a person changed stays; older code takes nothing away."""

import threading
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from models import database
from models.schedule import Schedule
from models.timetable import IN_FORCE_S
from periodic import schedules, synchronise
from periodic.declaration import Declaration, crontab, interval
from periodic.synchronise import ASSERT_EVERY_S, Synchroniser
from tests.models.rows import at_once
from workers import callboard
from workers.errors import ScheduleRefused

NOON = datetime(2026, 11, 22, 12, 0, 30, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HOURLY = Declaration("hourly", "diagnostics.run_self_test", crontab("0 * * * *"), {"steps": 1, "seconds": 0})
NIGHTLY = Declaration("nightly", "health.check_system", crontab("0 2 * * *"))

pytestmark = pytest.mark.usefixtures("system")


@pytest.fixture(autouse=True)
def _on_each_database(ledger_database: str) -> None:
    """Each test runs on SQLite and on PostgreSQL."""


def of(*timetable: Declaration) -> Synchroniser:
    """A process with this timetable."""
    return Synchroniser(callboard.registry, timetable)


def row(schedule_id: str) -> Schedule:
    with database.reading() as session:
        return session.get_one(Schedule, schedule_id)


def test_a_declaration_becomes_a_row_that_is_due_next() -> None:
    of(HOURLY).run(NOON)

    stored = row("hourly")
    assert (stored.origin, stored.enabled, stored.error) == ("declared", True, None)
    assert stored.next_run_at == datetime(2026, 11, 22, 13, tzinfo=UTC)
    assert stored.declared is not None
    assert stored.declared["params"] == {"steps": 1, "seconds": 0}


def test_a_changed_line_changes_the_row_and_when_it_is_due() -> None:
    of(HOURLY).run(NOON)

    of(replace(HOURLY, trigger=interval(minutes=10), max_retries=1)).run(NOON + SECOND)

    stored = row("hourly")
    assert (stored.trigger["kind"], stored.max_retries) == ("interval", 1)
    assert stored.next_run_at == datetime(2026, 11, 22, 12, 10, tzinfo=UTC)


def test_a_line_that_changes_nothing_about_when_leaves_a_due_time_due() -> None:
    of(HOURLY).run(NOON)

    of(replace(HOURLY, max_retries=1)).run(NOON + timedelta(hours=3))

    assert row("hourly").next_run_at == datetime(2026, 11, 22, 13, tzinfo=UTC)


def test_what_a_person_changed_stays_and_is_shown_as_an_override() -> None:
    of(HOURLY).run(NOON)
    schedules.edit("hourly", max_retries=9, trigger=crontab("30 * * * *"))

    of(replace(HOURLY, max_retries=1, time_limit_s=7)).run(NOON + SECOND)

    stored = row("hourly")
    assert (stored.max_retries, stored.time_limit_s, stored.trigger["expression"]) == (9, 7, "30 * * * *")
    assert sorted(stored.overridden) == ["max_retries", "trigger"]
    assert stored.declared is not None
    assert stored.declared["max_retries"] == 1


def test_an_edit_back_to_the_line_is_no_override_and_a_reset_takes_all_back() -> None:
    of(replace(HOURLY, start_at=NOON)).run(NOON)
    schedules.edit("hourly", max_retries=9, enabled=False, start_at=None)
    assert sorted(row("hourly").overridden) == ["enabled", "max_retries", "start_at"]

    schedules.edit("hourly", max_retries=3)
    assert sorted(row("hourly").overridden) == ["enabled", "start_at"]
    schedules.reset("hourly")

    stored = row("hourly")
    assert (stored.overridden, stored.enabled, stored.start_at) == ([], True, NOON)


def test_a_line_that_was_removed_is_disabled_and_marked_and_comes_back_with_its_line() -> None:
    of(HOURLY, NIGHTLY).run(NOON)

    of(HOURLY).run(NOON + SECOND)

    stored = row("nightly")
    assert (stored.enabled, stored.removed_at) == (False, NOON + SECOND)
    with pytest.raises(ScheduleRefused, match="put its line back, or add one of your own"):
        schedules.resume("nightly")
    of(HOURLY, NIGHTLY, replace(NIGHTLY, schedule_id="third")).run(NOON + timedelta(days=3))
    stored = row("nightly")
    assert (stored.enabled, stored.removed_at) == (True, None)
    assert stored.next_run_at == datetime(2026, 11, 26, 2, tzinfo=UTC)


def test_a_removed_one_that_was_paused_comes_back_paused() -> None:
    of(HOURLY, NIGHTLY).run(NOON)
    schedules.pause("nightly")
    of(HOURLY).run(NOON + SECOND)

    of(HOURLY, NIGHTLY, replace(NIGHTLY, schedule_id="third")).run(NOON + 2 * SECOND)

    assert (row("nightly").enabled, row("nightly").removed_at) == (False, None)


def test_older_code_takes_nothing_from_newer_code_while_that_is_alive() -> None:
    older, newer = of(replace(HOURLY, max_retries=1)), of(replace(HOURLY, max_retries=2), NIGHTLY)
    older.run(NOON)
    newer.run(NOON + SECOND)

    for second in range(0, 300, 15):
        now = NOON + (second + 2) * SECOND
        newer.run(now)
        older.run(now)
        of(replace(HOURLY, max_retries=1)).run(now)  # why: a process of the older code that starts only now.

    assert (row("hourly").max_retries, row("nightly").enabled, row("nightly").removed_at) == (2, True, None)


def test_after_a_rollback_the_older_timetable_is_in_force_again() -> None:
    older, newer = of(replace(HOURLY, max_retries=1)), of(replace(HOURLY, max_retries=2), NIGHTLY)
    older.run(NOON)
    newer.run(NOON + SECOND)
    older.run(NOON + 20 * SECOND)
    assert row("hourly").max_retries == 2

    older.run(NOON + (IN_FORCE_S + 2) * SECOND)

    assert row("hourly").max_retries == 1
    assert row("nightly").removed_at is not None


def test_newer_code_that_was_away_applies_itself_again() -> None:
    older, newer = of(HOURLY), of(HOURLY, NIGHTLY)
    older.run(NOON)
    newer.run(NOON + SECOND)
    older.run(NOON + (IN_FORCE_S + 2) * SECOND)
    assert row("nightly").enabled is False

    of(HOURLY, NIGHTLY).run(NOON + (IN_FORCE_S + 3) * SECOND)

    assert row("nightly").enabled is True


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"actor": "diagnostics.run_self_tset"}, "did you mean diagnostics.run_self_test"),
        ({"trigger": crontab("99 99 * * *")}, "expression"),
        ({"params": {"steps": -1}}, "params.steps"),
        ({"params": {"steps": object()}}, "params.steps"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"priority": 99}, "priority"),
    ],
)
def test_a_bad_line_is_stored_with_its_error_and_the_others_start(bad: dict[str, Any], why: str) -> None:
    of(replace(HOURLY, **bad), NIGHTLY).run(NOON)

    stored = row("hourly")
    assert why in (stored.error or "")
    assert stored.next_run_at is None
    assert row("nightly").next_run_at == datetime(2026, 11, 23, 2, tzinfo=UTC)

    of(HOURLY, NIGHTLY).run(NOON + SECOND)
    assert (row("hourly").error, row("hourly").next_run_at) == (None, datetime(2026, 11, 22, 13, tzinfo=UTC))


def test_a_line_with_the_id_of_a_persons_schedule_leaves_it_alone(caplog: pytest.LogCaptureFixture) -> None:
    schedules.add("health.check_system", "cron", "hourly", hour=5)

    of(HOURLY, NIGHTLY).run(NOON)

    assert (row("hourly").origin, row("hourly").actor) == ("user", "health.check_system")
    assert "rename the line" in caplog.text
    assert row("nightly").origin == "declared"


def test_of_two_lines_with_one_id_the_first_counts(caplog: pytest.LogCaptureFixture) -> None:
    of(HOURLY, replace(NIGHTLY, schedule_id="hourly")).run(NOON)

    assert row("hourly").actor == "diagnostics.run_self_test"
    assert "declared twice" in caplog.text


def test_processes_that_bring_the_same_new_lines_at_once_apply_them_once_in_the_end() -> None:
    processes = [of(HOURLY, NIGHTLY) for _ in range(2)]
    processes[0]._apply = lambda now: None  # type: ignore[method-assign]  # a third has said which timetable counts, and died
    processes[0].run(NOON - SECOND)
    processes[0] = of(HOURLY, NIGHTLY)
    # Each has seen that there are no rows before any of them writes one (SQLite lets only one in at a time).
    have_looked = threading.Barrier(len(processes))
    for one in processes:

        def apply_one(*arguments: Any, original: Any = one._apply_one) -> None:
            with suppress(threading.BrokenBarrierError):
                have_looked.wait(1)
            original(*arguments)

        one._apply_one = apply_one  # type: ignore[method-assign]  # the moment of a crossing

    raised = at_once(*[lambda one=one: one.run(NOON) for one in processes])  # type: ignore[misc]  # mypy cannot infer lambdas with defaults
    for one in processes:
        one.run(NOON + SECOND)

    assert raised == [None] * 2
    assert len(schedules.list()) == 2
    assert [one._is_applied for one in processes] == [True] * 2


def test_a_process_that_died_between_two_chunks_is_finished_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synchronise, "CHUNK", 2)
    timetable = [replace(HOURLY, schedule_id=f"s{number}") for number in range(5)]
    dying = of(*timetable)
    applied = 0

    def die_at_the_fourth(*arguments: Any) -> None:
        nonlocal applied
        applied += 1
        if applied == 4:
            raise SystemExit
        original(*arguments)

    original = dying._apply_one
    dying._apply_one = die_at_the_fourth  # type: ignore[method-assign]  # a crash at a line
    with pytest.raises(SystemExit):
        dying.run(NOON)
    assert len(schedules.list()) == 2

    of(*timetable).run(NOON + SECOND)

    assert len(schedules.list()) == 5


def test_it_says_that_it_lives_only_so_often() -> None:
    one = of(HOURLY)
    one.run(NOON)
    schedules.edit("hourly", max_retries=9)

    one.run(NOON + (ASSERT_EVERY_S - 1) * SECOND)

    assert row("hourly").max_retries == 9
