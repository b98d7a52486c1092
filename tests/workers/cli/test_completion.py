"""Completion of names, asked as each shell asks: through the environment that its own completion script sets."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from models import database
from periodic import schedules
from tests.workers.cli.conftest import Run, run_script
from workers.cli import complete

SHELLS = ("bash", "zsh", "fish")
COMMAND = str(Path(sys.executable).parent / "callboard")


def asking(shell: str, line: str) -> dict[str, str]:
    """The environment in which the shell asks what it may offer at the end of this line."""
    asked = {"_CALLBOARD_COMPLETE": f"complete_{shell}"}
    if shell == "bash":
        return asked | {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    return asked | {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}


@pytest.fixture
def often(system: object) -> None:
    """A schedule called often-enough."""
    schedules.add("diagnostics.run_self_test", "interval", "often-enough", minutes=5)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("callboard enqueue diag", "diagnostics.run_self_test"),
        ("callboard schedules show oft", "often-enough"),
        ("callboard queues pause em", "email"),
        ("callboard doctor of", "often-enough"),
        ("callboard sched", "schedules"),
    ],
)
def test_names_are_completed(run: Run, monkeypatch: pytest.MonkeyPatch, shell: str, line: str, expected: str) -> None:
    for name, value in asking(shell, line).items():
        monkeypatch.setenv(name, value)

    ended = run()

    assert expected in ended.out
    assert ended.err == ""


@pytest.mark.usefixtures("often")
def test_the_console_script_completes_a_name_of_the_database() -> None:
    ended = run_script(**asking("zsh", "callboard schedules show oft"), DATABASE_URL=database.bound_url())

    assert "often-enough" in ended.out, ended
    assert ended.err == ""


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_for_each_shell_is_one_that_it_reads(
    run: Run, monkeypatch: pytest.MonkeyPatch, shell: str, tmp_path: Path
) -> None:
    monkeypatch.setenv("_CALLBOARD_COMPLETE", f"source_{shell}")

    ended = run()

    assert ended.code == 0, ended.err
    assert "_CALLBOARD_COMPLETE" in ended.out
    script = tmp_path / f"callboard.{shell}"
    script.write_text(ended.out)
    if shell == "bash":
        checked = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, timeout=60)
        assert checked.stderr == ""


@pytest.mark.usefixtures("often")
def test_bash_itself_completes_an_actor(tmp_path: Path) -> None:
    script = tmp_path / "callboard.bash"
    script.write_text(run_script(_CALLBOARD_COMPLETE="source_bash").out)
    questions = (
        f'source {script}; COMP_WORDS=(callboard enqueue diag); COMP_CWORD=2; COMP_LINE="callboard enqueue diag"; '
        'declare -F | grep -o "_callboard_completion" >/dev/null; _callboard_completion callboard; '
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )

    ended = subprocess.run(
        ["bash", "-c", questions], capture_output=True, text=True, timeout=60,
        env=os.environ | {"PATH": f"{Path(COMMAND).parent}:{os.environ['PATH']}"},
    )  # fmt: skip

    assert ended.stdout.split() == ["diagnostics.run_self_test"], ended


def test_a_database_that_is_away_offers_no_schedules_and_says_nothing(tmp_path: Path) -> None:
    ended = run_script(
        _CALLBOARD_COMPLETE="complete_bash", COMP_WORDS="callboard schedules show o", COMP_CWORD="3",
        DATABASE_URL=f"sqlite:///{tmp_path / 'nowhere' / 'x.db'}",
    )  # fmt: skip

    assert (ended.out.strip(), ended.err) == ("", "")


@pytest.mark.usefixtures("system")
def test_legacy_names_are_offered_where_no_other_fits(run: Run) -> None:
    assert complete.actors("test_background") == ["test_background_task"]
    assert complete.actors("diagnostics.") == ["diagnostics.run_self_test"]
