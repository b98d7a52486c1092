"""`@exclusive("name", ttl_s=…, if_held=…)`: actors of which only one task runs at a time, whatever the actor.

    @actor(task_type=TaskType.CLEANUP)
    @exclusive("cache", ttl_s=60, if_held="skip")
    def warm_cache() -> None: ...

A task's way, and what a crash leaves:

    take      before the row is claimed       crash: the lock falls free after ttl_s, or its task's next delivery has it
    held by another:
      skip    the row is claimed and cancelled, reason `skipped: lock cache is held by TASK`
      wait    the message goes back delayed, uncounted: no attempt, no retry, the row stays pending
      fail    the row is claimed and fails for good
    run       a thread of the worker renews it three times in ttl_s, and every 5 s at least;
              `current_task().fencing_token` is its number
    lost      the renewal was refused, or nobody could be asked for ttl_s: the task is interrupted by LockLost, and
              retried as its actor's policy says
    free      after the function, before its outcome is committed

With Redis away nothing is taken, so nothing runs: the message is put off. Who waits is served in no order; a waiting
task asks after a quarter of the time that it has waited, at least 0.25 s and at most 5 s apart.

A frozen worker cannot be interrupted before it wakes. Give `fencing_token` to what the task writes to: a store that
refuses numbers below the highest it has seen refuses the late writes of such a holder.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

import dramatiq
from dramatiq.broker import Broker, MessageProxy
from dramatiq.errors import BrokerError
from dramatiq.middleware import MiddlewareError, SkipMessage

from workers.broker import Parcel, Verdict
from workers.broker.lock import MAX_TTL_S, MIN_TTL_S, NAME, RENEW_WITHIN_S, HeldBy, HeldLock, Locks
from workers.errors import InvalidTask, LockHeld, LockLost
from workers.ledger.attempt import Refused
from workers.ledger.bus import LedgerBroker
from workers.registry import function_of
from workers.runner.current import current_task
from workers.runner.window import windows

IfHeld = Literal["skip", "wait", "fail"]
F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_TTL_S = 20.0
SHORTEST_WAIT_MS, LONGEST_WAIT_MS = 250, 5_000
_UNASKED_MS = 2_000
"""How long a message is put off whose lock could not be asked for."""
_LEAST_PAUSE_S = 0.02
_ATTRIBUTE = "__callboard_exclusive__"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Policy:
    """What `@exclusive` said."""

    name: str
    ttl_s: float
    if_held: IfHeld


class InvalidLock(InvalidTask, MiddlewareError):
    """A lock's name, ttl_s or if_held cannot be."""


def exclusive(name: str, *, ttl_s: float = DEFAULT_TTL_S, if_held: IfHeld = "skip") -> Callable[[F], F]:
    """Let only one task at a time run, of all actors that name this lock; stands below `@actor`.

    Args:
        name: of the lock: 1–100 letters, digits and `_.:/-`.
        ttl_s: after how many seconds without a renewal it falls free, 0.1–86,400.
        if_held: what becomes of a task that finds it held: `skip` cancels it with that reason, `wait` lets it come
            again without using up a retry, `fail` fails it for good.

    Raises:
        InvalidLock: one of them is none of these.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise InvalidLock(f"name: expected 1–100 letters, digits and _.:/-, got {name!r:.100}", field="name")
    if not isinstance(ttl_s, int | float) or not MIN_TTL_S <= ttl_s <= MAX_TTL_S:
        raise InvalidLock(f"ttl_s: expected {MIN_TTL_S:g}–{MAX_TTL_S:g} seconds, got {ttl_s!r:.100}", field="ttl_s")
    if if_held not in ("skip", "wait", "fail"):
        raise InvalidLock(f"if_held: expected 'skip', 'wait' or 'fail', got {if_held!r:.100}", field="if_held")

    def mark(function: F) -> F:
        if isinstance(function, dramatiq.Actor):
            raise InvalidLock(f"@exclusive({name!r}) stands above @actor: put it below", field="exclusive")
        setattr(function, _ATTRIBUTE, Policy(name, float(ttl_s), if_held))
        return function

    return mark


@dataclass
class _Running:
    """A task that has a lock. kept_until_s: on the monotonic clock; then others may have it."""

    task_id: str
    lock: HeldLock
    kept_until_s: float
    is_lost: bool = False

    @property
    def renew_at_s(self) -> float:
        """When a third of its time has passed, or RENEW_WITHIN_S."""
        return self.kept_until_s - self.lock.ttl_s + min(self.lock.ttl_s / 3, RENEW_WITHIN_S)


class Exclusive(dramatiq.Middleware):
    """Takes, renews and frees; stands before Status, so that a task that waits leaves no attempt."""

    def __init__(self) -> None:
        self._has_any = False
        """Whether there is an actor that needs a lock: the hooks of nearly all messages end with this."""
        self._local = threading.local()
        self._running: dict[int, _Running] = {}
        """By thread."""
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def threads(self) -> list[threading.Thread]:
        """The thread that renews, while a worker runs here."""
        return [self._thread] if self._thread is not None and not self._stopping else []

    def before_declare_actor(self, broker: Broker, actor: "dramatiq.Actor[..., Any]") -> None:
        """Take the policy from the function."""
        policy = getattr(function_of(actor), _ATTRIBUTE, None)
        if policy is not None:
            actor.options["exclusive"] = policy
            self._has_any = True

    @property
    def actor_options(self) -> set[str]:
        """What is kept with the actor."""
        return {"exclusive"}

    def before_worker_boot(self, broker: Broker, worker: dramatiq.Worker) -> None:
        """Start the thread that renews."""
        assert isinstance(broker, LedgerBroker)
        self._stopping = False
        self._news.clear()
        self._thread = threading.Thread(
            target=self._renew_for_ever, args=(broker.locks,), name="callboard-locks", daemon=True
        )
        self._thread.start()

    def after_worker_shutdown(self, broker: Broker, worker: dramatiq.Worker) -> None:
        """End it. A lock of a task that is still running falls free after its ttl."""
        self._stopping = True
        self._news.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Take the lock. Raises SkipMessage for a task that waits."""
        if not self._has_any:
            return
        policy: Policy | None = broker.get_actor(message.actor_name).options.get("exclusive")
        self._local.denied = None
        if policy is None or not isinstance(message, Parcel) or not isinstance(broker, LedgerBroker):
            return
        asked_at_s = time.monotonic()
        try:
            taken = broker.locks.take(
                policy.name,
                message.message_id,
                message.delivery,
                ttl_s=policy.ttl_s,
                waits=policy.if_held == "wait",
            )
        except Exception as error:  # why: whatever it is, a task without its lock must not run.
            if not isinstance(error, BrokerError):
                _logger.exception("lock %s cannot be asked for", policy.name)
            raise self._put_off(broker, message, f"lock {policy.name} cannot be asked for: {error}") from error
        if isinstance(taken, HeldLock):
            with self._lock:
                running = _Running(message.message_id, taken, asked_at_s + policy.ttl_s)
                self._running[threading.get_ident()] = running
            self._news.set()
        elif taken is None:
            raise self._put_off(broker, message, f"lock {policy.name} rests: Redis has just lost its data")
        elif policy.if_held == "wait":
            delay_ms = min(LONGEST_WAIT_MS, max(SHORTEST_WAIT_MS, round(taken.waited_s * 250)))
            raise self._put_off(broker, message, f"lock {policy.name} is held by {taken.task_id}", delay_ms)
        else:
            self._local.denied = (policy, taken)

    def after_process_message(
        self, broker: Broker, message: MessageProxy, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        """Free the lock."""
        self._free(broker)

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        """Free the lock of a task that may not run."""
        self._free(broker)

    def admit(self) -> None:
        """Of a task whose row has been claimed: give it its token, or raise SkipMessage or LockHeld."""
        if not self._has_any:
            return
        denied = cast("tuple[Policy, HeldBy] | None", getattr(self._local, "denied", None))
        if denied is not None:
            self._local.denied = None
            policy, held_by = denied
            why = f"lock {policy.name} is held by {held_by.task_id}"
            raise (
                SkipMessage(why)
                if policy.if_held == "skip"
                else LockHeld(f"{why}: send it again later, or declare it with if_held='wait'")
            )
        running = self._running.get(threading.get_ident())
        if running is not None:
            current_task().fencing_token = running.lock.token

    @staticmethod
    def _put_off(broker: LedgerBroker, message: Parcel, why: str, delay_ms: int = _UNASKED_MS) -> SkipMessage:
        broker.ledger.refuse(message, Refused(why, Verdict.DEFER, delay_ms))
        return SkipMessage(why)

    def _free(self, broker: Broker) -> None:
        if not self._running:
            return
        with self._lock:
            running = self._running.pop(threading.get_ident(), None)
        if running is not None and not running.is_lost and isinstance(broker, LedgerBroker):
            with contextlib.suppress(BrokerError):  # why: then it falls free by itself.
                broker.locks.free(running.lock)

    def _renew_for_ever(self, locks: Locks) -> None:
        while not self._stopping:
            with self._lock:
                running = list(self._running.values())
            now_s = time.monotonic()
            due = [one for one in running if not one.is_lost and one.renew_at_s <= now_s]
            try:
                self._renew(locks, due)
            except Exception:  # why: without this thread every lock would be lost.
                _logger.exception("locks cannot be renewed now")
            for one in running:
                if one.is_lost:
                    # why again and again: its function may not have begun. A window takes it once.
                    windows.interrupt(one.task_id, LockLost)
            waits_s = [_LEAST_PAUSE_S if one.is_lost else one.renew_at_s - time.monotonic() for one in running]
            self._news.wait(max(_LEAST_PAUSE_S, min(waits_s)) if waits_s else None)
            self._news.clear()

    @staticmethod
    def _renew(locks: Locks, running: list[_Running]) -> None:
        if not running:
            return
        asked_at_s = time.monotonic()
        try:
            kept = locks.renew([one.lock for one in running], timeout_s=min(one.lock.ttl_s for one in running) / 3)
        except BrokerError as error:
            _logger.warning("locks cannot be renewed now: %s", error)
            kept = [time.monotonic() < one.kept_until_s for one in running]
        else:
            for one in running:
                one.kept_until_s = asked_at_s + one.lock.ttl_s
        for one, is_kept in zip(running, kept, strict=True):
            if not is_kept:
                one.is_lost = True
                _logger.error("task %s has lost lock %s, and is interrupted", one.task_id, one.lock.name)


class Admission(dramatiq.Middleware):
    """Stands after Status: the row of a task that is skipped or fails for its lock is claimed first."""

    def __init__(self, exclusive: Exclusive) -> None:
        self._exclusive = exclusive

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Admit it or not."""
        self._exclusive.admit()
