"""The command line in this process, and as the real console script."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import warm
from tests.workers.refusing import migrated, refusing
from workers.cli.main import main

__all__ = ["Ended", "Run", "migrated", "refusing", "run", "run_script"]

Run = Callable[..., "Ended"]


@dataclass(frozen=True)
class Ended:
    """What a run of the command line came to."""

    code: int
    out: str
    err: str

    @property
    def error_lines(self) -> list[str]:
        """What it said on stderr, line by line."""
        return self.err.splitlines()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """`callboard …` in this process, on the database that is bound."""

    def run_here(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["callboard", *arguments])
        capsys.readouterr()
        code: object = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        captured = capsys.readouterr()
        return Ended(code if isinstance(code, int) else 0 if code is None else 1, captured.out, captured.err)

    return run_here


def run_script(*arguments: str, **environment: str) -> Ended:
    """The console script, as a process of its own."""
    ended = warm.run([str(Path(sys.executable).parent / "callboard"), *arguments], env=os.environ | environment)
    return Ended(ended.returncode, ended.stdout, ended.stderr)
