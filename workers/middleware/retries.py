"""Retries: Dramatiq's policy (max_retries, back-off with jitter, retry_when, Retry), and permanent errors."""

from typing import Any

import dramatiq
from dramatiq.broker import Broker, MessageProxy

from workers.errors import Cancelled, PermanentError


class Retries(dramatiq.middleware.Retries):
    """Dramatiq's Retries, except that a PermanentError or Cancelled is never retried, whatever the actor's options."""

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Decide. A retry is not sent here: the broker records it and carries it out with the acknowledgement."""
        if isinstance(exception, (PermanentError, Cancelled)):
            message.fail()
            return
        super().after_process_message(broker, message, result=result, exception=exception)
