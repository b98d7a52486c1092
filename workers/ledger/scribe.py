"""Group commit: one thread of a worker process writes what all its threads did, many moves to a transaction.

An attempt here, and who moves it:

    begun ──50 ms──→ shown               the scribe: the row says running. A shorter one goes from begun to ended
    asked ─────────→ granted | refused   the scribe: a message that may have run before; its thread waits for the row
    begun, shown, granted ──→ ended      the worker's thread, when Dramatiq acknowledges: an append, no wait
    ended ─────────→ written             the scribe: committed
    written ───────→ settled             the bus's settler, told after the commit: nothing is acknowledged before

What a crash leaves: until `written` the message is leased and comes back; the row is as it was. After `written`, before
`settled`: the message comes back and is refused, because the row says that its attempt has ended.

While the database is away: nothing is forgotten and nothing acknowledged. Once a flush has failed, or has lasted
`OVERDUE_S`, the process fetches nothing and starts nothing, so that what is held here is bounded by what it held then.
While it is only slow: nothing starts as long as `MOST_HELD` outcomes wait beside those that are being written.
An outcome that the database refuses in every form (flush) stays unacknowledged, and is tried again every
`REFUSED_AGAIN_S`.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Any, Final, Protocol

from dramatiq import Message

from models import direct, task_moves
from models.database import DatabaseError
from models.task_moves import Attempt, NewTask, Start, Started
from models.task_notes import LogLine, Progress
from workers.broker import Parcel, Settlement, Verdict
from workers.ledger import flush
from workers.ledger.flush import Ended, Flush, Timings

LINGER_S: Final = 0.004
"""How long an outcome waits for others to be committed with it."""
BUSY_FROM: Final = 10
"""Where as many come in that time it waits again: rows in a flush of 100 cost three quarters of those in one of 50."""
MOST_LINGERS: Final = 4
_ENOUGH_A_FLUSH: Final = 200
SHOW_AFTER_S: Final = 0.05
"""A task that has run for this long is shown as running."""
OVERDUE_S: Final = 0.25
REFUSED_AGAIN_S: Final = 2.0
"""After this an outcome is tried again that the database refused in every form."""
MOST_HELD: Final = 500
"""With as many outcomes that wait for the flush after this one nothing new starts: the database does not keep up."""
_MOST_A_FLUSH: Final = 1_000
MOST_NOTES: Final = 10_000
"""Log lines and progress that wait for the database; more are dropped, as what runs on may say without end."""
_FIRST_BACKOFF_S: Final = 0.05
_MAX_BACKOFF_S: Final = 2.0
_HOLD: Final = "the ledger cannot write"

_logger = logging.getLogger(__name__)


class Stopping(Exception):
    """The process stops before the database came back."""


class Bus(Protocol):
    """What the scribe needs of the broker."""

    def hold_fetching(self, reason: str) -> None: ...
    def allow_fetching(self, reason: str) -> None: ...
    def submit_settlements(self, settlements: Sequence[Settlement]) -> None: ...
    def publish_accepted(self, messages: Sequence[Message[Any]]) -> None: ...


class Asked:
    """A start that waits for the row's word."""

    __slots__ = ("answered", "granted", "start")

    def __init__(self, start: Start) -> None:
        self.start = start
        self.granted: Started | None = None
        self.answered = threading.Event()


class Scribe:
    """The writer of one worker process. `start` and `stop` it with the worker; all else from any thread.

    Args:
        adopt: makes the row of a message that has none.
    """

    def __init__(self, *, adopt: Callable[[Parcel | Message[Any]], NewTask]) -> None:
        self._adopt = adopt
        self.on_written: Callable[[Sequence[Ended]], None] | None = None
        """Told in the scribe's thread which outcomes are committed, before the bus is told; once or more often each."""
        self.stopping = threading.Event()
        self._bus: Bus | None = None
        self._ends: list[Ended] = []
        self._refused: list[Ended] = []
        self._refused_again_s = 0.0
        self._asked: list[Asked] = []
        self._begun: dict[Attempt, tuple[float, Start]] = {}
        self._notes: list[LogLine | Progress] = []
        self._lock = threading.Lock()
        self._wanted = threading.Event()
        self._idle = True
        self._rests_long = False
        self._flush_since_s: float | None = None
        self._flushing = 0
        self._timings = Timings()
        self._is_held = False
        self._clear = threading.Event()
        self._clear.set()
        self._flushed = threading.Event()
        self._closing = threading.Event()
        self.thread: threading.Thread | None = None

    # --- for the worker's threads --------------------------------------------------------------------------------

    def begin(self, start: Start) -> None:
        """An attempt begins now; its row follows, unless it ends first. Waits while the database is away or does not
        keep up.

        Raises:
            Stopping: the process stops; it must not begin.
        """
        if self._flush_since_s is not None or not self._clear.is_set():
            self._wait_for_the_database()
        self._begun[start.task_id, start.attempt] = (time.monotonic(), start)
        if self._rests_long:
            self._rests_long = False
            self._wake()

    def ask(self, start: Start) -> Started | None:
        """Ask the row whether an attempt may begin; None if not. Waits while the database is away.

        Raises:
            Stopping: the process stops; it must not begin.
        """
        asked = Asked(start)
        with self._lock:
            self._asked.append(asked)
        self._wake()
        while not asked.answered.wait(0.2):
            if self.stopping.is_set() and asked in self._asked:
                with self._lock:
                    if asked in self._asked:
                        self._asked.remove(asked)
                        raise Stopping
        return asked.granted

    def end(self, ended: Ended) -> None:
        """An attempt has ended; returns at once. The bus is told after the commit."""
        self._begun.pop((ended.end.task_id, ended.end.attempt), None)
        self._ends.append(ended)
        self._wake()
        self._hold_if_overdue()

    def forget(self, attempt: Attempt) -> None:
        """An attempt will have no outcome from here."""
        self._begun.pop(attempt, None)

    def note(self, line: LogLine | Progress) -> None:
        """Write a log line or a progress with the next flush; dropped if MOST_NOTES wait already."""
        if len(self._notes) >= MOST_NOTES:
            return
        self._notes.append(line)
        self._wake()

    waits = False
    """What tasks report is taken without waiting for the database (workers.runner.current.Sink)."""

    def log(self, task_id: str, attempt: int, level: str, line: str, at: datetime) -> None:
        """Keep a log line with the next flush."""
        self.note(LogLine(task_id, attempt, level, line, at))

    def progress(self, task_id: str, attempt: int, value: float, message: str | None) -> None:
        """Keep how far a task is with the next flush."""
        self.note(Progress(task_id, attempt, value, message))

    @property
    def held(self) -> int:
        """Outcomes that are not committed yet."""
        return len(self._ends) + len(self._refused)

    def holds(self, task_id: str) -> bool:
        """Whether an outcome of this task is not committed yet."""
        return any(ended.end.task_id == task_id for ended in [*self._ends, *self._refused])

    # --- life ----------------------------------------------------------------------------------------------------

    def start(self, bus: Bus) -> None:
        """Begin to write."""
        self._bus = bus
        self.stopping.clear()
        self._closing.clear()
        self.thread = threading.Thread(target=self._run, name="callboard-scribe", daemon=True)
        self.thread.start()

    def stop(self, timeout_s: float) -> None:
        """Write what is held, for at most that long, and end. What is left comes back with its lease and runs again."""
        self._closing.set()
        self._wake()
        if self.thread is not None:
            self.thread.join(timeout_s)
        self.stopping.set()
        self._wake()
        if self.thread is not None:
            self.thread.join(1.0)
        if self.held:
            _logger.error(
                "%d outcomes were not written: the database is away or refuses them. Their tasks will run again.",
                self.held,
            )

    def is_alive(self) -> bool:
        """Whether its thread runs."""
        return self.thread is not None and self.thread.is_alive()

    # --- the thread ----------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        if self._idle:
            self._idle = False
            self._wanted.set()

    def _run(self) -> None:
        backoff_s = _FIRST_BACKOFF_S
        while not self.stopping.is_set():
            try:
                self._turn()
                backoff_s = _FIRST_BACKOFF_S
            except DatabaseError as error:
                self._hold(error)
                self.stopping.wait(backoff_s * random.uniform(0.5, 1))
                backoff_s = min(backoff_s * 2, _MAX_BACKOFF_S)
            except Exception:  # why: without this thread no task of the process ever ends.
                _logger.exception("a flush of the ledger failed and is repeated")
                self.stopping.wait(0.5)
            if self._closing.is_set() and not self._ends and not self._notes:
                break

    def _turn(self) -> None:
        self._rest()
        if self._refused and time.monotonic() >= self._refused_again_s:
            self._ends += self._refused
            self._refused = []
        self._linger()
        with self._lock:
            asked = self._asked[:_MOST_A_FLUSH]
        ends = self._take_ends()
        notes = self._notes[:_MOST_A_FLUSH]
        shown = self._to_be_shown({(note.task_id, note.attempt) for note in notes})
        if not (asked or ends or notes or shown):
            if self._is_held:
                self._probe()
            return
        self._flushing = len(ends)
        began_s = self._flush_since_s = time.monotonic()
        try:
            written = flush.write(Flush([*(one.start for one in asked), *shown], ends, notes), self._timings)
        finally:
            self._flush_since_s = None
        self._timings.observe(time.monotonic() - began_s, len(ends))
        del self._notes[: len(notes)]
        for start in shown:
            self._begun.pop((start.task_id, start.attempt), None)
        self._answer(asked, written.granted)
        self._keep_refused(written.refused)
        self._settle(ends, written.moved)
        self._flushed.set()
        self._flushed.clear()
        if self._is_held:
            self._release()

    def _linger(self) -> None:
        """What comes meanwhile goes along."""
        for lingers in range(MOST_LINGERS):
            came = len(self._ends)
            if not came or came < lingers * BUSY_FROM or came >= _ENOUGH_A_FLUSH:
                return
            if self._asked or self._closing.is_set():
                return
            time.sleep(LINGER_S)

    def _rest(self) -> None:
        timeout_s: float | None = 1.0
        if self._begun:
            oldest_s = next(iter(list(self._begun.values())[:1]), (time.monotonic(), None))[0]
            timeout_s = max(0.005, oldest_s + SHOW_AFTER_S - time.monotonic())
        if self._ends or self._asked or self._notes or self._closing.is_set():
            return
        self._rests_long = not self._begun
        self._idle = True
        # Whoever appended before it saw `_idle` true did not set the event: look again.
        if not (self._ends or self._asked or self._notes or self._closing.is_set()):
            self._wanted.wait(timeout_s)
        self._idle = False
        self._wanted.clear()

    def _take_ends(self) -> list[Ended]:
        """The next outcomes, at most one a task: they are not removed before they are settled."""
        taken: dict[str, Ended] = {}
        for ended in self._ends[:_MOST_A_FLUSH]:
            if ended.end.task_id in taken:
                break
            taken[ended.end.task_id] = ended
        return list(taken.values())

    def _to_be_shown(self, heard: AbstractSet[Attempt]) -> list[Start]:
        """Starts of which the row is to hear: what has run for a while, and what says something of itself."""
        latest_s = time.monotonic() - SHOW_AFTER_S
        shown = [begun[1] for begun in map(self._begun.get, heard) if begun is not None]
        for began_s, start in list(self._begun.values()):
            if began_s > latest_s or len(shown) >= _MOST_A_FLUSH:
                break  # why: they are in the order in which they began.
            if (start.task_id, start.attempt) not in heard:
                shown.append(start)
        return shown

    def _answer(self, asked: Sequence[Asked], granted: dict[Attempt, Started]) -> None:
        with self._lock:
            # By identity: who gave up because the process stops has taken himself off meanwhile.
            self._asked = [one for one in self._asked if one not in asked]
        for one in asked:
            one.granted = granted.get((one.start.task_id, one.start.attempt))
            one.answered.set()

    def _keep_refused(self, refused: Sequence[Ended]) -> None:
        if refused:
            # This flush may be a repetition.
            self._refused += [ended for ended in refused if ended not in self._refused]
            self._refused_again_s = time.monotonic() + REFUSED_AGAIN_S

    def _settle(self, ends: Sequence[Ended], moved: set[Attempt]) -> None:
        settlements: list[Settlement] = []
        written: list[Ended] = []
        for ended in ends:
            if ended in self._refused:
                continue
            verdict = None
            if (ended.end.task_id, ended.end.attempt) not in moved:
                verdict = self._verdict_on_unmoved(ended)
            settlements.append(ended.settlement if verdict is None else _as(verdict, ended.settlement))
            if verdict is None:
                written.append(ended)
        children = [child.message for ended in written for child in ended.children]
        if children and self._bus is not None:
            self._bus.publish_accepted(children)
        if written and self.on_written is not None:
            self.on_written(written)
        if settlements and self._bus is not None:
            self._bus.submit_settlements(settlements)
        del self._ends[: len(ends)]

    def _verdict_on_unmoved(self, ended: Ended) -> Verdict | None:
        """What is to become of a message whose outcome moved no row; None: it is on record all the same."""
        try:
            return None if self._is_recorded(ended) else Verdict.ACK
        except DatabaseError:
            raise
        except Exception:  # why: repeated with each flush, it would keep all others from being settled.
            _logger.exception("the outcome of task %s has no row, and none can be made", ended.end.task_id)
            return Verdict.DEAD

    def _is_recorded(self, ended: Ended) -> bool:
        end = ended.end
        with direct.transaction() as to:
            if task_moves.standing(to, [end.task_id]).get(end.task_id) is None:
                task_moves.accept(to, [self._adopt(ended.message)])
                flush.write_ends(to, [ended])
                _logger.warning("task %s had no row; it has one now", end.task_id)
                return True
            recorded = task_moves.outcome_of(to, end.task_id, end.attempt)
        if recorded is end.outcome:
            return True  # why: it was committed before, and only the answer was lost.
        _logger.warning("attempt %d of task %s ended too late: a later one has the row", end.attempt, end.task_id)
        return False

    # --- the database is away ------------------------------------------------------------------------------------

    def _probe(self) -> None:
        with direct.transaction() as to:
            task_moves.standing(to, [""])
        self._release()

    def _hold(self, error: DatabaseError) -> None:
        if not self._is_held:
            _logger.warning("%s: nothing new starts, and %d outcomes wait: %s", _HOLD, self.held, error)
        self._is_held = True
        self._clear.clear()
        if self._bus is not None:
            self._bus.hold_fetching(_HOLD)

    def _release(self) -> None:
        _logger.warning("the ledger writes again")
        self._is_held = False
        self._clear.set()
        if self._bus is not None:
            self._bus.allow_fetching(_HOLD)

    def _hold_if_overdue(self) -> None:
        since_s = self._flush_since_s
        if since_s is not None and not self._is_held and time.monotonic() - since_s > OVERDUE_S:
            self._hold(DatabaseError(f"a flush has lasted {time.monotonic() - since_s:.1f} s"))

    def _wait_for_the_database(self) -> None:
        while True:
            self._hold_if_overdue()
            if self._clear.is_set() or self._clear.wait(0.2):
                if self._flush_since_s is None or len(self._ends) < self._flushing + MOST_HELD:
                    return
                self._flushed.wait(0.05)
            if self.stopping.is_set() or self._closing.is_set():
                raise Stopping


def _as(verdict: Verdict, settlement: Settlement) -> Settlement:
    at = settlement
    return Settlement(at.message_id, at.queue_name, at.owner, at.fence, verdict, claim=at.claim)
