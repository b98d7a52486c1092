"""`callboard check PATH…`: each planted duplicate fails it with file:line, and a clean tree does not."""

import dataclasses
import os
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from models import database
from models.schedule import Schedule
from periodic.timetable import TIMETABLE
from tests.conftest import PROJECT_DIR
from tests.periodic.elsewhere.conftest import plant
from tests.workers.cli.conftest import Run, run_script
from workers.cli import check

PLANTS = {
    "app/jobs.py": "from apscheduler.schedulers.background import BackgroundScheduler\ns = BackgroundScheduler()\n"
    "s.add_job(poll, 'interval', seconds=5)\n",
    "app/celeryconfig.py": "beat_schedule = {'nightly': {'task': 't.nightly'}}\n",
    "deploy/cron.yaml": "apiVersion: batch/v1\nkind: CronJob\nmetadata:\n  name: nightly\nspec: {}\n",
    "deploy/crontab": "0 3 * * * /srv/backup\n",
    "app/loop.py": "import asyncio\nasync def poll():\n    while True:\n        await asyncio.sleep(5)\n"
    "asyncio.create_task(poll())\n",
}
LINES = {"app/jobs.py": 3, "app/celeryconfig.py": 1, "deploy/cron.yaml": 2, "deploy/crontab": 1, "app/loop.py": 3}


@pytest.mark.usefixtures("system")
def test_every_planted_scheduler_fails_the_check_with_its_line(run: Run, tmp_path: Path) -> None:
    ended = run("check", str(plant(tmp_path, PLANTS)))

    assert (ended.code, ended.out) == (1, "")
    assert sorted(line.split(": ", 1)[0] for line in ended.error_lines) == sorted(
        f"{tmp_path / file}:{line}" for file, line in LINES.items()
    )


@pytest.mark.parametrize("file", PLANTS)
@pytest.mark.usefixtures("system")
def test_files_can_be_named_as_pre_commit_does(run: Run, tmp_path: Path, file: str) -> None:
    plant(tmp_path, PLANTS | {"clean.py": "print()\n", "README.md": "crontab\n"})

    ended = run("check", str(tmp_path / "clean.py"), str(tmp_path / file), str(tmp_path / "README.md"))

    assert ended.code == 1
    (line,) = ended.error_lines
    assert line.startswith(f"{tmp_path / file}:{LINES[file]}: ")


def test_the_console_script_finds_nothing_in_this_code_base(sqlite_database: str) -> None:
    ended = run_script("check", str(PROJECT_DIR), CALLBOARD_DATABASE_URL=sqlite_database)

    assert (ended.code, ended.error_lines) == (0, [])


@pytest.mark.usefixtures("system")
def test_what_cannot_be_looked_at_is_a_warning(run: Run, tmp_path: Path) -> None:
    ended = run("check", str(plant(tmp_path, {"broken.py": "beat_schedule = {"})))

    assert ended.code == 0
    (line,) = ended.error_lines
    assert line.startswith(f"warning: {tmp_path}/broken.py: cannot be parsed (line 1")


def test_a_path_that_does_not_exist_is_wrong_usage(run: Run, tmp_path: Path) -> None:
    ended = run("check", str(tmp_path / "gone"))

    assert (ended.code, ended.out) == (2, "")
    assert "name one that exists" in ended.err


@pytest.mark.usefixtures("system")
def test_a_user_s_schedule_of_a_declared_job_fails_the_check(run: Run) -> None:
    declared = TIMETABLE[0]
    with database.writing() as session:
        session.add(
            Schedule(
                schedule_id="mine",
                actor=declared.actor,
                trigger={"kind": "interval", "seconds": 60},
                origin="user",
                next_run_at=datetime.now(UTC),
            )
        )

    ended = run("check")

    assert ended.code == 1
    (line,) = ended.error_lines
    assert line.startswith("database, schedules.schedule_id='mine': ")
    assert f"schedule {declared.schedule_id} at " in line
    assert "periodic/timetable.py:" in line


def hook_of(file: str) -> str:
    """What a file of pre-commit's says of our hook."""
    return (PROJECT_DIR / file).read_text().partition("- id: check-background-tasks\n")[2]


def test_the_pre_commit_hook_for_other_repositories_asks_no_server_of_theirs(tmp_path: Path) -> None:
    hook = hook_of(".pre-commit-hooks.yaml")
    (entry,) = re.findall(r"^ +entry: (.+)$", hook, re.MULTILINE)
    environment = {
        **os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "REDIS_URL": "redis://localhost:1",
        "DATABASE_URL": "mysql://user@localhost/theirs", "CALLBOARD_VAR_DIR": str(tmp_path / "var"),
    }  # fmt: skip

    ended = subprocess.run(
        shlex.split(entry), cwd=plant(tmp_path / "tree", {"deploy/crontab": PLANTS["deploy/crontab"]}),
        env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip

    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("deploy/crontab:1: ")
    assert ended.stderr.count("\n") == 1
    assert re.search(r"^ +pass_filenames: false\b", hook, re.MULTILINE)


def test_the_pre_commit_hook_of_this_repository_is_the_command() -> None:
    hook = hook_of(".pre-commit-config.yaml")

    assert re.search(r"^ +entry: \.venv/bin/callboard check \.$", hook, re.MULTILINE)
    assert re.search(r"^ +pass_filenames: false\b", hook, re.MULTILINE)


@pytest.mark.usefixtures("system")
def test_a_bad_declaration_fails_the_check_with_its_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = dataclasses.replace(TIMETABLE[0], time_zone="Mars/Base")
    monkeypatch.setattr(check, "TIMETABLE", (bad,))

    ended = run("check")

    assert ended.code == 1
    (line,) = ended.error_lines
    assert re.match(rf"\S*periodic/timetable\.py:\d+: schedule {bad.schedule_id}: time_zone: ", line)
