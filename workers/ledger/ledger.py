"""The ledger of one process: it turns what Dramatiq's hooks and the bus tell it into moves of rows.

A message's way through a worker:

    before_enqueue          accept   row pending                       committed before the bus sees the message
    before_process_message  begin    the bus's lease is the right to start; the row follows (scribe). A message that may
                                     have run before (`_must_ask`) waits for the row's word
    after_process_message   record   nothing is written; the result or exception is kept in memory
    acknowledgement         settle   the outcome goes to the scribe, which commits it with others and then has the bus
                                     settle the delivery

Why the outcome is not written in `after_process_message`: Dramatiq logs and swallows what is raised there and then
acknowledges (spec/traps.md 2). The acknowledgement is ours.

Which messages ask the row: those delivered before (a worker died with it, it is a retry) and those without our
envelope (they may have no row). Those that the relay or reconcile sent (another copy may have run), and those that
became available before the bus's present generation (its server was restarted or emptied: what it says of them may be
old), are looked up in one query a fetch (`vouch`); they ask only if their row is not untouched. Any other is on its
first and only delivery: nobody can have run it.

A row is untouched for up to 50 ms after its attempt has begun (scribe), and then could vouch for a second copy. In this
process the attempt is known, and the copy waits for its end (`_is_here`). For one in another process a copy would have
to reach the bus and be fetched within a tenth of a second; but the bus takes none while it holds the first, by its
lease, and who sends again after it lost its data waits for two renewals first (reconcile).

A message that cannot be decoded has no hooks: `fail_undecodable` fails its row before it goes to the dead letters.

With the database down: accept raises LedgerUnavailable and nothing is sent; begin waits, so nothing new starts and no
attempt is used up; outcomes wait with the scribe, unacknowledged.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from dramatiq import Message, MessageProxy

from models import direct, task_moves
from models.database import DatabaseError
from models.task import FailureReason, TaskStatus
from models.task_moves import Loss, LostDelivery, NewTask, Standing, Start, Started
from workers.broker import Generation, Parcel, Settlement, Verdict
from workers.errors import (
    InvalidTask,
    LedgerUnavailable,
    OutcomeUnknown,
)
from workers.ledger.attempt import (
    ATTEMPT,
    ENVELOPE,
    Delivery,
    Refused,
    Running,
    check_id,
    decided,
    delivery_of,
    may_be_old,
    must_ask,
)
from workers.ledger.flush import Child, Ended
from workers.ledger.outcome import Outcomes
from workers.ledger.poison import suspicion_of
from workers.ledger.presence import Presence
from workers.ledger.scribe import Scribe, Stopping

_ASK_AGAIN_MS: Final = 2_000
"""A message that cannot be decided now (its task runs elsewhere) comes back after this."""

_logger = logging.getLogger(__name__)


class Accepted(msgspec.Struct, frozen=True):
    """What became of rows that were to be written.

    are_new: none of them was there before. owners: ids that were not written, because another task has their
    idempotency key → that task's id.
    """

    are_new: bool
    owners: dict[str, str]


_NEW, _NOT_NEW = Accepted(True, {}), Accepted(False, {})


class Ledger:
    """Moves rows for this process.

    Args:
        heartbeat_s: of this process's presence.
        threads: of this process.
        result_max_bytes: bound of a result as JSON.
    """

    def __init__(self, *, heartbeat_s: float, threads: int, result_max_bytes: int) -> None:
        self.presence = Presence(heartbeat_s=heartbeat_s, threads=threads)
        self.adopt: Callable[[Parcel | Message[Any]], NewTask] = _no_row
        """Makes the row of a message that has none."""
        self.row_of: Callable[..., NewTask] = _no_row
        """Makes the row of a message that is to be sent; the status middleware's `row_of`."""
        self.fails_when_lost: Callable[[str], bool] = lambda _task_name: False
        """Whether a task of this name must not run twice (`on_lost="fail"`)."""
        self.secrets_of: Callable[[Message[Any] | MessageProxy], frozenset[str]] = lambda _message: frozenset()
        """The secret values among a message's arguments, which no error may repeat."""
        self.scribe = Scribe(adopt=self._adopt)
        self._outcomes = Outcomes(self, result_max_bytes=result_max_bytes)
        self._refused: dict[Delivery, Refused] = {}
        self._running: dict[Delivery, Running] = {}
        self._asking: dict[str, Delivery] = {}
        self._children: dict[Delivery, list[Child]] = {}

    def _adopt(self, message: Parcel | Message[Any]) -> NewTask:
        return self.adopt(message)

    def threads(self) -> list[threading.Thread]:
        """Threads that must live as long as the worker runs."""
        return [thread for thread in (self.scribe.thread, self.presence.thread) if thread is not None]

    # --- sending -------------------------------------------------------------------------------------------------

    def accept(self, tasks: Sequence[NewTask]) -> Accepted:
        """Commit new rows in one transaction; those that are there already stay, and one whose idempotency key another
        task has is not written.

        Raises:
            LedgerUnavailable: nothing was written.
            OutcomeUnknown: the database went away while it was executing, and cannot be asked, or has no row yet and
                did not say that it will not.
        """
        keyed = [task for task in tasks if task.idempotency_key is not None]
        try:
            if not keyed:
                # why: a row, or on PostgreSQL any number of rows, is one statement.
                with direct.single() if len(tasks) == 1 else direct.transaction() as to:
                    return _NEW if task_moves.accept(to, tasks) == len(tasks) else _NOT_NEW
            with direct.transaction() as to, to.atomic():
                new = task_moves.accept(to, [task for task in tasks if task.idempotency_key is None])
                owners: dict[str, str] = {}
                for task in sorted(keyed, key=_key_of):  # why: two batches that take keys in one order cannot deadlock.
                    is_new, owner = task_moves.accept_unique(to, task)
                    new += is_new or owner != task.task_id
                    if owner != task.task_id:
                        owners[task.task_id] = owner
                return Accepted(new == len(tasks), owners)
        except DatabaseError as error:
            found = self._is_accepted(tasks[0].task_id) if error.was_executing else False
            if found and (not keyed or len(tasks) == 1):
                return _NEW  # why: it was committed, and only the answer was lost.
            # why the second: a row that is not there yet may come, if the server goes on with what nobody waits for.
            if found is None or error.may_go_on or (error.was_executing and keyed and len(tasks) > 1):
                raise OutcomeUnknown(tasks[0].task_id) from error
            raise LedgerUnavailable(f"nothing was sent: {error}") from error

    def leave_to_the_relay(self, task_ids: Sequence[str]) -> bool:
        """Record that accepted rows have no message yet. False if the database is away too; reconcile finds them."""
        try:
            with direct.transaction() as to:
                task_moves.mark_published(to, task_ids, None)
        except DatabaseError as error:
            _logger.warning("%d tasks wait for the next reconcile: %s", len(task_ids), error)
            return False
        return True

    def withdraw(self, task_id: str) -> bool:
        """Take back a row whose message the bus refused for good; False if a worker has started it.

        Raises:
            OutcomeUnknown: the database went away as well.
        """
        try:
            with direct.transaction() as to:
                return task_moves.withdraw(to, task_id)
        except DatabaseError as error:
            raise OutcomeUnknown(task_id) from error

    @staticmethod
    def _is_accepted(task_id: str) -> bool | None:
        try:
            with direct.reading() as to:
                return task_id in task_moves.standing(to, [task_id])
        except DatabaseError:
            return None

    # --- running -------------------------------------------------------------------------------------------------

    def begin(self, message: Parcel, generation: Generation) -> Running | Refused:
        """Start the message's task, or say why not. Waits while the database is down.

        Args:
            generation: of the bus's data, as known now.

        Raises:
            Stopping: the process stops; the message goes back to its place.
            InvalidTask: it can never run; it goes to the dead letters.
            Exception: anything unforeseen; the message is put off, and nothing is lost.
        """
        delivery = delivery_of(message)
        sent_attempt = int(message.options.get(ATTEMPT) or 0)
        start = Start(
            task_id=delivery[0],
            attempt=delivery[2],
            worker_id=self.presence.worker_id,
            started_at=datetime.now(UTC),
            sent_attempt=sent_attempt,
            checked=must_ask(message, generation) or self.fails_when_lost(message.actor_name),
        )
        try:
            check_id(message.message_id)
            if start.checked:
                begun = self._ask_alone(start, message)
            else:
                self.scribe.begin(start)
                begun = Running(message, delivery, start.started_at, 0, message.options.get("correlation_id"))
        except Stopping:
            self._refused[delivery] = Refused("the worker stops", Verdict.RELEASE)
            raise
        except InvalidTask:
            self._refused[delivery] = Refused("it can never run", Verdict.DEAD)
            raise
        except Exception:  # why: whatever it is, the message is put off; it must neither run unclaimed nor be lost
            self._refused[delivery] = Refused("it cannot be claimed now", Verdict.DEFER, _ASK_AGAIN_MS)
            raise
        if isinstance(begun, Refused):
            self._refused[delivery] = begun
            return begun
        self._running[delivery] = begun  # why: again where it asked; that one had to be seen before it was done asking.
        message.options[ATTEMPT] = begun.attempt  # why: should it be sent again, this is the last one that was made.
        return begun

    def refuse(self, message: Parcel, refused: Refused) -> None:
        """Somebody else's reason why a message is not begun; it has to be skipped then."""
        self._refused[delivery_of(message)] = refused

    def vouch(self, parcels: Sequence[Parcel], generation: Generation) -> None:
        """Look up fetched messages whose first delivery this is, but perhaps not the first copy; those whose rows are
        untouched need not ask. A database that is away vouches for none."""
        doubtful = [
            parcel
            for parcel in parcels
            if parcel.delivery.fence == 1 and ENVELOPE in parcel.options and may_be_old(parcel, generation)
        ]
        if not doubtful:
            return
        try:
            with direct.reading() as to:
                untouched = task_moves.untouched(to, [parcel.message_id for parcel in doubtful])
        except DatabaseError:
            return
        for parcel in doubtful:
            parcel.vouched = parcel.message_id in untouched and not self._is_here(parcel.message_id)

    def _is_here(self, task_id: str) -> bool:
        """Whether an attempt of it runs here, or is about to: its row may not have heard of it."""
        return task_id in self._asking or self.runs_here(task_id)

    def is_here(self, task_id: str) -> bool:
        """Whether this process has to do with it still: an attempt runs here, is about to, or its outcome is not
        written yet."""
        return self._is_here(task_id) or self.scribe.holds(task_id)

    def _ask_alone(self, start: Start, message: Parcel) -> Running | Refused:
        """Ask, unless another copy of the message runs here: to the row, both are one attempt."""
        delivery = delivery_of(message)
        try:
            if self._asking.setdefault(start.task_id, delivery) != delivery or self.runs_here(start.task_id):
                return Refused("another copy of it runs here", Verdict.DEFER, _ASK_AGAIN_MS)
            begun = self._ask(start, message)
            if isinstance(begun, Running):
                self._running[delivery] = begun
            return begun
        finally:
            if self._asking.get(start.task_id) == delivery:
                del self._asking[start.task_id]

    def _ask(self, start: Start, message: Parcel) -> Running | Refused:
        granted = self.scribe.ask(start) or self._decide_refused(start, message)
        if isinstance(granted, Refused):
            return granted
        running = Running(message, delivery_of(message), start.started_at, granted.retry_count, granted.correlation_id)
        if start.attempt == 1:
            return running
        with direct.transaction() as to:
            # why also if nobody vanished with this delivery: who began the one before may have died just before this.
            before = message.previous_owner or task_moves.UNKNOWN_WORKER
            task_moves.note_lost_delivery(to, start.task_id, start.attempt - 1, before, start.started_at)
            suspicion = suspicion_of(to, start.task_id)
            if suspicion is not None and suspicion.is_hopeless:
                poison = self._outcomes.failing(running, FailureReason.POISON, "WorkerLost", suspicion.words())
                task_moves.end(to, [poison])
                return Refused("its workers keep dying", Verdict.DEAD)
        running.suspicion = suspicion
        return running

    def _decide_refused(self, start: Start, message: Parcel) -> Started | Refused:
        """Why the row did not let an attempt begin, and what follows from it."""
        with direct.transaction() as to:
            row = task_moves.standing(to, [start.task_id]).get(start.task_id)
            if row is None:
                task_moves.accept(to, [self.adopt(message)])
        if row is None:
            return self.scribe.ask(start) or Refused("its row went away", Verdict.DEFER, _ASK_AGAIN_MS)
        if row.status is TaskStatus.RUNNING:
            return self._take_over(start, row, message.actor_name)
        if row.status is not TaskStatus.PENDING:
            return Refused("its task has ended")
        if row.is_cancel_requested:
            lost = message.previous_owner and LostDelivery(start.attempt - 1, message.previous_owner)
            with direct.transaction() as to:
                task_moves.cancel(
                    to, start.task_id, reason=row.reason or "as requested", now=start.started_at, lost=lost or None
                )
            return Refused("its task was cancelled")
        if row.attempt >= start.attempt:
            # Its delivery numbers began anew (the server lost its data): it goes back with the row's number.
            message.options[ATTEMPT] = row.attempt
            return Refused("attempts of it are on record that the bus has forgotten", Verdict.RETRY)
        if row.eta is not None:
            wait_ms = (row.eta - datetime.now(UTC)).total_seconds() * 1000
            return Refused(f"its retry is due at {row.eta}", Verdict.DEFER, max(1, round(wait_ms)))
        return Refused("its row is moving", Verdict.DEFER, _ASK_AGAIN_MS)

    def _take_over(self, start: Start, row: Standing, task_name: str) -> Started | Refused:
        """The row says that another attempt runs: if its worker is dead, that attempt is lost and this one begins."""
        assert row.worker_id is not None
        if row.worker_id == start.worker_id and row.attempt == start.attempt:
            return Started(row.retry_count, row.correlation_id)  # why: it was committed, and only the answer was lost.
        if self.presence.is_alive(row.worker_id):
            return Refused("a live worker runs it", Verdict.DEFER, _ASK_AGAIN_MS)
        why_failed = FailureReason.WORKER_LOST if self.fails_when_lost(task_name) else None
        with direct.transaction() as to:
            task_moves.lose(to, [Loss(start.task_id, row.attempt, row.worker_id, why_failed)], start.started_at)
        if why_failed is not None:
            return Refused("its worker was lost, and it must not run twice", Verdict.DEAD)
        return self.scribe.ask(start) or Refused("another worker was faster", Verdict.DEFER, _ASK_AGAIN_MS)

    def bear(self, parent: Parcel, child: Child) -> None:
        """Keep what a running attempt causes by its end: its row is written with the outcome, in one transaction."""
        self._children.setdefault(delivery_of(parent), []).append(child)

    def settle(self, settlement: Settlement) -> Settlement | None:
        """Take the bus's decision about a delivery, and write what it means for the row.

        Returns:
            What the bus is to do at once; None if that waits for the outcome to be committed.
        """
        delivery = (settlement.message_id, settlement.owner, settlement.fence, settlement.claim)
        refused = self._refused.pop(delivery, None)
        if refused is not None:
            return decided(settlement, refused.verdict, delay_ms=refused.delay_ms)
        running = self._running.pop(delivery, None)
        children = self._children.pop(delivery, [])
        if running is None:
            return settlement  # why: it never started, and was decided about by the bus alone.
        if not running.has_ended:
            _logger.error("attempt %d of task %s ended unrecorded", running.attempt, running.task_id)
            # Not RELEASE: its function has run, and a message that is given back is delivered under the same number.
            end, verdict = self._outcomes.cut_short(running)
        else:
            end, verdict = self._outcomes.decide(running, settlement)
            if (running.exception is None) is not (end.status is TaskStatus.COMPLETED):
                children = []  # why: it returned what cannot be stored. That is no success, and they are of a success.
        self.scribe.end(Ended(end, decided(settlement, verdict), running.message, children))
        return None

    def fail_undecodable(self, settlement: Settlement) -> Settlement:
        """A message cannot be decoded, and goes to the dead letters: its row, if one waits for it, fails first.

        Returns:
            What the bus is to do: with the database away it is put off instead, and comes again.
        """
        try:
            check_id(settlement.message_id)
            with direct.transaction() as to:
                task_moves.refuse(
                    to,
                    settlement.message_id,
                    reason=FailureReason.UNDECODABLE,
                    error_type="Undecodable",
                    error_message=(
                        f"expected a message that can be decoded, got one that is {settlement.reason}. It is in the "
                        f"dead letters of queue {settlement.queue_name!r}; retrying the task sends it anew from its row"
                    ),
                    now=datetime.now(UTC),
                )
        except InvalidTask:
            return settlement  # why: no row can have such an id.
        except DatabaseError as error:
            _logger.warning("message %s is put off until its row can be written: %s", settlement.message_id, error)
            return decided(settlement, Verdict.DEFER, delay_ms=_ASK_AGAIN_MS)
        except Exception:  # why: in the thread that fetches for all, and no row is known to wait for it.
            _logger.exception("the row of message %s, which cannot be decoded, stays", settlement.message_id[:100])
        return settlement

    def hand_back(self, message: Parcel, settlement: Settlement) -> None:
        """The process ends while this attempt runs: its row is pending again, its message goes back for the next."""
        running = self._running.get(delivery_of(message))
        if running is not None:
            end, verdict = self._outcomes.cut_short(running)
            self.scribe.end(Ended(end, decided(settlement, verdict), message))

    def runs_here(self, task_id: str) -> bool:
        """Whether an attempt of this task runs in this process."""
        return any(delivery[0] == task_id for delivery in list(self._running))

    def is_running(self, message: Parcel) -> bool:
        """Whether this delivery runs here."""
        return delivery_of(message) in self._running


def _key_of(task: NewTask) -> str:
    return task.idempotency_key or ""


def _no_row(*arguments: Any, **_options: Any) -> NewTask:
    message: Message[Any] = arguments[-1]
    raise LookupError(f"message {message.message_id} has no row, and nobody here can make one")
