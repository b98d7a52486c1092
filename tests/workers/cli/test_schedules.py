"""`callboard schedules …`: what REST and Python can do, with the same words."""

import json

import pytest

from tests.workers.cli.conftest import Run
from workers import tasks

pytestmark = pytest.mark.usefixtures("system")

ADD = ("schedules", "add", "often", "diagnostics.run_self_test", "--param", "steps=1", "--param", "seconds=0")


def test_a_schedule_is_added_shown_edited_paused_run_and_deleted(run: Run) -> None:
    added = run(*ADD, "--every", "1h30m", "--zone", "Europe/Berlin", "--overlap", "allow")
    assert added.code == 0, added.err
    assert added.out.startswith("often added: every 1 hour 30 minutes; next ")

    shown = json.loads(run("schedules", "show", "often", "--json").out)
    assert (shown["id"], shown["params"], shown["overlap"]) == ("often", {"steps": 1, "seconds": 0}, "allow")
    assert len(shown["next"]) == 5

    edited = run("schedules", "edit", "often", "--crontab", "10,50 9 * * *", "--priority", "9")
    assert "often changed: at 09:10 and 09:50 every day (Europe/Berlin)" in edited.out
    assert run("schedules", "edit", "often", "--clear", "priority").code == 0
    assert run("schedules", "pause", "often").out == "often paused: at 09:10 and 09:50 every day (Europe/Berlin)\n"
    assert "paused" in run("schedules", "list").out
    assert run("schedules", "resume", "often").out.startswith("often resumed: at 09:10 and 09:50")

    task_id = run("schedules", "run", "often").out.strip()
    assert tasks.get_task_count() == 1
    assert task_id in run("schedules", "runs", "often").out
    (first,) = json.loads(run("schedules", "runs", "often", "--json").out)
    assert (first["reason"], first["task_status"]) == ("run now, by the command line", "pending")

    assert run("schedules", "delete", "often").out == "often deleted\n"
    assert json.loads(run("schedules", "list", "--json").out) == []


def test_a_preview_is_in_words_and_in_the_zone(run: Run) -> None:
    found = run("schedules", "preview", "--cron", "hour=9", "--cron", "day_of_week=mon", "--zone", "America/New_York",
                "--start", "2026-01-01T00:00:00+00:00", "--count", "2")  # fmt: skip

    words, *times = found.out.splitlines()
    assert "09:00 on Monday" in words
    assert len(times) == 2
    assert all("09:00:00 E" in time for time in times)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (ADD, "trigger: expected one of --every, --crontab, --cron or --at"),
        ((*ADD, "--every", "5m", "--crontab", "* * * * *"), "trigger: expected only one of"),
        ((*ADD, "--every", "5x"), "every: expected numbers with units, such as 30s, 5m or 1h30m, got '5x'"),
        ((*ADD, "--every", "5m5m"), "every: expected numbers with units"),
        ((*ADD, "--every", "9" * 5_000 + "s"), "every: expected numbers with units"),
        ((*ADD, "--every", "0s"), "expected"),
        ((*ADD, "--crontab", "99 * * * *"), "got '99'"),
        ((*ADD, "--cron", "hour=0--100000000"), "got '0--100000000'"),
        ((*ADD, "--cron", "our=9"), "our: expected an argument of cron: "),
        ((*ADD, "--cron", "hour"), "cron: expected FIELD=VALUE, such as hour=9, got 'hour'"),
        ((*ADD, "--cron", "=9"), "cron: expected FIELD=VALUE, such as hour=9, got '=9'"),
        ((*ADD, "--cron", "kind=date"), "cron: expected FIELD=VALUE, such as hour=9, got 'kind=date'"),
        ((*ADD, "--cron", "hour=9", "--cron", "hour=10"), "hour: expected it once, got it twice: write hour=9,10"),
        ((*ADD, "--at", "yesterday"), "run_date: expected"),
        ((*ADD, "--every", "5m", "--zone", "Mars"), "time_zone: expected"),
        ((*ADD, "--every", "5m", "--param", "steps=0"), "params.steps: Input should be greater than or equal to 1"),
        ((*ADD, "--every", "5m", "--priority", "11"), "priority: expected a whole number, 1–10, got 11"),
        ((*ADD, "--every", "5m", "--misfire", "no"), "misfire: expected one of skip, run_once, run_all; got 'no'"),
        (("schedules", "add", "a b", "health_check", "--every", "5m"), "id: expected 1–100 letters"),
        (("schedules", "add", "x", "health_chekc", "--every", "5m"), "did you mean health_check"),
        (("schedules", "show", "nothing"), "there is no schedule 'nothing': see `callboard schedules list`"),
        (("schedules", "run", "nothing"), "there is no schedule 'nothing'"),
        (("schedules", "preview"), "trigger: expected one of"),
    ],
)
def test_bad_input_ends_with_code_2_naming_the_field_and_the_mend(
    run: Run, arguments: tuple[str, ...], said: str
) -> None:
    ended = run(*arguments)

    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert len(ended.err) < 600
    assert json.loads(run("schedules", "list", "--json").out) == []


def test_an_edit_of_nothing_and_an_unknown_field_to_clear_are_refused(run: Run) -> None:
    run(*ADD, "--every", "5m")

    assert "nothing to change: give at least one of actor, trigger" in run("schedules", "edit", "often").err
    assert (
        "clear: expected start_at, end_at, priority or params" in run("schedules", "edit", "often", "--clear", "x").err
    )
