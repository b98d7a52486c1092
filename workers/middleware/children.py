"""What a task causes by its end: the next of its pipeline, its callbacks, and those of its group. Each is sent once.

    pipeline, on_success, on_failure    their rows are written in the transaction of the parent's outcome, and their
                                        messages are sent before the bus is told that the parent has ended. If the
                                        parent's outcome is not committed, they do not exist
    completion callbacks of a group     written and sent when the ledger has counted the last member (task_groups)

A rerun of the parent cannot send a second child: the id of each is fixed by what causes it. The next of a pipeline has
the id that it got when the pipeline was made; a callback's is derived from the parent's id and its slot, a completion
callback's from the group's. on_failure is called for each attempt that fails, as in stock Dramatiq, so its slot carries
the number of retries.

What a crash leaves: between the last member's commit and the count, the group is complete and not marked; upkeep's
chore `groups` finds it. Between the count and the message: the row is there, reconcile finds that the message is not.

Stock Dramatiq counts members with a barrier in Redis, which counts a member that runs twice twice, expires after a
day, and dies with Redis's data. As there, a group whose member fails for good does not complete; here an explicit retry
of that member can still complete it.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn

import dramatiq
import msgspec
from dramatiq import Message
from dramatiq.broker import Broker, MessageProxy
from dramatiq.middleware import Callbacks as StockCallbacks
from dramatiq.middleware import GroupCallbacks as StockGroupCallbacks
from dramatiq.middleware import Pipelines as StockPipelines
from dramatiq.rate_limits import RateLimiterBackend

from models import direct, task_groups, task_moves
from models.database import DatabaseError
from models.task import TaskStatus, derived_task_id
from models.task_groups import CompleteGroup
from workers.broker import Parcel
from workers.errors import InvalidTask, LedgerUnavailable
from workers.ledger.attempt import ENVELOPE, ENVELOPE_VERSION
from workers.ledger.bus import LedgerBroker
from workers.ledger.flush import Child, Ended
from workers.ledger.ledger import Ledger
from workers.runner import correlation
from workers.runner.current import current_task

GROUP_ID: Final = "group_completion_uuid"
CALLBACKS: Final = "group_completion_callbacks"
"""Dramatiq's own message options of a group with completion callbacks."""
PAGE: Final = 1_000

_logger = logging.getLogger(__name__)


def _bear(broker: Broker, parent: MessageProxy, message: Message[Any], *, delay_ms: int | None = None) -> None:
    """Send a message with the parent's outcome."""
    if not isinstance(parent, Parcel) or not isinstance(broker, LedgerBroker):
        broker.enqueue(message, delay=delay_ms)
        return
    broker.ledger.bear(parent, _child(broker, message, delay_ms=delay_ms))


def _child(broker: LedgerBroker, message: Message[Any], *, delay_ms: int | None = None) -> Child:
    now = datetime.now(UTC)
    message = message.copy(queue_name=broker.get_actor(message.actor_name).queue_name)
    if delay_ms is not None:
        due = now + timedelta(milliseconds=delay_ms)
        message.options["eta"] = round(due.timestamp() * 1000)
    row = broker.ledger.row_of(broker, message, delay_ms=delay_ms, now=now, sent=broker.is_bus_up)
    message.options[ENVELOPE] = ENVELOPE_VERSION
    return Child(message, row)


class Pipelines(StockPipelines):
    """Dramatiq's pipelines, the next message written with the outcome of the one before."""

    def after_process_message(
        self, broker: Broker, message: MessageProxy, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        """Send the next, the result as its last argument unless it ignores it."""
        target = message.options.get("pipe_target")
        if exception is not None or message.failed or target is None:
            return
        following: Message[Any] = Message(**target)
        actor = broker.get_actor(message.actor_name)
        if not (following.options.get("pipe_ignore") or actor.options.get("pipe_ignore")):
            following = following.copy(args=(*following.args, result))
        _bear(broker, message, following, delay_ms=following.options.get("delay"))


class Callbacks(StockCallbacks):
    """Dramatiq's on_success and on_failure, under ids that are the same each time."""

    def after_process_message(
        self, broker: Broker, message: MessageProxy, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        """Send the callback: the parent's message, and its result or `{"type": …, "message": …}`."""
        slot = "on_success" if exception is None else "on_failure"
        target = message.options.get(slot) or broker.get_actor(message.actor_name).options.get(slot)
        if target is None:
            return
        outcome = result
        if exception is not None:
            outcome = {"type": type(exception).__name__, "message": str(exception)}
            slot = f"on_failure/{current_task().retry_count}"
        callback = broker.get_actor(target).message(message.asdict(), outcome)
        _bear(broker, message, callback.copy(message_id=derived_task_id(message.message_id, slot)))


class GroupCallbacks(StockGroupCallbacks):
    """Completion callbacks of groups, counted in the ledger. `group.run()` finds it by Dramatiq's class.

    Args:
        ledger: of this process.
    """

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(_Registrar())
        self._ledger = ledger

    def before_worker_boot(self, broker: Broker, _worker: Any) -> None:
        """From here on outcomes are counted."""
        assert isinstance(broker, LedgerBroker)
        self._ledger.scribe.on_written = lambda ends: self._count(broker, ends)

    after_process_message = dramatiq.Middleware.after_process_message
    """Nothing: a member counts when its outcome is committed."""

    @staticmethod
    def _count(broker: LedgerBroker, ends: Sequence[Ended]) -> None:
        group_ids = {
            ended.message.options[GROUP_ID]
            for ended in ends
            if GROUP_ID in ended.message.options and ended.end.status is TaskStatus.COMPLETED
        }
        if group_ids:
            try:
                complete_groups(broker, sorted(group_ids))
            except Exception:  # why: in the scribe's thread. The chore `groups` does it later.
                _logger.exception("groups that may be complete are left to upkeep")


def complete_groups(broker: LedgerBroker, group_ids: Sequence[str]) -> int:
    """Send the callbacks of those of these groups that are complete; returns how many groups were. Raises
    DatabaseError."""
    with direct.transaction() as to, to.atomic():
        complete = task_groups.complete(to, group_ids, datetime.now(UTC))
        children = [child for group in complete for child in _callbacks(broker, group)]
        task_moves.accept(to, [child.row for child in children])
    broker.publish_accepted([child.message for child in children])
    return len(complete)


class GroupChore:
    """Upkeep's chore `groups`: each call looks at the next PAGE open groups. Raises DatabaseError."""

    def __init__(self, broker: LedgerBroker) -> None:
        self._broker = broker
        self._after_id = ""

    def __call__(self) -> Mapping[str, int]:
        """Returns how many were complete."""
        with direct.transaction() as to:
            page = task_groups.open_groups(to, after_id=self._after_id, limit=PAGE)
        self._after_id = page[-1] if len(page) == PAGE else ""
        return {"completed": complete_groups(self._broker, page) if page else 0}


def _callbacks(broker: LedgerBroker, group: CompleteGroup) -> Iterable[Child]:
    for slot, callback in enumerate(group.options.get(CALLBACKS, ())):
        message: Message[Any] = Message(**callback)
        task_id = derived_task_id(group.group_id, f"completed/{slot}", created_at=group.created_at)
        message = message.copy(message_id=task_id)
        message.options.setdefault("correlation_id", group.correlation_id or group.group_id)
        try:
            child = _child(broker, message)
        except InvalidTask as error:  # why: raised on, it would be tried for ever.
            _logger.error("callback %d of group %s cannot be sent: %s", slot, group.group_id, error)
            continue
        yield Child(child.message, msgspec.structs.replace(child.row, parent_id=group.parent_id))


class _Registrar(RateLimiterBackend):
    """What `group.run()` takes for the store of its barriers: it remembers the group in the ledger."""

    def add(self, key: str, value: int, ttl: int) -> bool:
        """A group of that many members begins. Raises LedgerUnavailable; nothing was sent."""
        task = current_task()
        correlation_id = task.correlation_id or correlation.current()
        try:
            with direct.transaction() as to:
                return task_groups.begin(
                    to, key, value, parent_id=task.id, correlation_id=correlation_id, now=datetime.now(UTC)
                )
        except DatabaseError as error:
            raise LedgerUnavailable(f"the group was not sent: {error}") from error

    def incr(self, *_: Any) -> NoReturn:
        """Nobody counts here."""
        raise NotImplementedError("groups are counted in the ledger")

    decr = incr_and_sum = wait = wait_notify = incr
