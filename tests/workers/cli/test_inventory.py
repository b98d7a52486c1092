"""`callboard inventory`: every actor and its schedules, and no cell that a spreadsheet would run."""

import csv
import io
import json
from pathlib import Path

import dramatiq
import pytest

from periodic.timetable import TIMETABLE
from tests.workers.cli.conftest import Run
from workers import callboard
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
    assert changed.error_lines == ["background_tasks_inventory.csv is not up to date: run `callboard inventory --csv "
                                   "--output background_tasks_inventory.csv`"]  # fmt: skip


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
