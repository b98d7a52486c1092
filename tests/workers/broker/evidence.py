"""What actors write down outside of the bus, to be compared with what the bus says."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path


class Evidence:
    """A file of lines, written by any number of processes: one O_APPEND write a line, so none is torn."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, event: str, name: object) -> None:
        """Notes an event of a task."""
        os.write(self._file, f"{event} {name} {os.getpid()}\n".encode())

    def count(self, event: str) -> Counter[str]:
        """Returns how often the event was noted, by name of the task."""
        rows = (line.split() for line in self.path.read_text().splitlines())
        return Counter(row[1] for row in rows if row[0] == event)
