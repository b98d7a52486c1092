"""Files below a root, whatever somebody wrote as their path: read without following anything out of it. (They are
removed by the same way: workers.clients.removal.)

Each part of the path is opened relative to the folder before it, none of them may be a link, and what is read is what
was checked: a link that is put in place of a folder meanwhile is refused as well.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from workers.errors import PermanentError


def read_below(root: Path, path: str, *, max_bytes: int) -> bytes:
    """The content of a file.

    Args:
        path: relative, with `/` between its parts.
        max_bytes: a larger file is refused before it is read.

    Raises:
        PermanentError: it is not there, not below the root, no ordinary file, or too large.
    """
    parts = parts_of(path)
    if parts is None:
        raise PermanentError(
            f"expected the path of a file below {root.name}/, as permits/17/plan.pdf, got {path[:200]!a}"
        )
    try:
        with opened_folder(root) as top, inner_folder(top, parts[:-1]) as folder:
            descriptor = open_inside(folder, parts[-1])
    except OSError as error:
        raise PermanentError(f"the file {path[:200]!a} cannot be read ({error.strerror}): put it back, or take its row "
                             "out") from error  # fmt: skip
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise PermanentError(f"{path[:200]!a} is no ordinary file")
        if found.st_size > max_bytes:
            raise PermanentError(f"the file {path[:200]!a} has {found.st_size:,} bytes, expected at most {max_bytes:,}")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(max_bytes)
    finally:
        os.close(descriptor)


def parts_of(path: str) -> list[str] | None:
    """The names that a relative path is made of; None of one that may lead elsewhere."""
    parts = path.split("/")
    return None if "\0" in path or any(part in ("", ".", "..") for part in parts) else parts


@contextmanager
def opened_folder(root: Path) -> Iterator[int]:
    """A descriptor of a folder that is trusted: it may be a link. Raises OSError."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield folder
    finally:
        os.close(folder)


@contextmanager
def inner_folder(root: int, names: Sequence[str]) -> Iterator[int]:
    """A descriptor of a folder below another one. Raises OSError: one of them is a link, no folder, or not there."""
    folder = os.dup(root)
    try:
        for name in names:
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)


def open_inside(folder: int, name: str) -> int:
    """A descriptor of what has that name in a folder. Raises OSError: it is a link, or not there."""
    # why not to wait: a pipe in place of the file would have no end.
    return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
