"""Removing files below a folder: nothing outside is ever touched, whatever stands in their place."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers.clients.files import opened_folder
from workers.clients.removal import remove_below
from workers.errors import PermanentError


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file that must stay."""
    path = tmp_path / "outside" / "precious.pdf"
    path.parent.mkdir()
    path.write_text("precious")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "documents"
    path.mkdir()
    return path


@pytest.fixture
def root(folder: Path) -> Iterator[int]:
    with opened_folder(folder) as descriptor:
        yield descriptor


def test_a_file_goes_and_one_that_is_not_there_is_no_error(folder: Path, root: int) -> None:
    (folder / "2026").mkdir()
    (folder / "2026" / "a.pdf").write_text("a")

    assert remove_below(root, "2026/a.pdf")
    assert not remove_below(root, "2026/a.pdf")
    assert not remove_below(root, "2025/a.pdf")
    assert list(folder.rglob("*.pdf")) == []


@pytest.mark.parametrize(
    "path", ["", "/", "../outside/precious.pdf", "a/../../outside/precious.pdf", "./a", "a//b", "a\0"]
)
def test_a_path_that_leads_elsewhere_is_refused(root: int, outside: Path, path: str) -> None:
    with pytest.raises(PermanentError, match="correct its row, or delete it"):
        remove_below(root, path)
    with pytest.raises(PermanentError):
        remove_below(root, str(outside))

    assert outside.read_text() == "precious"


def test_a_link_is_not_followed_nor_removed(folder: Path, root: int, outside: Path) -> None:
    (folder / "a.pdf").symlink_to(outside)
    (folder / "2026").symlink_to(outside.parent)

    for path in ("a.pdf", "2026/precious.pdf"):
        with pytest.raises(PermanentError, match=r"a link or no ordinary file.*remove it by hand"):
            remove_below(root, path)

    assert (folder / "a.pdf").is_symlink()
    assert outside.read_text() == "precious"


def test_of_a_hard_link_only_the_name_below_the_folder_goes(folder: Path, root: int, outside: Path) -> None:
    (folder / "a.pdf").hardlink_to(outside)

    assert remove_below(root, "a.pdf")
    assert outside.read_text() == "precious"


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["a folder", "a pipe"])
def test_what_is_no_file_stays(folder: Path, root: int, make: object) -> None:
    make(folder / "a.pdf")  # type: ignore[operator]  # one of the two above

    with pytest.raises(PermanentError, match="no ordinary file"):
        remove_below(root, "a.pdf")
    assert (folder / "a.pdf").exists()


def test_a_folder_that_is_swapped_for_a_link_meanwhile_leads_nowhere(folder: Path, root: int, outside: Path) -> None:
    (folder / "2026").mkdir()
    (folder / "2026" / "precious.pdf").write_text("old")
    with opened_folder(folder / "2026") as opened_before:
        (folder / "2026").rename(folder / "moved")
        (folder / "2026").symlink_to(outside.parent)

        with pytest.raises(PermanentError, match="a link"):
            remove_below(root, "2026/precious.pdf")
        assert remove_below(opened_before, "precious.pdf")

    assert outside.read_text() == "precious"
    assert not (folder / "moved" / "precious.pdf").exists()
