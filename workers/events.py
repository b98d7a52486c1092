"""The feed of what happens to tasks: one look at the ledger a second for all who follow it in this process.

    nobody follows   no thread, no look
    first follower   a thread begins to look; what it finds first is the state from which changes are told
    each POLL_S      three reads from indexes: what was sent and what ended in the last OVERLAP_S, and what runs. What
                     differs from the look before is an event, for every follower's queue and for the memory of the
                     last MEMORY events, from which who was cut off goes on
    last one leaves  the thread ends; who comes back after it starts anew

Rows are found late if their transaction took long, so looks overlap; what was told is not told again. A look brings
at most LOOK_MAX rows of a kind: when more happens than that, or a follower's queue is full, the follower is told so by
`reset`, and reads what he shows anew. The feed is for eyes: who must know the outcome of a task asks for its row.

Must not: know the web or the terminal.
"""

import logging
import secrets
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from models import database, task_feed
from workers.errors import CallboardError

POLL_S: Final = 1.0
OVERLAP_S: Final = 5.0
LOOK_MAX: Final = 500
MEMORY: Final = 2_000
QUEUE_MAX: Final = 2_000
"""Events that wait for one follower."""
FOLLOWERS_MAX: Final = 100
"""Of one process."""
FOLLOWERS_OF_ONE_MAX: Final = 20
"""Of those, of one token: nobody keeps all the others out."""

_logger = logging.getLogger(__name__)


class TooManyFollowers(CallboardError):
    """As many follow the feed of this process already as may, in all or of this one token."""


@dataclass(frozen=True)
class Event:
    """Something that happened.

    Args:
        id: of the event; who was cut off names the last one that he got.
        kind: `task`: a task's status, attempt or progress changed, and `data` is its row in short. `reset`: events were
            missed: read anew. `stale`: the ledger cannot be read; `fresh`: it can again.
        data: JSON values and datetimes.
    """

    id: str
    kind: str
    data: dict[str, Any]


class Follower:
    """Who follows; `notify` is called from another thread when there is something to `take`. who: whose bound it is."""

    def __init__(self, notify: Callable[[], None], who: str | None = None) -> None:
        self.who = who
        self._notify = notify
        self._events: deque[Event] = deque()
        self._lock = threading.Lock()

    def put(self, event: Event) -> None:
        """Add an event; the queue of who does not take them becomes a single `reset`."""
        with self._lock:
            if len(self._events) >= QUEUE_MAX:
                self._events.clear()
                event = Event(event.id, "reset", {})
            self._events.append(event)
        self._notify()

    def take(self) -> list[Event]:
        """All that there is, oldest first."""
        with self._lock:
            found = list(self._events)
            self._events.clear()
        return found


class Feed:
    """The feed of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._followers: set[Follower] = set()
        self._memory: deque[Event] = deque(maxlen=MEMORY)
        self._life = ""
        self._count = 0
        self._left = threading.Event()
        self.looks = 0
        """At the ledger, so far."""

    @property
    def followers(self) -> int:
        """How many follow."""
        return len(self._followers)

    def follow(self, notify: Callable[[], None], *, after: str | None = None, who: str | None = None) -> Follower:
        """Follow from now on.

        Args:
            notify: called, in another thread, when there is something to take.
            after: the id of the last event that was got; those since come first, or `reset` if they are forgotten.
            who: the name of the token that follows; None: nobody's bound.

        Raises:
            TooManyFollowers: what to do.
        """
        follower = Follower(notify, who)
        with self._lock:
            if len(self._followers) >= FOLLOWERS_MAX:
                raise TooManyFollowers(f"{FOLLOWERS_MAX} follow the events of this process already: try again later, "
                                       "or ask another API process")  # fmt: skip
            if who is not None and sum(one.who == who for one in self._followers) >= FOLLOWERS_OF_ONE_MAX:
                raise TooManyFollowers(f"{who} has {FOLLOWERS_OF_ONE_MAX} streams of events open already: close one, "
                                       "or use another token")  # fmt: skip
            if not self._followers:
                self._begin()
            if after is not None:
                for event in self._since(after):
                    follower.put(event)
            self._followers.add(follower)
        return follower

    def leave(self, follower: Follower) -> None:
        """Follow no longer."""
        with self._lock:
            self._followers.discard(follower)
            if not self._followers:
                self._left.set()

    def _begin(self) -> None:
        self._memory.clear()
        self._life, self._count, self._left = secrets.token_hex(4), 0, threading.Event()
        threading.Thread(target=self._run, args=(self._left,), name="callboard-events", daemon=True).start()

    def _since(self, after: str) -> list[Event]:
        life, _, number = after.partition("-")
        first = self._count - len(self._memory)
        if life == self._life and number.isascii() and number.isdigit() and first <= int(number[:12]) <= self._count:
            return list(self._memory)[int(number) - first :]
        return [Event(f"{self._life}-{self._count}", "reset", {})]

    def _run(self, left: threading.Event) -> None:
        look = Look()
        is_stale = False
        while True:
            try:
                changes, is_whole = look.changes(datetime.now(UTC))
            except database.DatabaseError as error:
                if not is_stale:
                    _logger.warning("the events of tasks cannot be read now: %s", error)
                    self._tell(left, "stale", {})
                is_stale = True
            except Exception:  # why: whatever it is, who follows is told, and the next look may succeed.
                _logger.exception("the events of tasks cannot be read")
                is_stale = True
            else:
                if is_stale:
                    self._tell(left, "fresh", {})
                is_stale = False
                for change in changes:
                    self._tell(left, "task", change)
                if not is_whole:
                    self._tell(left, "reset", {})
            self.looks += 1
            if left.wait(POLL_S):
                return

    def _tell(self, left: threading.Event, kind: str, data: dict[str, Any]) -> None:
        with self._lock:
            if left.is_set():  # why: another thread may have begun a new life since.
                return
            self._count += 1
            event = Event(f"{self._life}-{self._count}", kind, data)
            self._memory.append(event)
            for follower in self._followers:
                follower.put(event)


class Look:
    """What is different from one look to the next."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, Any]] | None = None
        self._was_running: set[str] = set()

    def changes(self, now: datetime) -> tuple[list[dict[str, Any]], bool]:
        """Rows in short that have changed since the last look, oldest first, and whether these are all.

        The first look gives none. Raises DatabaseError.
        """
        since = now - timedelta(seconds=OVERLAP_S)
        with database.reading() as session:
            kinds = [
                task_feed.sent_since(session, since, limit=LOOK_MAX)[::-1],
                task_feed.ended_since(session, since, limit=LOOK_MAX)[::-1],
                task_feed.running(session, limit=LOOK_MAX),
            ]
            rows = {str(row["task_id"]): row for kind in kinds for row in kind}
            gone = sorted(self._was_running - rows.keys())
            if gone:
                rows |= {str(row["task_id"]): row for row in task_feed.by_ids(session, gone)}
        self._was_running = {task_id for task_id, row in rows.items() if row["status"] == "running"}
        known, self._known = self._known, rows
        if known is None:
            return [], True
        changed = [row for task_id, row in rows.items() if known.get(task_id) != row]
        return changed, all(len(kind) < LOOK_MAX for kind in kinds)


feed: Final = Feed()
