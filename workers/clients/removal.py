"""Removing files below a root, whatever somebody wrote as their path or put in their place.

Each part of the path is opened relative to the folder before it and none of them may be a link, so a folder that is
swapped for a link meanwhile is refused as well. The last step removes a name from the folder that was opened: if that
name is a link by then, it is the link that goes, never what it points to; of a file with several names the others stay.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workers.errors import PermanentError


@contextmanager
def opened_folder(root: Path) -> Iterator[int]:
    """A descriptor of a folder. Raises OSError."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield folder
    finally:
        os.close(folder)


def remove_below(root: int, path: str) -> bool:
    """Remove an ordinary file; False if it is not there.

    Args:
        root: descriptor of the folder that it must be below.
        path: relative, with `/` between its parts.

    Raises:
        PermanentError: it is not below the root, or no ordinary file.
        OSError: it cannot be removed now, for instance because the folder may not be written.
    """
    *folders, name = path.split("/")
    if not path or "\0" in path or any(part in ("", ".", "..") for part in (*folders, name)):
        raise PermanentError(f"{path[:200]!a} is no path below the folder: correct its row, or delete it")
    folder = os.dup(root)
    try:
        for part in folders:
            inner = _open(part, os.O_RDONLY | os.O_DIRECTORY, folder, path)
            if inner is None:
                return False
            os.close(folder)
            folder = inner
        # why not to wait: a pipe in place of the file would have no end.
        descriptor = _open(name, os.O_RDONLY | os.O_NONBLOCK, folder, path)
        if descriptor is None:
            return False
        try:
            is_ordinary = stat.S_ISREG(os.fstat(descriptor).st_mode)
        finally:
            os.close(descriptor)
        if not is_ordinary:
            raise _no_file(path)
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return False
    finally:
        os.close(folder)
    return True


def _open(name: str, flags: int, folder: int, path: str) -> int | None:
    try:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _no_file(path) from error


def _no_file(path: str) -> PermanentError:
    return PermanentError(f"{path[:200]!a} is a link or no ordinary file, and stays: look at it and remove it by hand")
