"""Files below a root, whatever somebody wrote as their path: read without following anything out of it.

Each part of the path is opened relative to the folder before it, none of them may be a link, and what is read is what
was checked: a link that is put in place of a folder meanwhile is refused as well.
"""

import os
import stat
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
    parts = path.split("/")
    if not path or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise PermanentError(
            f"expected the path of a file below {root.name}/, as permits/17/plan.pdf, got {path[:200]!a}"
        )
    try:
        folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for part in parts[:-1]:
                inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
                os.close(folder)
                folder = inner
            # why not to wait: a pipe in place of the file would have no end.
            descriptor = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        finally:
            os.close(folder)
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
