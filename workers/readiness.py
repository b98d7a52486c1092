"""Whether this system would take and run a task now, and what is wrong if not; answered within a bounded time.

Five checks, in two threads, so that a server that hangs cannot hold the answer:

    redis       a write is taken: it is there, is no replica, is not full
    database    a transaction that writes can begin; the tables are those of this code
    workers     a worker process is alive          (not known while the database is away)
    scheduler   a scheduler is alive               (likewise)
    actors      every domain module was imported, in this process

Who asks waits for both threads until PATIENCE_S is over; a thread that has not answered by then is at fault. It goes on
until the server's own time-outs end it, and who asks meanwhile waits for that same one: however many ask, a server that
hangs holds one thread of each process.

Must not: know the web or the terminal.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from models import database, direct, revision, timetable, worker_rows
from models.timetable import IN_FORCE_S
from workers import callboard, start_checks
from workers.broker import BusFull, BusRefused, BusUnavailable
from workers.broker.local import describe
from workers.settings import hide_secrets

PATIENCE_S: Final = 2.0
"""Within this an answer is given, whatever hangs."""
_PROBE_TIMEOUT_S: Final = 1.0
_REBUILT_WITHIN_S: Final = 60.0
"""A Redis that was emptied or restarted has all messages again after that; until then it is said, and it is ready."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Check:
    """One thing that has to be so. ok: None: it cannot be known now. detail: what is, and the mend if it is wrong."""

    name: str
    ok: bool | None
    detail: str


def check_all() -> list[Check]:
    """All five, in the order of the module's docstring; takes PATIENCE_S at most and raises nothing."""
    deadline_s = time.monotonic() + PATIENCE_S
    begun = [(probe, probe.begin()) for probe in (_redis, _database)]
    return [check for probe, future in begun for check in probe.end(future, deadline_s)] + [_check_actors()]


class _Probe:
    """A look that may hang. At most one is under way; who asks meanwhile shares its answer.

    Args:
        look: returns the checks.
        silent: what is said if it does not answer in time.
    """

    def __init__(self, look: Callable[[], list[Check]], silent: Callable[[], list[Check]]) -> None:
        self._look = look
        self._silent = silent
        self._lock = threading.Lock()
        self._under_way: Future[list[Check]] | None = None

    def begin(self) -> "Future[list[Check]]":
        with self._lock:
            if self._under_way is None or self._under_way.done():
                self._under_way = Future()
                # why a daemon: a server that hangs must not hold the end of the process.
                threading.Thread(
                    target=self._run, args=(self._under_way,), name="callboard-readiness", daemon=True
                ).start()
            return self._under_way

    def end(self, future: "Future[list[Check]]", deadline_s: float) -> list[Check]:
        try:
            return future.result(timeout=max(0.0, deadline_s - time.monotonic()))
        except NotInTime:
            return self._silent()

    def _run(self, future: "Future[list[Check]]") -> None:
        try:
            future.set_result(self._look())
        except BaseException:  # why: whatever it is, who waits is told.
            _logger.exception("a check of readiness failed")
            future.set_result(self._silent())


def _look_at_redis() -> list[Check]:
    where = f"Redis at {describe(callboard.broker.client)}"
    try:
        callboard.broker.probe(timeout_s=_PROBE_TIMEOUT_S)
        is_new = any(callboard.broker.is_younger_than(_REBUILT_WITHIN_S, one) for one in _a_queue_of_each_server())
    except BusFull as error:
        said = (
            f"{where} is full ({error}): raise maxmemory or free some; tasks are accepted, and go out when it has room"
        )
    except (BusUnavailable, BusRefused) as error:
        said = f"{where} cannot be used ({hide_secrets(str(error))}): "
        if "read only replica" in str(error):
            said += "it is a replica: name the primary in CALLBOARD_REDIS_URL, or let it be promoted"
        else:
            said += "check that it is running and reachable, or set CALLBOARD_REDIS_URL"
    else:
        also = f"; its data is younger than {_REBUILT_WITHIN_S:g} s: what waited is sent again from the ledger"
        return [Check("redis", ok=True, detail=f"{where} takes writes{also if is_new else ''}")]
    return [Check("redis", ok=False, detail=said)]


def _a_queue_of_each_server() -> list[str]:
    queues = sorted(callboard.broker.get_declared_queues())
    return list({id(callboard.broker.bus_of(queue)): queue for queue in queues}.values())


def _redis_is_silent() -> list[Check]:
    said = f"Redis at {describe(callboard.broker.client)} did not answer within {PATIENCE_S:g} s: it hangs or is away"
    return [Check("redis", ok=False, detail=said)]


def _look_at_database() -> list[Check]:
    now = datetime.now(UTC)
    try:
        wrong = _what_is_wrong_with_the_database()
        if wrong is not None:
            return [Check("database", ok=False, detail=wrong), *_unknown()]
        with direct.reading() as to:
            alive = worker_rows.count_alive(to, callboard.ledger.presence.alive_since(now))
            seen_at = timetable.seen_at(to)
    except database.DatabaseError as error:
        return [Check("database", ok=False, detail=str(error)), *_unknown()]
    good = f"the database {database.describe()} takes writes, at revision {revision.head()}"
    return [Check("database", ok=True, detail=good), _check_workers(alive), check_scheduler(seen_at, now)]


def _what_is_wrong_with_the_database() -> str | None:
    findings = [str(finding) for finding in start_checks.check_tables()]
    if findings:
        return findings[0]
    with direct.transaction() as to:  # why: on SQLite it waits for the write lock, which is what a send needs.
        if to.dialect == "postgresql" and to.run("SHOW transaction_read_only")[0][0] == "on":
            return (
                f"the database {database.describe()} is read-only, as a standby is: name the primary in "
                "CALLBOARD_DATABASE_URL"
            )
    return None


def _database_is_silent() -> list[Check]:
    why = "it hangs or is away"
    if database.sqlite_path() is not None:
        why = "another process holds its write lock: end that transaction, or the process"
    said = f"the database {database.describe()} took no write within {PATIENCE_S:g} s: {why}"
    return [Check("database", ok=False, detail=said), *_unknown()]


def _unknown() -> list[Check]:
    return [Check(name, ok=None, detail="not known while the database is away") for name in ("workers", "scheduler")]


def _check_workers(alive: int) -> Check:
    if alive:
        return Check("workers", ok=True, detail=f"{alive} worker processes are alive")
    return Check("workers", ok=False, detail="no worker is alive: start one with `callboard worker`")


def check_scheduler(seen_at: datetime | None, now: datetime) -> Check:
    """Whether a scheduler is alive, from when one last said so (aware UTC; None: never)."""
    if seen_at is not None and now - seen_at <= timedelta(seconds=IN_FORCE_S):
        return Check(
            "scheduler", ok=True, detail=f"a scheduler was heard of {(now - seen_at).total_seconds():.0f} s ago"
        )
    ever = "none was ever heard of" if seen_at is None else f"the last was heard of at {seen_at:%Y-%m-%d %H:%M:%S} UTC"
    return Check("scheduler", ok=False, detail=f"no scheduler is alive, {ever}: start one with `periodiq periodic`")


def _check_actors() -> Check:
    failures = callboard.registry.failures
    if not failures:
        return Check("actors", ok=True, detail=f"{len(callboard.registry.actors)} actors, every module imported")
    named = "; ".join(f"{failure.module} cannot be imported ({failure.error})" for failure in failures)
    return Check("actors", ok=False, detail=f"{named}: mend it, its actors are missing")


_redis = _Probe(_look_at_redis, _redis_is_silent)
_database = _Probe(_look_at_database, _database_is_silent)
