"""Retries: Dramatiq's policy (max_retries, back-off, retry_when, Retry), permanent errors, and jitter as an option."""

from typing import Any, cast

import dramatiq
from dramatiq.broker import Broker, MessageProxy
from dramatiq.common import compute_backoff
from dramatiq.middleware.retries import DEFAULT_MAX_BACKOFF

from workers.broker import Parcel
from workers.errors import Cancelled, ChildDied, PermanentError, Retry

AFTER_A_CRASH_MS = 1_000
"""How long a task waits whose own process died."""


class Retries(dramatiq.middleware.Retries):
    """Dramatiq's Retries, except that a PermanentError or Cancelled is never retried, whatever the actor's options."""

    @property
    def actor_options(self) -> set[str]:
        """Dramatiq's, and `jitter`."""
        return {*super().actor_options, "jitter"}

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Decide. A retry is not sent here: the broker records it and carries it out with the acknowledgement."""
        if exception is None:
            return
        if isinstance(exception, (PermanentError, Cancelled)):
            message.fail()
            return
        if isinstance(exception, ChildDied):
            # Not the policy's business: the ledger counts such deaths, and gives the task up as poison.
            broker.enqueue(cast("Any", message), delay=AFTER_A_CRASH_MS)
            return
        options = broker.get_actor(message.actor_name).options
        if not options.get("jitter", True) and not isinstance(exception, Retry):
            broker = cast("Broker", _Exact(broker, self._backoff_ms(message, options)))
        before = message.options.get("retries", 0)
        super().after_process_message(broker, message, result=result, exception=exception)
        # why: Dramatiq counts before it looks how many there may be, but after it has looked at `throws`.
        was_counted = message.options.get("retries", 0) > before
        if message.failed and not (was_counted and options.get("retry_when") is None):
            cast("Parcel", message).is_not_retryable = True

    def _backoff_ms(self, message: MessageProxy, options: dict[str, Any]) -> int:
        """The time until the next attempt, as Dramatiq computes it but for the jitter."""
        own: dict[str, Any] = {"min_backoff": self.min_backoff, "max_backoff": self.max_backoff}
        chosen = own | options | message.options
        return compute_backoff(
            message.options.get("retries", 0),
            factor=chosen["min_backoff"],
            max_backoff=min(chosen["max_backoff"], DEFAULT_MAX_BACKOFF),
            jitter=False,
        )[1]


class _Exact:
    """A broker to Dramatiq's policy, which has the exact delay instead of one by chance."""

    def __init__(self, broker: Broker, delay_ms: int) -> None:
        self._broker = broker
        self._delay_ms = delay_ms
        self.get_actor = broker.get_actor

    def enqueue(self, message: MessageProxy, *, delay: int | None = None) -> object:
        """Send again."""
        return self._broker.enqueue(cast("Any", message), delay=self._delay_ms)
