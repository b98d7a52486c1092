"""Domain modules are found and imported; one that fails is reported in development and stops production."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from workers import callboard
from workers.settings import PROJECT_DIR

BIN = Path(sys.executable).parent
GOOD = "import dramatiq\n\n\n@dramatiq.actor(actor_name='team.paint')\ndef paint() -> None: ...\n"
BROKEN = "raise RuntimeError('the brush is missing')\n"


@pytest.fixture
def team(tmp_path: Path) -> dict[str, str]:
    """An environment with two modules of a team's own, one of them broken."""
    (tmp_path / "team_good.py").write_text(GOOD)
    (tmp_path / "team_broken.py").write_text(BROKEN)
    return os.environ | {
        "PYTHONPATH": str(tmp_path),
        "CALLBOARD_ACTOR_MODULES": "team_broken,team_good,team_missing",
        "CALLBOARD_VAR_DIR": str(tmp_path / "var"),
    }


def run(command: list[str | Path], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The ended process."""
    return subprocess.run(
        command, env=environment, cwd=PROJECT_DIR, capture_output=True, text=True, timeout=60, check=False
    )


def test_every_domain_module_was_imported() -> None:
    assert callboard.registry.failures == []
    assert {name.partition(".")[0] for name in callboard.registry.actors} >= {
        "diagnostics",
        "email",
        "health",
        "reports",
    }


def test_in_development_a_broken_module_is_reported_and_the_others_work(team: dict[str, str]) -> None:
    script = "from workers import callboard\nprint(callboard.registry.find('team.paint'), callboard.registry.failures)"

    ended = run([sys.executable, "-c", script], team)

    assert ended.returncode == 0
    assert ended.stdout.startswith("Actor(team.paint) ")
    assert "ImportFailure(module='team_broken', error='RuntimeError: the brush is missing')" in ended.stdout
    assert "ImportFailure(module='team_missing', error=\"ModuleNotFoundError: No module named" in ended.stdout
    assert "team_broken cannot be imported (RuntimeError: the brush is missing); its actors are missing" in ended.stderr


def test_the_check_names_a_broken_module_and_its_error(team: dict[str, str]) -> None:
    ended = run([BIN / "callboard", "check"], team)

    assert ended.returncode == 1
    said = "team_broken cannot be imported (RuntimeError: the brush is missing): mend it, its actors are missing"
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_in_production_a_broken_module_stops_the_worker_naming_module_and_error(team: dict[str, str]) -> None:
    ended = run([BIN / "dramatiq", "workers", "-p", "1", "-t", "1"], team | {"CALLBOARD_MODE": "production"})

    assert ended.returncode != 0
    said = "team_broken cannot be imported (RuntimeError: the brush is missing): mend it, or run in development mode"
    assert said in ended.stderr
