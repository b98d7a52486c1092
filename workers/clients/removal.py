"""Removing files below a root, whatever somebody wrote as their path or put in their place.

Nothing on the way may be a link (workers.clients.files). The last step removes a name from the folder that was opened:
if that name is a link by then, it is the link that goes, never what it points to; of a file with several names the
others stay.
"""

import errno
import os
import stat

from workers.clients.files import inner_folder, open_inside, parts_of
from workers.errors import PermanentError


def remove_below(root: int, path: str) -> bool:
    """Remove an ordinary file; False if it is not there.

    Args:
        root: descriptor of the folder that it must be below.
        path: relative, with `/` between its parts.

    Raises:
        PermanentError: it is not below the root, or no ordinary file.
        OSError: it cannot be removed now, because its folder may not be written.
    """
    parts = parts_of(path)
    if parts is None:
        raise PermanentError(f"{path[:200]!a} is no path below the folder: correct its row, or delete it")
    *folders, name = parts
    try:
        with inner_folder(root, folders) as folder:
            if not _is_ordinary(folder, name):
                raise _no_file(path)
            os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno in _NOT_WRITABLE:
            raise
        raise _no_file(path) from error
    return True


_NOT_WRITABLE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO})


def _is_ordinary(folder: int, name: str) -> bool:
    descriptor = open_inside(folder, name)
    try:
        return stat.S_ISREG(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)


def _no_file(path: str) -> PermanentError:
    return PermanentError(f"{path[:200]!a} is a link or no ordinary file, and stays: look at it and remove it by hand")
