"""A job is scheduled once: what schedules it twice is named with both places and the mend."""

import inspect
from dataclasses import dataclass
from pathlib import Path

import pytest

from models import database
from models.schedule import Schedule
from periodic import duplicates, timetable
from periodic.elsewhere import look
from periodic.timetable import TIMETABLE, Declaration
from tests.periodic.elsewhere.conftest import plant
from workers import Callboard, callboard

SELF_TEST = "diagnostics.run_self_test"
REGISTRY = callboard.registry


@dataclass(frozen=True)
class Said(Declaration):
    """A declaration that says why its job is scheduled elsewhere too."""

    also_scheduled: str | None = None


def declared(*ones: Declaration) -> list[duplicates.Declared]:
    return [duplicates.Declared(one, f"t.py:{number}") for number, one in enumerate(ones, 1)]


def one(name: str, params: dict[str, object] | None = None, actor: str = SELF_TEST, why: str | None = None) -> Said:
    return Said(name, actor, TIMETABLE[0].trigger, params or {}, also_scheduled=why)


def user_row(**columns: object) -> Schedule:
    return Schedule(**{"schedule_id": "mine", "actor": SELF_TEST, "trigger": {"kind": "interval", "seconds": 60},
                       "params": {}, "origin": "user"} | columns)  # fmt: skip


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
        problems = duplicates.with_rows(declared(one("a", {"steps": 5})), duplicates.user_rows(session), REGISTRY)

    assert problems == [
        f"database, schedules.schedule_id='mine': this user's schedule runs {SELF_TEST} with the same arguments as "
        "schedule a at t.py:1: pause or delete one of them, or say also_scheduled='why' in the declaration"
    ]


def test_a_declaration_that_says_why_allows_a_user_s_row() -> None:
    assert duplicates.with_rows(declared(one("a", why="people add their own")), [user_row()], REGISTRY) == []


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
