"""SQLite's write-ahead log is copied into the database in the background, so that no commit has to.

    a commit            appends pages to the log
    WriteBack.turn      copies what is there, and has the disk write it, while others go on to commit
    a commit at last    finds SQLITE_PRAGMAS' number of pages in the log, copies the few that are left, and the next
                        begins the log anew: SQLite's own way, which would otherwise have all of them to copy

Two that do it at once: the second finds the first at it, and leaves it alone. A crash at any line: the log has what the
database has not, as always.

Must not: be needed. Where no process of the system lives, commits do it all.
"""

import sqlite3
from typing import Final

from models import database

SOONEST_S: Final = 1.0
LATEST_S: Final = 15.0
WORTH_PAGES: Final = 1_000
"""With fewer than this, the next turn is twice as far away."""


class WriteBack:
    """Of one process. Does nothing on PostgreSQL."""

    def __init__(self) -> None:
        self._pause_s = SOONEST_S
        self._next_s = 0.0
        self._done = 0

    def turn(self, now_s: float) -> int:
        """Copy what there is, if it is time for it; returns how many pages. Waits for nobody, and raises nothing.

        Args:
            now_s: on the monotonic clock.
        """
        path = database.sqlite_path()
        if path is None or now_s < self._next_s or not path.exists():
            return 0
        pages = self._copy(str(path))
        self._pause_s = SOONEST_S if pages >= WORTH_PAGES else min(2 * self._pause_s, LATEST_S)
        self._next_s = now_s + self._pause_s
        return pages

    def _copy(self, path: str) -> int:
        try:
            connection = sqlite3.connect(path, timeout=0, isolation_level=None)
            try:
                _busy, _in_log, done = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            finally:
                connection.close()
        except sqlite3.Error:
            return 0  # another is at it, or the file cannot be used: who writes to it will hear of that.
        before, self._done = self._done, max(done, 0)
        return self._done - before if self._done >= before else self._done
