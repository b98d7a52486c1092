"""Completion of names, asked as each shell asks: through the environment that its own completion script sets."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from models import database
from periodic import schedules
from tests.models.conftest import rebind
from tests.workers.cli.conftest import Run
from workers.cli import complete

__all__ = ["rebind"]

SHELLS = ("bash", "zsh", "fish")
COMMAND = str(Path(sys.executable).parent / "callboard")


@pytest.fixture
def completed(run: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    """What a shell would offer at the end of a line."""

    def ask(shell: str, line: str) -> str:
        monkeypatch.setenv("_CALLBOARD_COMPLETE", f"complete_{shell}")
        if shell == "bash":
            monkeypatch.setenv("COMP_WORDS", line)
            monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        else:
            monkeypatch.setenv("_TYPER_COMPLETE_ARGS", line)
            monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
        ended = run()
        assert ended.err == ""
        return ended.out

    return ask


@pytest.fixture
def often(system: object) -> None:
    """A schedule called often-enough."""
    schedules.add("diagnostics.run_self_test", "interval", "often-enough", minutes=5)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("shell", SHELLS)
def test_names_are_completed(shell: str, completed: Callable[[str, str], str]) -> None:
    for line, expected in (
        ("callboard enqueue diag", "diagnostics.run_self_test"),
        ("callboard tasks list --name diag", "diagnostics.run_self_test"),
        ("callboard tasks list --status canc", "cancelled"),
        ("callboard schedules show oft", "often-enough"),
        ("callboard schedules add new diag", "diagnostics.run_self_test"),
        ("callboard queues pause em", "email"),
        ("callboard doctor of", "often-enough"),
        ("callboard sched", "schedules"),
    ):
        assert expected in completed(shell, line), line


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
def test_bash_itself_completes_an_actor(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "callboard.bash"
    monkeypatch.setenv("_CALLBOARD_COMPLETE", "source_bash")
    script.write_text(run().out)
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


@pytest.mark.usefixtures("rebind")
def test_a_database_that_is_away_offers_no_schedules_and_says_nothing(
    completed: Callable[[str, str], str], tmp_path: Path
) -> None:
    database.bind(f"sqlite:///{tmp_path / 'nowhere' / 'x.db'}")

    assert completed("bash", "callboard schedules show o").strip() == ""


@pytest.mark.usefixtures("system")
def test_legacy_names_are_offered_where_no_other_fits(run: Run) -> None:
    assert complete.actors("test_background") == ["test_background_task"]
    assert complete.actors("diagnostics.") == ["diagnostics.run_self_test"]
