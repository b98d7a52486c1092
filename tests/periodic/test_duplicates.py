"""A job is scheduled once: what schedules it twice is named with both places and the mend."""

import dataclasses
import inspect
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from models import database, schedule
from models.schedule import Schedule
from periodic import duplicates, timetable
from periodic.elsewhere import look
from periodic.timetable import TIMETABLE, Declaration, crontab
from tests.periodic.elsewhere.conftest import plant
from workers import Callboard, callboard

SELF_TEST = "diagnostics.run_self_test"
REGISTRY = callboard.registry


NOW = datetime(2026, 7, 1, tzinfo=UTC)
DUE = {"trigger": {"kind": "interval", "seconds": 60}, "next_run_at": NOW}


def declared(*ones: Declaration) -> list[duplicates.Declared]:
    return [duplicates.Declared(one, f"t.py:{number}") for number, one in enumerate(ones, 1)]


def one(
    name: str, params: dict[str, object] | None = None, actor: str = SELF_TEST, why: str | None = None
) -> Declaration:
    return Declaration(name, actor, TIMETABLE[0].trigger, params or {}, also_scheduled=why)


def user_row(**columns: object) -> Schedule:
    return Schedule(**{"schedule_id": "mine", "actor": SELF_TEST, "params": {}, "origin": "user"} | DUE
                    | columns)  # fmt: skip


def test_the_default_timetable_schedules_nothing_twice() -> None:
    assert duplicates.among(duplicates.placed(TIMETABLE), REGISTRY) == []


def test_each_declaration_is_placed_at_its_own_line() -> None:
    lines = Path(inspect.getfile(timetable)).read_text().splitlines()

    for found in duplicates.placed(TIMETABLE):
        file, _, line = found.place.rpartition(":")
        assert file.endswith("periodic/timetable.py")
        assert f'"{found.declaration.schedule_id}"' in "".join(lines[int(line) - 1 : int(line) + 1])


def test_two_declarations_of_one_job_are_named_with_both_lines(tmp_path: Path) -> None:
    file = tmp_path / "timetable.py"
    file.write_text(
        f'Declaration("a", "{SELF_TEST}", x)\nDeclaration(\n    schedule_id="b",\n    actor="{SELF_TEST}")\n'
    )

    problems = duplicates.among(duplicates.placed([one("a"), one("b")], file), REGISTRY)

    assert problems == [
        f"{file}:2: schedule b runs {SELF_TEST} with the same arguments as schedule a at {file}:1: remove one of them, "
        "or say also_scheduled='why' here"
    ]


@pytest.mark.parametrize(
    ("first", "second", "is_twice"),
    [
        (one("a"), one("b"), True),
        (one("a"), one("b", {"steps": 5}), True),  # its default
        (one("a"), one("b", {"steps": 6}), False),
        (one("a", {"steps": 3, "seconds": 1}), one("b", {"seconds": 1.0, "steps": "3"}), True),
        (one("a"), one("b", actor="test_background_task"), True),
        (one("a"), one("b", actor="health.check_system"), False),
        (one("a"), one("b", why="a second look at noon"), False),
        (one("a", why="the second says nothing"), one("b"), True),
        (one("a"), one("b", why=""), True),
        (one("a", {"no": 1}), one("b", {"no": 1}), True),
        (one("a", actor="gone.actor"), one("b", actor="gone.actor"), True),
    ],
)
def test_a_job_is_an_actor_with_its_arguments(first: Declaration, second: Declaration, is_twice: bool) -> None:
    assert len(duplicates.among(declared(first, second), REGISTRY)) == is_twice


def test_two_declarations_of_one_name_are_told_to_be_renamed() -> None:
    problems = duplicates.among(declared(one("a"), one("a", {"steps": 2})), REGISTRY)

    assert problems == ["t.py:2: schedule a is declared at t.py:1 already: rename one of them"]


def test_a_user_s_row_of_a_declared_job_is_found(system: Callboard) -> None:
    with database.writing() as session:
        session.add(user_row())
        session.add(user_row(schedule_id="paused", enabled=False))
        session.add(user_row(schedule_id="other", params={"steps": 9}))
        session.add(user_row(schedule_id="declared", origin="declared"))

    with database.reading() as session:
        problems = duplicates.with_rows(declared(one("a", {"steps": 5})), schedule.all_rows(session), REGISTRY, NOW)

    assert problems == [
        f"database, schedules.schedule_id='mine': this user's schedule runs {SELF_TEST} with the same arguments as "
        "schedule a at t.py:1: pause or delete one of them, or say why there are two: callboard schedules edit mine "
        "--also-scheduled WHY"
    ]


def test_a_declaration_that_says_why_allows_a_user_s_row() -> None:
    assert duplicates.with_rows(declared(one("a", why="people add their own")), [user_row()], REGISTRY, NOW) == []


@pytest.mark.parametrize(
    "columns",
    [
        {"enabled": False},
        {"next_run_at": None},
        {"also_scheduled": "a second look at noon"},
        {"trigger": {"kind": "date", "run_date": "2026-06-30 12:00:00"}},
        {"end_at": NOW - timedelta(days=1)},
        {"error": "actor: gone", "next_run_at": None},
        {"trigger": {"kind": "nonsense"}},
    ],
)
def test_a_user_s_row_that_is_never_due_again_or_says_why_does_not_count(columns: dict[str, object]) -> None:
    row = user_row(**columns)

    assert duplicates.with_rows(declared(one("a")), [row], REGISTRY, NOW) == []


@pytest.mark.parametrize(
    ("columns", "is_twice"),
    [
        ({}, True),
        ({"enabled": False}, False),
        ({"next_run_at": None}, False),
        ({"also_scheduled": "people add their own"}, False),
        ({"params": {"steps": 9}}, False),
        ({"removed_at": NOW, "enabled": False}, False),
    ],
)
def test_a_declaration_is_as_its_row_says(columns: dict[str, object], is_twice: bool) -> None:
    twin = user_row(schedule_id="a", origin="declared", **columns)

    assert len(duplicates.with_rows(declared(one("a")), [twin, user_row()], REGISTRY, NOW)) == is_twice


def test_a_declaration_that_starts_paused_and_has_no_row_does_not_count() -> None:
    paused = dataclasses.replace(one("a"), enabled=False)

    assert duplicates.with_rows(declared(paused), [user_row()], REGISTRY, NOW) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"time_zone": "Mars/Base"}, "t.py:1: schedule a: time_zone: "),
        ({"actor": "gone.actor"}, "t.py:1: schedule a: "),
        ({"params": {1: 2, "x": 3}}, "t.py:1: schedule a: params: "),
        ({"schedule_id": ["a"]}, "t.py:1: schedule ['a']: id: "),
        ({"trigger": crontab("61 * * * *")}, "t.py:1: schedule a: "),
    ],
)
def test_a_bad_declaration_is_named_with_its_line_and_stops_no_other_check(changes: dict[str, Any], said: str) -> None:
    ones = declared(dataclasses.replace(one("a"), **changes), one("b", {"steps": 2}))

    (problem,) = duplicates.bad(ones, REGISTRY)

    assert problem.startswith(said)
    assert duplicates.among(ones, REGISTRY) == []


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"crontab": f"0 3 * * * callboard enqueue {SELF_TEST}\n"},
         f"crontab:1: crontab entry '0 3 * * * callboard enqueue {SELF_TEST}' runs {SELF_TEST}, which schedule a at "
         "t.py:1 runs too: remove one of them, or mark this one: # callboard: also-scheduled WHY"),
        ({"beat.py": "beat_schedule = {'x': {'task': 'app.tasks.test_tasks.test_background_task'}}\n"},
         f"beat.py:1: Celery beat 'x' runs {SELF_TEST}, which schedule a at t.py:1 runs too: remove one of them, or "
         "mark this one: # callboard: also-scheduled WHY"),
        ({"s.py": "import apscheduler\ns.add_job(test_background_task)\n"},
         f"s.py:2: APScheduler 'test_background_task' runs {SELF_TEST}, which schedule a at t.py:1 runs too: remove "
         "one of them, or mark this one: # callboard: also-scheduled WHY"),
        ({"crontab": "@daily health_check\n"},
         "crontab:1: crontab entry '@daily health_check' is scheduled outside Callboard (it seems to run "
         "health.check_system): move it to periodic/timetable.py, or mark it: # callboard: also-scheduled WHY"),
        ({"crontab": "@daily /srv/backup\n"},
         "crontab:1: crontab entry '@daily /srv/backup' is scheduled outside Callboard: move it to "
         "periodic/timetable.py, or mark it: # callboard: also-scheduled WHY"),
        ({"crontab": "# callboard: also-scheduled\n@daily /srv/backup\n"},
         "crontab:2: crontab entry '@daily /srv/backup' is marked as scheduled outside Callboard without a reason: "
         "write it: # callboard: also-scheduled WHY"),
    ],
)  # fmt: skip
def test_a_job_of_another_scheduler_is_named_with_the_declaration_of_the_same_actor(
    tmp_path: Path, files: dict[str, str | bytes], said: str
) -> None:
    found = look([plant(tmp_path, files)])

    assert duplicates.elsewhere(found, declared(one("a")), REGISTRY) == [f"{tmp_path}/{said}"]
