"""A package of somebody's that has one of our names is explained when ours is imported; `tests` is not shipped."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from workers import neighbours

PROJECT_DIR = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("made", ["models/__init__.py", "models.py", "periodic/__init__.py"])
def test_a_clash_of_names_is_explained_at_import(made: str, tmp_path: Path) -> None:
    taken = tmp_path / made
    taken.parent.mkdir(exist_ok=True)
    taken.write_text("")

    ended = subprocess.run(
        [sys.executable, "-c", "import workers"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])},
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    name = Path(made).parts[0].removesuffix(".py")
    assert ended.returncode == 1
    assert f"Callboard needs its own package '{name}'" in ended.stderr
    assert str(tmp_path / made.removesuffix("/__init__.py")) in ended.stderr
    assert "talk to it by REST, or rename yours" in ended.stderr


def test_a_package_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImportError, match=r"'never_there' .* but there is none"):
        neighbours.check("never_there", house=tmp_path)


def test_our_own_are_ours() -> None:
    neighbours.check("models", "periodic", "workers")


def test_tests_are_not_shipped() -> None:
    project = tomllib.loads((PROJECT_DIR / "pyproject.toml").read_text())

    assert project["tool"]["setuptools"]["packages"]["find"]["include"] == ["models*", "workers*", "periodic*"]
