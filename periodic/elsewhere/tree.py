"""The files of a tree that are worth a look: bounded, in order, no file twice.

A root that is named is looked at whatever it is. Below it, hidden folders, virtual environments, `node_modules`,
`site-packages` and caches are passed over, for what is in them is not this code base's own. Links to folders are not
followed, so there are no loops; a link to a file is that file. Pipes, sockets and devices are never opened.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from periodic.elsewhere.found import Found, shown_path
from workers.errors import InvalidTask

MAX_FILES = 200_000
"""Files to consider; beyond, the search stops and says so."""
_PASSED_OVER = frozenset({"node_modules", "site-packages", "dist-packages", "__pycache__"})


def files(roots: Iterable[Path], found: Found, *, max_files: int = MAX_FILES) -> Iterator[Path]:
    """Every regular file below the roots, sorted by name within its folder.

    Raises:
        InvalidTask: a root does not exist.
    """
    seen: set[tuple[int, int]] = set()
    for root in roots:
        if not root.exists():
            raise InvalidTask(f"there is no file or folder {shown_path(root)!r}: name one that exists", field="path")
        for path in _below(root, found):
            try:
                about = path.stat()
            except OSError:  # why: a link to nowhere, or a file that has gone meanwhile.
                continue
            if not stat.S_ISREG(about.st_mode) or (about.st_dev, about.st_ino) in seen:
                continue
            seen.add((about.st_dev, about.st_ino))
            if found.files == max_files:
                found.problems.append(f"{shown_path(root)}: has more than {max_files:,} files, the rest was not looked "
                                      "at: name the folders with code and manifests")  # fmt: skip
                return
            found.files += 1
            yield path


def _below(root: Path, found: Found) -> Iterator[Path]:
    if not root.is_dir():
        yield root
        return
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                inside = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            found.warnings.append(f"{shown_path(folder)}: was not looked at ({error.strerror})")
            continue
        names = {entry.name for entry in inside}
        if folder != root and ("pyvenv.cfg" in names or "conda-meta" in names):
            continue
        folders: list[Path] = []
        for entry in inside:
            if entry.is_dir(follow_symlinks=False):
                if not entry.name.startswith(".") and entry.name not in _PASSED_OVER:
                    folders.append(folder / entry.name)
            else:
                yield folder / entry.name
        waiting += reversed(folders)
