"""A worker process says in SQL that it is alive, so that `running` rows name a live worker or can be seen not to.

Liveness lives in SQL, not in Redis, so that losing Redis's data kills nobody. A process is dead once it has missed
MISSED_BEATS heartbeats; the bus gives its messages to others only after `lease_s`, which is longer.
"""

import logging
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from models import direct, worker_rows
from models.database import DatabaseError

MISSED_BEATS = 5
_logger = logging.getLogger(__name__)


class Presence:
    """The heartbeat of this process.

    Args:
        heartbeat_s: seconds between two beats.
        threads: how many tasks the process can run at once, for people.
    """

    def __init__(self, *, heartbeat_s: float, threads: int) -> None:
        self.worker_id = ""
        self.heartbeat_s = heartbeat_s
        self.dead_after_s = heartbeat_s * MISSED_BEATS
        """A worker that has not been heard of for this long is dead."""
        self.threads = threads
        self._queues: Callable[[], Iterable[str]] | None = None
        self._started_at = datetime.now(UTC)
        self._stopping = threading.Event()
        self.thread: threading.Thread | None = None

    def take_id(self) -> str:
        """Give this process a new id: the worker's on the rows, and the owner's on the bus."""
        self.worker_id = f"{socket.gethostname()[:80]}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        return self.worker_id

    def start(self, queues: Callable[[], Iterable[str]] | None = None) -> None:
        """Write the first beat and go on in a thread. A database that is down only delays it.

        Args:
            queues: asked at each beat for the queues that this process serves; None leaves them unknown.
        """
        self._queues = queues
        if not self.worker_id:
            self.take_id()
        self._started_at = datetime.now(UTC)
        self._stopping = threading.Event()
        self._beat()
        self.thread = threading.Thread(target=self._run, name="callboard-presence", daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """Say that the process is gone."""
        self._stopping.set()
        if self.thread is not None:
            self.thread.join(timeout=self.heartbeat_s)
        try:
            with direct.transaction() as to:
                worker_rows.stop(to, self.worker_id, datetime.now(UTC))
        except DatabaseError as error:
            _logger.warning("worker %s could not say that it stops: %s", self.worker_id, error)

    def alive_since(self, now: datetime) -> datetime:
        """A worker whose heartbeat is older than this is dead."""
        return now - timedelta(seconds=self.dead_after_s)

    def is_alive(self, worker_id: str) -> bool:
        """Whether that worker has been heard of in time."""
        with direct.reading() as to:
            return worker_rows.is_alive(to, worker_id, self.alive_since(datetime.now(UTC)))

    def _run(self) -> None:
        while not self._stopping.wait(self.heartbeat_s):
            self._beat()

    def _beat(self) -> None:
        now = datetime.now(UTC)
        try:
            with direct.transaction() as to:
                worker_rows.beat(
                    to,
                    worker_id=self.worker_id,
                    hostname=socket.gethostname(),
                    pid=os.getpid(),
                    threads=self.threads,
                    started_at=self._started_at,
                    at=now,
                    queues=None if self._queues is None else sorted(self._queues()),
                )
        except DatabaseError as error:
            _logger.warning("worker %s could not write its heartbeat: %s", self.worker_id, error)
