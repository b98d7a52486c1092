"""`callboard inventory`: every actor and its schedules, and no cell that a spreadsheet would run."""

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import dramatiq
import pytest

from models import database
from models.schedule import Schedule
from periodic import schedules
from periodic.synchronise import Synchroniser
from periodic.timetable import TIMETABLE
from tests.workers.cli.conftest import Run, run_script
from workers import Callboard, callboard
from workers.cli import inventory
from workers.registry import source_of

COLUMNS = ["name", "type", "queue", "trigger", "retries", "limit", "module", "line"]


def lines_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_every_actor_has_a_line_for_each_of_its_schedules(run: Run) -> None:
    ended = run("inventory", "--csv", "--output", "-")

    rows = lines_of(ended.out)
    work = {name: actor for name, actor in callboard.registry.actors.items() if "periodic" not in actor.options}
    assert (ended.code, list(rows[0])) == (0, COLUMNS)
    assert {row["name"] for row in rows} == set(work)
    for name, actor in work.items():
        own = [one for one in TIMETABLE if callboard.registry.find(one.actor) is actor]
        mine = [row for row in rows if row["name"] == name]
        assert len(mine) == max(1, len(own))
        assert [row["trigger"] for row in mine] == ([inventory.in_words(one) for one in own] or [""])
        assert {f"{row['module']}:{row['line']}" for row in mine} == {source_of(actor)}


def test_a_schedule_s_line_has_its_own_retries_and_limit(run: Run) -> None:
    rows = {row["name"]: row for row in json.loads(run("inventory", "--json").out)}

    found, unscheduled = rows["health.check_system"], rows["email.send_confirmation"]
    assert (found["type"], found["queue"], found["retries"], found["limit"]) == ("health", "health", 1, 30.0)
    assert (unscheduled["trigger"], unscheduled["retries"], unscheduled["limit"]) == ("", 3, 120.0)


def test_the_default_file_is_written_and_compared(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    missing = run("inventory", "--check")
    written = run("inventory", "--csv")
    same = run("inventory", "--check")
    file = tmp_path / "background_tasks_inventory.csv"
    file.write_text(file.read_text().replace("health", "wealth"))
    changed = run("inventory", "--check")

    assert [ended.code for ended in (missing, written, same, changed)] == [1, 0, 0, 1]
    mend = "run `callboard inventory --csv --declared --output background_tasks_inventory.csv`"
    assert missing.error_lines == [f"background_tasks_inventory.csv is missing: {mend}"]
    assert changed.error_lines[-1] == f"background_tasks_inventory.csv is not up to date: {mend}"


def test_a_file_that_cannot_be_compared_is_not_called_old(run: Run, tmp_path: Path) -> None:
    missing = run("inventory", "--check", "--output", str(tmp_path / "nope" / "x.csv"))
    folder = run("inventory", "--check", "--output", str(tmp_path))

    assert (missing.code, folder.code) == (1, 1)
    assert missing.err.startswith(f"{tmp_path}/nope/x.csv is missing: run `callboard inventory --csv")
    assert f"{tmp_path} cannot be read (" in folder.err


@pytest.fixture
def with_rows(system: Callboard) -> None:
    """People have overridden, paused and added schedules."""
    Synchroniser(system.registry, TIMETABLE).run(datetime.now(UTC))
    schedules.edit("system-health-check", enabled=False, max_retries=7)
    schedules.add("diagnostics.run_self_test", "interval", "zz-mine", minutes=5, max_retries=2, time_limit_s=9)
    schedules.add("diagnostics.run_self_test", "interval", "aa-mine", minutes=7, enabled=False)
    with database.writing() as session:
        session.add(Schedule(schedule_id="lost", actor="gone.actor", trigger={"kind": "interval", "seconds": 60},
                             origin="user", error="actor: gone"))  # fmt: skip


@pytest.mark.usefixtures("with_rows")
def test_what_people_added_paused_and_changed_is_listed(run: Run) -> None:
    first = run("inventory", "--csv", "--output", "-")
    second = run("inventory", "--csv", "--output", "-")

    rows = lines_of(first.out)
    (declared,) = [row for row in rows if row["name"] == "health.check_system"]
    added = [row for row in rows if row["name"] == "diagnostics.run_self_test"]
    assert (first.err, first.out, list(rows[0])) == ("", second.out, COLUMNS)
    assert declared["trigger"] == "every minute (UTC) (paused; overridden: max_retries)"
    assert declared["retries"] == "7"
    assert [(row["trigger"].partition(" (")[2], row["retries"]) for row in added] == [
        ("aa-mine, added by a person; paused)", "3"),
        ("zz-mine, added by a person)", "2"),
    ]
    assert added[1]["limit"] == "9"
    assert (rows[-1]["name"], rows[-1]["module"]) == ("gone.actor", "")
    assert "added by a person" in rows[-1]["trigger"]


@pytest.mark.usefixtures("with_rows")
def test_a_file_is_up_to_date_with_and_without_what_people_added(run: Run, tmp_path: Path) -> None:
    file = str(tmp_path / "x.csv")
    codes = [
        run("inventory", *arguments, "--output", file).code
        for arguments in (["--csv"], ["--check"], ["--check", "--declared"], ["--csv", "--declared"], ["--check"])
    ]

    assert codes == [0, 0, 1, 0, 0]


def test_without_a_database_the_declared_ones_are_listed_and_it_says_so(sqlite_database: str, tmp_path: Path) -> None:
    away = {"CALLBOARD_DATABASE_URL": f"sqlite:///{tmp_path}/none.db"}
    listed = run_script("inventory", "--csv", "--output", "-", **away)
    quiet = run_script("inventory", "--csv", "--output", "-", "--declared", **away)

    assert (listed.code, quiet.code, quiet.err) == (0, 0, "")
    assert listed.out == quiet.out
    assert "there is no database yet" in listed.err


def test_an_output_that_cannot_be_written_is_wrong_usage(run: Run, tmp_path: Path) -> None:
    ended = run("inventory", "--csv", "--output", str(tmp_path / "no" / "folder.csv"))

    assert (ended.code, ended.out) == (2, "")
    assert "name another --output" in ended.err


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_cell_that_begins_like_a_formula_is_text(text: str) -> None:
    (row,) = lines_of(inventory.as_csv([dict.fromkeys(COLUMNS, "x") | {"name": text}]))

    assert row["name"].startswith("'")


def test_commas_quotes_and_new_lines_stay_in_their_cell() -> None:
    text = inventory.as_csv([dict.fromkeys(COLUMNS, 'a,"b"\nc')])

    (row,) = lines_of(text)
    assert set(row.values()) == {'a,"b"\nc'}


def test_a_person_gets_a_table(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")

    ended = run("inventory")

    assert "health.check_system" in ended.out
    assert inventory.in_words(TIMETABLE[0]) in ended.out


def test_an_actor_whose_source_is_gone_has_no_line(run: Run) -> None:
    namespace: dict[str, object] = {"__name__": "made"}
    exec("def made(): ...", namespace)
    declared = dramatiq.actor(namespace["made"], actor_name="made.here")  # type: ignore[call-overload]  # from exec
    try:
        rows = {row["name"]: row for row in json.loads(run("inventory", "--json").out)}
    finally:
        del callboard.registry.actors[declared.actor_name]
        del callboard.broker.actors[declared.actor_name]

    assert (rows["made.here"]["module"], rows["made.here"]["line"], rows["made.here"]["type"]) == ("made", None, None)
