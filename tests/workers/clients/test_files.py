"""Files below a root: whatever the path says, nothing outside is read."""

import os
from pathlib import Path

import pytest

from workers.clients.files import read_below
from workers.errors import PermanentError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a file in it, and a secret beside it."""
    (tmp_path / "secret").write_bytes(b"secret")
    inside = tmp_path / "media" / "permits" / "17"
    inside.mkdir(parents=True)
    (inside / "plan.pdf").write_bytes(b"plan")
    return tmp_path / "media"


def refused(root: Path, path: str, says: str) -> None:
    with pytest.raises(PermanentError, match=says) as caught:
        read_below(root, path, max_bytes=100)
    assert str(caught.value).isprintable()


def test_a_file_below_the_root_is_read(root: Path) -> None:
    assert read_below(root, "permits/17/plan.pdf", max_bytes=4) == b"plan"


@pytest.mark.parametrize(
    "path",
    ["", "/", "../secret", "permits/../../secret", "/etc/passwd", "permits//17/plan.pdf", "./permits/17/plan.pdf",
     "permits/17/plan.pdf/", "permits/17/..", "permits/17/plan.pdf\0", "\0"],
)  # fmt: skip
def test_a_path_that_could_lead_elsewhere_is_refused(root: Path, path: str) -> None:
    refused(root, path, r"expected the path of a file below media/, as permits/17/plan\.pdf")


@pytest.mark.parametrize("path", ["nothing.pdf", "permits/18/plan.pdf", "permits/17/plan.pdf/x", "x" * 5_000, "..a/\n"])
def test_a_file_that_is_not_there_is_refused(root: Path, path: str) -> None:
    refused(root, path, "cannot be read .*: put it back, or take its row out")


def test_no_link_is_followed_in_no_part_of_the_path(root: Path) -> None:
    (root / "file.pdf").symlink_to(root.parent / "secret")
    (root / "folder").symlink_to(root.parent)
    (root / "inner").symlink_to(root / "permits")

    for path in ("file.pdf", "folder/secret", "inner/17/plan.pdf"):
        refused(root, path, "cannot be read")


def test_a_folder_that_becomes_a_link_meanwhile_is_not_followed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "permits" / "17" / "secret").write_bytes(b"harmless")
    swap_in = root / "swap"
    swap_in.symlink_to(root.parent)
    really_open = os.open

    def open_and_swap(path: object, flags: int, *rest: int, dir_fd: int | None = None) -> int:
        if path == "17":
            (root / "permits" / "17").rename(root / "permits" / "was-17")
            swap_in.rename(root / "permits" / "17")
        return really_open(path, flags, *rest, dir_fd=dir_fd)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", open_and_swap)

    refused(root, "permits/17/secret", "cannot be read")


def test_what_is_no_ordinary_file_is_refused_without_waiting(root: Path) -> None:
    os.mkfifo(root / "pipe")

    refused(root, "pipe", "is no ordinary file")
    refused(root, "permits", "is no ordinary file")
    with pytest.raises(PermanentError, match="cannot be read"):
        read_below(root / "nowhere", "x", max_bytes=1)


def test_a_file_that_is_too_large_is_refused_before_it_is_read(root: Path) -> None:
    with (root / "large").open("wb") as large:
        large.truncate(10**12)

    refused(root, "large", "has 1,000,000,000,000 bytes, expected at most 100")
